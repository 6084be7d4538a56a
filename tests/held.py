"""What every chapter has to hold when it is run with odd parameters and a model that knows nothing.

    class TestChapter(ChapterHolds):
        name, figures = "03_finetuning", 8

in a module with a fixture `executed` that gives the `Run` of `run_oddly`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import nbformat
import papermill
import pytest

from cdlib.results import titled_figures

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


class Run(NamedTuple):
    """The parameters of a chapter's run, the executed notebook, and where its artifacts lie."""

    given: dict
    notebook: nbformat.NotebookNode
    store: Path


def run_oddly(name: str, model: Path, folder: Path, odd: Mapping[str, object]) -> Run:
    """Run a chapter in `folder` with the model there and odd parameters."""
    given = {"preset": "quick", "model": str(model), "device": "cpu", **odd}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CDLIB_STORE", str(folder / "store"))
        source, out = NOTEBOOKS / f"{name}.ipynb", folder / "out.ipynb"
        papermill.execute_notebook(source, out, given, progress_bar=False)
    return Run(given, nbformat.read(out, as_version=4), folder / "store")


def outputs(notebook: nbformat.NotebookNode) -> list:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


class ChapterHolds:
    """Tests for a subclass that says which chapter, and how many figures it has."""

    name: str
    figures: int
    typed = frozenset()  # numbers that its prose may have without glue

    def test_chapter_says_nothing_on_stderr(self, executed):
        said = [o.text for o in outputs(executed.notebook) if o.get("name") == "stderr"]
        assert not said

    def test_every_number_in_the_prose_is_glued(self, executed):
        said = [o.get("metadata", {}).get("scrapbook", {}) for o in outputs(executed.notebook)]
        glued = {one["name"] for one in said if one}
        cells = executed.notebook.cells
        prose = "\n".join(c.source for c in cells if c.cell_type == "markdown")
        asked = set(re.findall(r"\{glue:text\}`([^`]+)`", prose))
        assert asked and asked <= glued, asked - glued

    def test_nothing_is_glued_twice(self, executed):
        said = [o.get("metadata", {}).get("scrapbook", {}) for o in outputs(executed.notebook)]
        names = [one["name"] for one in said if one]
        assert len(names) == len(set(names)), {n for n in names if names.count(n) > 1}

    def test_figures_are_numbered_captioned_and_described(self, executed):
        cells = executed.notebook.cells
        figures = [f for cell in cells for f in titled_figures(cell)]
        assert len(figures) == len({f["name"] for f in figures}) == self.figures
        prose = "\n".join(c.source for c in cells)
        for name in re.findall(r"\{numref\}`(fig-[a-z0-9-]+)`", prose):
            assert name in {f["name"] for f in figures}
        assert all(len(f["alt"]) > 30 and len(f["caption"]) > 60 for f in figures)

    def test_prose_types_no_results(self):
        """Those with a decimal point come from the run, or from the library's table."""
        notebook = nbformat.read(NOTEBOOKS / f"{self.name}.ipynb", as_version=4)
        prose = [c.source for c in notebook.cells if c.cell_type == "markdown"]
        bare = [re.sub(r"`[^`]*`", "", text) for text in prose]
        typed = [m for text in bare for m in re.findall(r"\d+\.\d+", text)]
        assert set(typed) <= self.typed, typed
