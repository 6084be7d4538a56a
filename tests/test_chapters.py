"""The book itself, built once in its quick preset for another concept than the default one."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import papermill
import pytest
from browser import visit_pages

from cdlib.book import find_chapters
from cdlib.results import load_results, titled_figures

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = [notebook.stem for notebook in find_chapters(ROOT)]
each_chapter = pytest.mark.parametrize("name", CHAPTERS)


def executed(built: Path, name: str) -> nbformat.NotebookNode:
    return nbformat.read(built / "chapters" / f"{name}.ipynb", as_version=4)


def words_of(page: str) -> str:
    """What a page says, its code left out."""
    text = re.sub(r"<(script|style|pre)\b.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"<[^>]+>", "", text)


@each_chapter
def test_chapter_runs_without_a_word_on_stderr(built, name):
    for number, cell in enumerate(executed(built, name).cells):
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", (number, output.text)
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), number


@each_chapter
def test_figures_are_described_and_referred_to_once(built, name):
    cells = executed(built, name).cells
    figures = [figure for cell in cells for figure in titled_figures(cell)]
    assert figures or any("show_explorer(" in cell.source for cell in cells)
    assert len({figure["name"] for figure in figures}) == len(figures)
    for figure in figures:
        assert len(figure["alt"].split()) >= 10, figure
        assert len(figure["caption"].split()) >= 5, figure


@each_chapter
def test_pages_leave_no_reference_open(built, name):
    page = (built / "html" / "notebooks" / f"{name}.html").read_text()
    text = words_of(page)
    for left_open in ("{glue", "{numref", "{eq}", "{cite", "{doc}", ":::"):
        assert left_open not in text, left_open


def test_the_pocket_chapter_hands_on_its_numbers(built):
    results = load_results(built / "results.json")
    recorded = {name for name, record in results.items() if record["source"] == "recorded"}
    assert recorded >= {
        "pocket.vae.psnr",
        "pocket.samples.object_accuracy",
        "pocket.samples.colour_accuracy",
    }
    for name in ("pocket.vae.psnr_live", "world.otsu.plain.iou", "world.changed_beside"):
        low, high = results[name]["ci95"]
        assert low <= results[name]["value"] <= high and results[name]["source"] == "live"
    # The live measurement has another concept and fewer scenes, but it is the same autoencoder.
    assert abs(results["pocket.vae.psnr_live"]["value"] - results["pocket.vae.psnr"]["value"]) < 3


def test_the_welcome_page_shows_this_build(built):
    results = load_results(built / "results.json")
    text = words_of((built / "html" / "notebooks" / "00_welcome.html").read_text())
    assert format(results["m_hat.car.auc"]["value"], ".3f") in text
    assert "world.otsu.plain.iou" in text and "“car”" in text


def test_pages_are_whole_in_a_browser_without_network(built):
    for visit in visit_pages(built / "html"):
        assert not visit["errors"], visit
        assert not visit["outside"], visit
        assert not visit["broken images"], visit


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"stpes": 20}, "'steps'|no parameter 'stpes'"),
        ({"concept": "brid"}, "'bird'"),
        ({"seed": 1.5}, "seed = 1.5"),
    ],
)
@each_chapter
def test_papermill_alone_is_refused_too(name, given, says, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match=says) as error:
        papermill.execute_notebook(
            ROOT / "notebooks" / f"{name}.ipynb",
            tmp_path / "out.ipynb",
            parameters=given,
            cwd=ROOT,
            kernel_name="python3",
            progress_bar=False,
        )
    assert error.value.ename == "ParameterError"
    assert error.value.exec_count <= 3
