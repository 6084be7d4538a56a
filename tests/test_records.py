"""Records: made by the chapters, kept while they fit, called stale when they do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import git, write_chapter

from cdlib import book
from cdlib.book import BookError
from cdlib.params import PRESETS
from cdlib.records import (
    command,
    glue_records,
    load_record,
    load_records,
    making,
    reading,
    record_rows,
    recorded_hours,
    stale_records,
)
from cdlib.records.making import make_records
from cdlib.records.reading import (
    ABLATED,
    ABLATIONS,
    RECORDED,
    ROOT,
    concepts_of,
    record_path,
)
from cdlib.results import FIELDS, make_record
from cdlib.world import PAPER_CONCEPTS

CHAPTER = "04_removal"
MEASURED = {
    "m_refined.dog.iou": make_record(0.75, ci95=(0.7, 0.8), n=96, unit="fraction", paper=0.6),
    "removal.dog.psnr.m": make_record(14.25, unit="dB"),
    "m_refined.cat.iou": {**make_record(0.5, unit="fraction"), "source": "recorded"},
    "chapter.04.seconds": make_record(12.5, unit="s"),
    "chapter.04.peak_rss_mb": make_record(900, unit="MB"),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch) -> Path:
    """A repository with a chapter that does nothing, and weights that are none."""
    write_chapter(tmp_path / "notebooks", CHAPTER, [("code", "print('measured')")])
    weights = tmp_path / "weights"
    (weights / "unet").mkdir(parents=True)
    (weights / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    for name in ("unet/net.safetensors", "classifier.safetensors"):
        (weights / name).write_bytes(b"one")
    monkeypatch.setattr(reading.card, "WEIGHTS", weights)
    return tmp_path


@pytest.fixture
def ran(monkeypatch) -> list[tuple[str, str]]:
    """Chapters that would have been run."""
    calls: list[tuple[str, str]] = []

    def run_chapter(notebook: Path, executed: Path, given: dict, cwd: Path) -> dict:
        assert executed.is_dir() and given["preset"] == "book"
        calls.append((notebook.stem, given["concept"]))
        return {name.replace("dog", given["concept"]): record for name, record in MEASURED.items()}

    monkeypatch.setattr(making, "run_chapter", run_chapter)
    return calls


@pytest.fixture
def glued(monkeypatch) -> dict:
    """What was glued, numbers as dicts and texts as such."""
    said: dict = {}
    monkeypatch.setattr(reading, "glue", lambda name, value, **more: said.update({name: more}))
    monkeypatch.setattr(reading, "glue_text", lambda name, text: said.update({name: text}))
    return said


# ------------------------------------------------------------------- the records of this book


def test_no_record_is_stale():
    assert stale_records() == []


@pytest.mark.parametrize("chapter", RECORDED)
def test_records_are_of_all_concepts_or_of_none(chapter):
    asked = concepts_of(chapter)
    assert [c for c in PAPER_CONCEPTS if record_path(chapter, c).exists()] in ([], list(asked))


def test_there_are_no_records_but_these():
    known = {record_path(chapter, c) for chapter in RECORDED for c in concepts_of(chapter)}
    found = {path for path in (ROOT / "book" / "records").rglob("*") if path.is_file()}
    assert found <= known


@pytest.mark.parametrize("chapter", RECORDED)
def test_records_say_what_made_them(chapter):
    for concept in PAPER_CONCEPTS:
        path = record_path(chapter, concept)
        if not path.exists():
            continue
        said = json.loads(path.read_text())
        manifest = said["manifest"]
        assert manifest["command"].endswith(f"--chapter {chapter} --concept {concept}")
        assert manifest["commit"] and manifest["hardware"] and manifest["date"]
        assert manifest["seconds"] > 0 and manifest["made_of"]["settings"]["concept"] == concept
        for record in said["results"].values():
            assert tuple(sorted(record)) == tuple(sorted(FIELDS)) and record["source"] == "live"


# ------------------------------------------------------------------------------------- making


def test_a_record_holds_what_the_chapter_measured_itself(root, ran):
    (path,) = make_records([CHAPTER], ["dog"], root=root)
    assert path == root / "book" / "records" / CHAPTER / "dog.json"
    said = json.loads(path.read_text())
    assert set(said["results"]) == {"m_refined.dog.iou", "removal.dog.psnr.m"}
    assert said["results"]["m_refined.dog.iou"] == MEASURED["m_refined.dog.iou"]
    manifest = said["manifest"]
    assert manifest["command"] == f"python -m cdlib.records --chapter {CHAPTER} --concept dog"
    assert manifest["commit"] == "unknown" and manifest["seconds"] == 12.5
    assert manifest["made_of"]["settings"]["n_images"] == 96
    assert manifest["libraries"]["torch"]


def test_what_fits_is_kept_and_a_stopped_run_goes_on(root, ran, monkeypatch):
    make_records([CHAPTER], ["bird", "dog"], root=root)
    assert ran == [(CHAPTER, "bird"), (CHAPTER, "dog")]
    before = record_path(CHAPTER, "dog", root).read_text()
    written = make_records([CHAPTER], root=root)
    assert len(ran) == len(PAPER_CONCEPTS) == 2 + len(written)
    assert record_path(CHAPTER, "dog", root).read_text() == before
    assert make_records([CHAPTER], root=root) == [] and not stale_records(root)


def test_a_failing_chapter_leaves_what_was_recorded(root, ran, monkeypatch):
    make_records([CHAPTER], ["bird"], root=root)

    def fail(*_: object, **__: object) -> dict:
        raise BookError("chapter 04_removal stopped in cell [3]")

    monkeypatch.setattr(making, "run_chapter", fail)
    with pytest.raises(BookError, match="stopped in cell"):
        make_records([CHAPTER], root=root)
    assert record_path(CHAPTER, "bird", root).exists()
    assert not record_path(CHAPTER, "dog", root).exists()


def test_ablations_are_a_record_of_one_concept_made_by_the_chapter_that_has_them(root, monkeypatch):
    row, seconds = make_record(0.5, unit="fraction"), make_record(3.0, unit="s")
    found = MEASURED | {"ablation.bird.t0.5.m_pre.iou": row, "chapter.07.seconds": seconds}
    asked = []
    monkeypatch.setattr(
        making, "run_chapter", lambda path, _, given, cwd: asked.append((path.stem, given)) or found
    )
    write_chapter(root / "notebooks", "07_evaluation", [])
    (path,) = make_records([ABLATIONS], root=root)
    ((notebook, given),) = asked
    assert path == record_path(ABLATIONS, ABLATED, root) and notebook == "07_evaluation"
    assert given["concept"] == ABLATED and given["ablate"] == "live"
    assert set(json.loads(path.read_text())["results"]) == {"ablation.bird.t0.5.m_pre.iou"}
    make_records(["07_evaluation"], ["bird", "dog"], root=root)
    assert [given["ablate"] for _, given in asked] == ["live", "none", "none"]


@pytest.mark.parametrize("chapter", RECORDED)
def test_records_are_made_with_sizes_of_their_own(chapter):
    """More than a build takes; a chapter is given those that it knows, and no others."""
    given = reading.given_for(chapter, "bird")
    settings = reading._settings(chapter, "bird")
    sizes = reading.ABLATION_SIZES if chapter == ABLATIONS else reading.SIZES
    assert set(given) - {"preset", "concept", "ablate"} == set(sizes) & set(settings)
    assert given["preset"] == "book" and given["concept"] == "bird"
    assert ("ablate" in given) == (chapter in ("07_evaluation", ABLATIONS))
    for name in set(sizes) & set(settings):
        assert settings[name] == sizes[name]
    for name in set(sizes) & set(settings):
        assert settings[name] >= PRESETS["book"][name]


def test_a_chapters_records_are_all_made_for_a_concept_before_the_next(monkeypatch, root, ran):
    """What one chapter leaves in the store the next one finds, and a stopped run has whole ones."""
    monkeypatch.setattr(making, "make_record_of", lambda *one: ran.append(one[:2]))
    for chapter in RECORDED:
        write_chapter(root / "notebooks", reading.notebook_of(chapter), [])
    make_records(concepts=["bird", "dog"], root=root)
    assert ran == [(ch, c) for c in ("bird", "dog") for ch in RECORDED if c in concepts_of(ch)]


def test_hours_are_those_of_the_records_that_there_are(root, ran):
    make_records([CHAPTER], ["bird", "dog"], root=root)
    assert recorded_hours(root) == 2 * 12.5 / 3600


def test_hours_count_the_runs_whose_results_a_run_may_have_found(root, ran, tmp_path, monkeypatch):
    store = tmp_path / "artifacts"
    monkeypatch.setenv("CDLIB_STORE", str(store))
    make_records([CHAPTER], ["bird", "dog"], root=root)
    for number in (1, 2):  # into an empty store, and into one that holds something
        write_chapter(root / "notebooks", CHAPTER, [("code", f"print({number})")])
        make_records([CHAPTER], ["dog"], root=root)
        manifest = json.loads(record_path(CHAPTER, "dog", root).read_text())["manifest"]
        assert manifest["seconds"] == 12.5 and manifest["seconds_before"] == 12.5 * (number - 1)
        (store / "something").mkdir(parents=True, exist_ok=True)
    assert recorded_hours(root) == 3 * 12.5 / 3600


def test_a_changed_checkout_is_told(root, ran):
    git(root, "init", "-q")
    git(root, "add", "notebooks")
    git(root, "commit", "-qm", "Begin")
    head = git(root, "rev-parse", "HEAD").strip()
    assert making.commit_of(root) == head
    write_chapter(root / "notebooks", CHAPTER, [("code", "print('other')")])
    assert making.commit_of(root) == f"{head}+changes"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--chapter", "04_remova"], "'04_removal'"),
        (["--concept", "brid"], "'bird'"),
        (["--concept", "cat"], "bird, dog, car, person"),
        (["--chapter", ABLATIONS, "--concept", "dog"], "recorded of bird alone"),
    ],
)
def test_command_says_what_is_wrong(arguments, says, capsys, ran):
    assert command.main(arguments) == 2 and not ran
    assert says in capsys.readouterr().err


def test_command_counts(root, ran, capsys, monkeypatch):
    monkeypatch.setattr(command, "ROOT", root)
    monkeypatch.setattr(command, "RECORDED", (CHAPTER,))
    monkeypatch.setattr(command, "recorded_hours", lambda: 1.25)
    monkeypatch.setattr(make_records, "__kwdefaults__", {"root": root, "build": None})
    assert command.main(["--chapter", CHAPTER]) == 0
    assert command.main(["--concept", "dog"]) == 0
    told = capsys.readouterr().out
    assert "4 made, 0 kept; their runs took 1.2 hours" in told and "0 made, 1 kept" in told
    assert f"book/records/{CHAPTER}/dog.json" in told


def test_a_record_is_made_by_running_the_chapter(tmp_path):
    measure = 'cdlib.glue(f"m_refined.{p.concept}.iou", 0.75, unit="fraction", n=p.n_images)'
    write_chapter(tmp_path / "notebooks", CHAPTER, [("code", measure)])
    (path,) = make_records([CHAPTER], ["car"], root=tmp_path)
    said = json.loads(path.read_text())
    assert said["results"]["m_refined.car.iou"]["value"] == 0.75
    assert said["results"]["m_refined.car.iou"]["n"] == 96
    assert said["manifest"]["seconds"] > 0
    assert (tmp_path / "_build" / "records" / "car" / f"{CHAPTER}.ipynb").exists()


# ------------------------------------------------------------------------------------ reading


def spoil(part: str, root: Path, monkeypatch) -> None:
    """Change one of the things that a record depends on."""
    if part == "model":
        (root / "weights" / "unet" / "net.safetensors").write_bytes(b"other")
    elif part == "judge":
        (root / "weights" / "classifier.safetensors").write_bytes(b"other")
    elif part == "stages":
        monkeypatch.setattr(reading, "_code", lambda chapter: "other")
    elif part == "chapter":
        write_chapter(root / "notebooks", CHAPTER, [("code", "print('otherwise')")])
    else:
        monkeypatch.setitem(PRESETS["book"], "removal_steps", 3)


@pytest.mark.parametrize("part", reading.PARTS)
def test_what_matters_makes_a_record_stale(root, ran, monkeypatch, capsys, part):
    make_records([CHAPTER], root=root)
    assert stale_records(root) == []
    spoil(part, root, monkeypatch)
    lines = stale_records(root)
    assert len(lines) == len(PAPER_CONCEPTS)
    assert all(reading.PARTS[part] in line and "make records" in line for line in lines)
    rows = record_rows(load_records(CHAPTER, live="bird", root=root))
    assert all(row["state"] == f"stale: made with {reading.PARTS[part]}" for row in rows)
    ran.clear()
    make_records([CHAPTER], ["dog"], root=root)
    assert ran == [(CHAPTER, "dog")]


def test_figures_and_words_do_not_make_a_record_stale(root, ran, chapter: Callable):
    make_records([CHAPTER], root=root)
    write_chapter(
        root / "notebooks",
        CHAPTER,
        [("markdown", "New words."), ("code", "# a comment\nprint(  'measured')")],
    )
    notebook = root / "notebooks" / f"{CHAPTER}.ipynb"
    said = json.loads(notebook.read_text())
    shown = dict(said["cells"][-1], source="print('a figure')", metadata={"tags": ["hide-input"]})
    said["cells"].append({**shown, "id": "figure"})
    notebook.write_text(json.dumps(said))
    assert stale_records(root) == []


def test_the_build_says_what_is_stale(root, ran, monkeypatch, capsys):
    monkeypatch.setattr(book, "stale_gates", lambda: [])
    monkeypatch.setattr(book, "stale_records", lambda: ["the record of 04_removal is old"])
    monkeypatch.setattr(book, "build_book", lambda **_: root)
    assert book.main([]) == 0
    assert "stale: the record of 04_removal is old" in capsys.readouterr().err


def test_the_live_concept_is_never_a_recorded_one(root, ran):
    make_records([CHAPTER], root=root)
    for live in PAPER_CONCEPTS:
        found = load_records(CHAPTER, live=live, root=root)
        assert list(found) == [concept for concept in PAPER_CONCEPTS if concept != live]
        assert all(record.concept == concept for concept, record in found.items())
    assert list(load_records(CHAPTER, live="cat", root=root)) == list(PAPER_CONCEPTS)


def test_one_record_can_be_read_whichever_concept_is_live(root, ran):
    make_records([CHAPTER], ["bird"], root=root)
    assert load_record(CHAPTER, "bird", root=root).concept == "bird"
    assert load_record(CHAPTER, "dog", root=root) is None
    assert load_record(CHAPTER, "bird", model="./mine", root=root) is None


def test_another_model_has_no_records_of_its_own(root, ran):
    make_records([CHAPTER], root=root)
    found = load_records(CHAPTER, live="bird", model="./mine", root=root)
    assert found == {"dog": None, "car": None, "person": None}


def test_records_are_glued_as_such_and_absent_ones_say_so(root, ran, glued):
    make_records([CHAPTER], ["dog"], root=root)
    found = load_records(CHAPTER, live="bird", root=root)
    glue_records(found, "m_refined.{c}.iou", "removal.{c}.psnr.m")
    assert glued["m_refined.dog.iou"] == {
        "n": 96, "unit": "fraction", "paper": 0.6, "ci95": (0.7, 0.8), "source": "recorded"
    }  # fmt: skip
    assert glued["removal.dog.psnr.m"]["ci95"] is None
    for name in ("m_refined.car.iou", "m_refined.person.iou.ci95", "removal.car.psnr.m.n"):
        assert glued[name] == "not recorded"
    assert not any(".bird." in name for name in glued)
    with pytest.raises(ValueError, match="name = 'm_refined.dog.iou' is not allowed"):
        glue_records(found, "m_refined.dog.iou")


def test_rows_say_where_numbers_come_from(root, ran):
    make_records([CHAPTER], ["dog"], root=root)
    rows = {
        row["concept"]: row for row in record_rows(load_records(CHAPTER, live="bird", root=root))
    }
    assert rows["dog"]["state"] == "up to date" and rows["dog"]["seconds"] == "12"
    assert rows["dog"]["command"].startswith("python -m cdlib.records")
    assert rows["car"]["state"] == "not recorded: make records" and rows["car"]["date"] == ""


def test_a_chapter_without_records_is_named(root):
    with pytest.raises(ValueError, match="chapter='02_attention': allowed are"):
        load_records("02_attention", live="bird", root=root)
    with pytest.raises(BookError, match="no notebooks/05_synthetic.ipynb"):
        make_records(root=root)
    shutil.rmtree(root / "notebooks")
    with pytest.raises(BookError, match="no notebooks/04_removal.ipynb"):
        make_records(root=root)
