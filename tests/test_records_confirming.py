"""Records confirmed: kept under other code if, and only if, it gives the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import git, write_chapter

from cdlib.book import BookError
from cdlib.params import PRESETS
from cdlib.records import command, confirming, reading, record_rows, stale_records
from cdlib.records.confirming import confirm_records
from cdlib.records.making import make_records
from cdlib.records.reading import ABLATIONS, load_records, read_record, record_path

CHAPTER = "04_removal"
NUMBER = "cdlib.glue('m_refined.car.iou', {}, unit='fraction', n=p.n_images)"
SECONDS = "import time; cdlib.glue('chapter.04.waited', time.perf_counter(), unit='s')"


def rewrite(root: Path, source: str, chapter: str = CHAPTER) -> str:
    """A chapter of other code, committed; gives the commit."""
    write_chapter(root / "notebooks", chapter, [("code", source), ("code", SECONDS)])
    git(root, "add", "notebooks")
    git(root, "commit", "-qm", "Change the chapter")
    return git(root, "rev-parse", "HEAD").strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a chapter and its record for a car, which is then written otherwise."""
    git(tmp_path, "init", "-q")
    rewrite(tmp_path, NUMBER.format("0.25 + 0.5"))
    make_records([CHAPTER], ["car"], root=tmp_path)
    return tmp_path


def content(root: Path) -> dict:
    return json.loads(record_path(CHAPTER, "car", root).read_text())


def test_code_of_the_same_numbers_is_confirmed(root):
    before = content(root)
    assert confirm_records([CHAPTER], root=root) == []  # it fits: nothing is run
    then, now = before["manifest"]["commit"], rewrite(root, NUMBER.format("3 / 4"))
    assert len(stale_records(root)) == 1
    (path,) = confirm_records([CHAPTER], ["car", "dog"], {"seed": 0}, root=root)
    after = content(root)
    assert path == record_path(CHAPTER, "car", root) and stale_records(root) == []
    assert after["results"] == before["results"]
    (said,) = after["manifest"]["confirmed"]
    assert said["commit"] == now and said["against"] == then and said["numbers"] == 1
    assert said["given"]["preset"] == "quick" and said["given"]["concept"] == "car"
    assert said["given"]["n_images"] == PRESETS["quick"]["n_images"]
    assert {**after["manifest"], "made_of": 0, "confirmed": 0} == {
        **before["manifest"], "made_of": 0, "confirmed": 0
    }  # fmt: skip
    (row,) = [
        r
        for r in record_rows(load_records(CHAPTER, live="bird", root=root))
        if r["concept"] == "car"
    ]
    assert row["commit"] == then[:10] and row["state"] == f"confirmed at {now[:10]}"
    # what was confirmed is what the next change is held against
    again = rewrite(root, NUMBER.format("1.5 / 2"))
    confirm_records([CHAPTER], root=root)
    assert [one["against"] for one in content(root)["manifest"]["confirmed"]] == [then, now]
    assert content(root)["manifest"]["confirmed"][1]["commit"] == again


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (NUMBER.format("0.75 + 1e-12"), "1 numbers of 1 differ:\n  m_refined.car.iou: .0.75"),
        (NUMBER.format("0.75") + "\n" + NUMBER.replace("iou", "acc").format("1.0"), "acc: None"),
        ("pass", r"m_refined.car.iou: .0.75, None, 8. then, None now"),
        (NUMBER.format("0.75").replace("n=p.n_images", "n=9"), "9. now"),
        ("raise ValueError", "04_removal could not be run"),
    ],
)
def test_code_of_other_numbers_is_not(root, source, says):
    before = content(root)
    rewrite(root, source)
    with pytest.raises(BookError, match=says):
        confirm_records([CHAPTER], root=root)
    assert content(root) == before


def test_ablations_are_confirmed_by_their_own_numbers(root):
    """Whatever else their chapter has come to measure since, also before they had a record."""
    chapter, row = "07_evaluation", "cdlib.glue('ablation.bird.t0.5.m_pre.iou', {}, n=p.n_images)"
    first = rewrite(root, row.format("0.25 + 0.5"), chapter)
    make_records([ABLATIONS], root=root)
    more = "cdlib.glue('unet_d_s.bird.iou', 0.5, n=p.n_images)"
    rewrite(root, f"{row.format('3 / 4')}\n{more}", chapter)
    (path,) = confirm_records([ABLATIONS], root=root)
    said = json.loads(path.read_text())
    (note,) = said["manifest"]["confirmed"]
    assert note["against"] == first and note["numbers"] == 1
    assert set(said["results"]) == {"ablation.bird.t0.5.m_pre.iou"}
    rewrite(root, row.format("0.7"), chapter)
    with pytest.raises(BookError, match="1 numbers of 1 differ"):
        confirm_records([ABLATIONS], root=root)


def test_it_takes_two_commits(root):
    before = content(root)
    write_chapter(root / "notebooks", CHAPTER, [("code", NUMBER.format("3 / 4"))])
    with pytest.raises(BookError, match="changes.*commit first"):
        confirm_records([CHAPTER], root=root)
    git(root, "commit", "-qam", "Change the chapter")
    spoiled = content(root)
    spoiled["manifest"]["commit"] = "0" * 40
    record_path(CHAPTER, "car", root).write_text(json.dumps(spoiled))
    with pytest.raises(BookError, match="commit 0000000000.* is not to be had"):
        confirm_records([CHAPTER], root=root)
    # a commit that did not make the record is no witness
    spoiled["manifest"] = before["manifest"] | {"commit": git(root, "rev-parse", "HEAD").strip()}
    record_path(CHAPTER, "car", root).write_text(json.dumps(spoiled))
    with pytest.raises(BookError, match="was not made by the code of its commit"):
        confirm_records([CHAPTER], root=root)


def test_a_setting_of_another_value_is_never_confirmed_and_a_new_one_may_be(root, monkeypatch):
    made_of = read_record(CHAPTER, "car", root).manifest["made_of"]
    now = {**made_of, "settings": {**made_of["settings"], "precision": "bf16", "new": 1}}
    assert confirming.beyond_confirming(made_of, now) == ["precision"]
    assert confirming.beyond_confirming(made_of, {**made_of, "stages": "other"}) == []
    assert confirming.beyond_confirming(made_of, {**made_of, "judge": "other"}) == ["judge"]
    monkeypatch.setitem(PRESETS["book"], "removal_steps", 3)
    with pytest.raises(BookError, match="removal_steps changed since; make records"):
        confirm_records([CHAPTER], root=root)


def test_the_command(root, monkeypatch, capsys):
    asked = {}

    def confirm(chapters, concepts, given):
        asked.update(chapters=chapters, concepts=concepts, given=given)
        return [reading.ROOT / "book" / "records" / CHAPTER / "car.json"]

    monkeypatch.setattr(command, "confirm_records", confirm)
    words = ["--confirm", "--chapter", CHAPTER, "--concept", "car", "-p", "precision", "bf16"]
    words += ["-p", "n_images", "3"]
    assert command.main(words) == 0
    assert asked == {
        "chapters": (CHAPTER,),
        "concepts": ("car",),
        "given": {"precision": "bf16", "n_images": 3},
    }
    assert "1 confirmed, 0 kept" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command.main(["-p", "precision", "bf16"])
    assert "-p goes with --confirm" in capsys.readouterr().err
