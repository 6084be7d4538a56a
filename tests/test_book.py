"""The book: chapters run in order, results gathered, pages built and sound in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from browser import visit_pages

from cdlib import book
from cdlib.book import BookError, PeakMemory, build_book, find_chapters
from cdlib.params import ParameterError
from cdlib.results import FIELDS, load_results


@pytest.fixture(scope="module")
def built(small_book):
    """The miniature book, built; its `_build` folder."""
    page = build_book(small_book, given={"preset": "quick", "seed": 3})
    assert page == small_book / "_build" / "html" / "index.html" and page.exists()
    return small_book / "_build"


def test_results_hold_glued_numbers_and_what_each_chapter_cost(built):
    results = load_results(built / "results.json")
    auc = results.pop("m_hat.bird.auc")
    assert auc == {
        "value": 0.96,
        "ci95": [0.95, 0.97],
        "n": 1200,
        "unit": "fraction",
        "chapter": "02_attention",
        "paper": 0.971,
        "source": "live",
    }
    costs = {
        f"chapter.{n}.{what}" for n in ("00", "01", "02") for what in ("seconds", "peak_rss_mb")
    }
    assert set(results) == costs
    assert all(tuple(sorted(record)) == tuple(sorted(FIELDS)) for record in results.values())
    assert all(record["value"] > 0 for record in results.values())


def test_executed_copies_carry_the_parameters_and_the_sources_stay_clean(built, small_book):
    for chapter in ("00_welcome", "01_pocket_world", "02_attention"):
        copy = nbformat.read(built / "chapters" / f"{chapter}.ipynb", as_version=4)
        assert any("seed = 3" in cell.source for cell in copy.cells)
        source = nbformat.read(small_book / "notebooks" / f"{chapter}.ipynb", as_version=4)
        assert not any(cell.get("outputs") for cell in source.cells)


def test_pages_show_numbers_figure_and_citation(built):
    page = (built / "html" / "notebooks" / "02_attention.html").read_text()
    text = re.sub(r"<[^>]+>", "", page)
    assert "0.960 (0.950 to 0.970, 1,200 pixels)" in text
    assert "Dombrowski" in text
    assert re.search(r'<figure[^>]*id="fig-line".*?alt="A line that rises."', page, re.DOTALL)
    assert re.search(r"<figcaption>.*?Fig\. 2\.1.*?A <em>line</em>", page, re.DOTALL)
    welcome = (built / "html" / "notebooks" / "00_welcome.html").read_text()
    assert "We have 0.960, see Fig. 2.1" in re.sub(r"<[^>]+>", "", welcome)


def test_pages_name_nothing_of_this_machine(built, small_book):
    for page in (built / "html").rglob("*.html"):
        assert str(small_book) not in page.read_text(), page
    for source in (built / "html" / "_sources").rglob("*"):
        assert source.is_dir() or str(small_book) not in source.read_text(), source


def test_pages_are_whole_in_a_browser_without_network(built):
    visits = visit_pages(built / "html")
    assert {visit["page"] for visit in visits} >= {"notebooks/02_attention.html", "index.html"}
    for visit in visits:
        assert not visit["errors"], visit
        assert not visit["outside"], visit
        assert not visit["broken images"], visit
    maths = [visit["maths"] for visit in visits if visit["page"].endswith("02_attention.html")]
    assert maths == [1]


def test_a_failing_chapter_stops_the_build_with_its_error(chapter, tmp_path, capsys):
    chapter(
        "01_pocket_world", ("code", "def sink():\n    raise OSError('the boat sank')\n\nsink()")
    )
    chapter("02_attention", ("code", "raise SystemError('not to be reached')"))
    with pytest.raises(BookError) as error:
        build_book(tmp_path)
    said = str(error.value)
    assert "01_pocket_world" in said and "OSError: the boat sank" in said and "cell [3]" in said
    assert len(said.splitlines()) < 20 and "\x1b" not in said
    copy = tmp_path / "_build" / "chapters" / "01_pocket_world.ipynb"
    assert str(copy) in said and "the boat sank" in copy.read_text()
    assert not (tmp_path / "_build" / "html").exists()


def test_wrong_parameters_stop_before_anything_runs(chapter, tmp_path):
    chapter("01_pocket_world")
    for given, says in (({"concept": "brid"}, "'bird'"), ({"stpes": 20}, "'steps'")):
        with pytest.raises(ParameterError, match=says):
            build_book(tmp_path, given=given)
    assert not (tmp_path / "_build").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--concept", "brid"], "'bird'"),
        (["--preset", "fast"], "quick, book, paper"),
        (["--seed", "1.5"], "seed = 1.5"),
        (["--only", "77"], "02_attention"),
    ],
)
def test_command_says_what_is_wrong(small_book, monkeypatch, capsys, arguments, says):
    monkeypatch.setattr(build_book, "__defaults__", (small_book, None))
    assert book.main(arguments) == 2
    assert says in capsys.readouterr().err


def test_one_chapter_alone(chapter, tmp_path):
    chapter("01_pocket_world", ("code", "raise SystemError('not asked for')"))
    chapter("02_attention", ("code", 'cdlib.glue("m_pre.car.iou", 0.5, unit="fraction")'))
    assert build_book(tmp_path, only="02") == tmp_path / "_build/chapters/02_attention.ipynb"
    assert "m_pre.car.iou" in json.loads((tmp_path / "_build/results.json").read_text())
    assert not (tmp_path / "_build" / "html").exists()


def test_a_warning_in_the_pages_is_an_error(small_book, tmp_path):
    root = tmp_path / "book"
    shutil.copytree(small_book, root, ignore=shutil.ignore_patterns("_build"))
    spoil = root / "book" / "references.md"
    spoil.write_text(spoil.read_text() + "\n\nSee {numref}`fig-nowhere`.\n")
    with pytest.raises(BookError, match="fig-nowhere"):
        build_book(root)


def test_two_figures_in_a_cell_are_named():
    shown = [{"metadata": {"cdlib": {"figure": {"name": n}}}} for n in ("fig-a", "fig-b")]
    cell = nbformat.from_dict({"cell_type": "code", "metadata": {}, "outputs": shown})
    with pytest.raises(BookError, match="fig-a, fig-b"):
        book.prepare_page(nbformat.from_dict({"metadata": {}, "cells": [cell]}))


def test_welcome_runs_last(small_book):
    names = [notebook.stem for notebook in find_chapters(small_book)]
    assert names == ["01_pocket_world", "02_attention", "00_welcome"]


def test_a_folder_without_chapters_is_named(tmp_path):
    with pytest.raises(BookError, match="no chapter"):
        build_book(tmp_path)


def test_peak_memory_sees_a_child():
    code = "import time; block = bytearray(80 * 2**20); time.sleep(0.6)"
    with PeakMemory() as memory:
        subprocess.run([sys.executable, "-c", code], check=True)
    assert 80 * 2**20 < memory.peak < 400 * 2**20
