"""What is committed: clean notebooks, small files, one style, nothing of anyone's machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

import cdlib
from cdlib.params import CHAPTERS, parameters_cell

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LIBRARY = sorted((ROOT / "cdlib").rglob("*.py"))
PYTHON = [*LIBRARY, *sorted((ROOT / "tests").glob("*.py"))]
TEXTS = [
    path
    for pattern in (
        "*.md",
        "*.yml",
        "*.toml",
        "*.lock",
        "*.cff",
        "Makefile",
        ".ci/*",
        "book/**/*.md",
    )
    for path in ROOT.glob(pattern)
]
MACHINE_PATH = re.compile(
    r"(?<![\w.~/-])/(home|root|Users|work|tmp|mnt|opt|srv)/\w|[A-Z]:\\\\Users"
)
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_every_chapter_has_a_notebook_and_a_place_in_the_contents():
    assert [path.stem for path in NOTEBOOKS] == sorted(CHAPTERS)
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [contents["root"], *(entry["file"] for entry in contents["chapters"])]
    assert {f"notebooks/{name}" for name in CHAPTERS} <= set(listed)


@each_notebook
def test_notebook_is_committed_without_outputs(path):
    notebook = read(path)
    for cell in notebook.cells:
        assert not cell.get("outputs"), cell.source
        assert cell.get("execution_count") is None, cell.source
    assert notebook.metadata.kernelspec["language"] == "python"  # papermill asks for it
    assert "papermill" not in notebook.metadata and "widgets" not in notebook.metadata


@each_notebook
def test_notebook_declares_its_parameters_and_checks_them_at_once(path):
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and tagged[0] is code[0]
    assert code[0].source == parameters_cell(path.stem)
    assert f'cdlib.check_parameters(globals(), chapter="{path.stem}")' in code[1].source
    heavy = ("torch", "diffusers", "matplotlib", "pandas")
    assert not any(f"import {name}" in code[1].source for name in heavy)


@each_notebook
def test_notebook_cells_are_short(path):
    for cell in read(path).cells:
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
            assert len(cell.source.splitlines()) <= 30, cell.source


def test_no_two_chapters_have_a_figure_of_one_name():
    """Sphinx knows labels by their name alone."""
    labels = [
        label
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
        for cell in read(path).cells
        if cell.cell_type == "code"
        for label in re.findall(r'^\s+"(fig-[a-z0-9-]+)",$', cell.source, re.MULTILINE)
    ]
    assert len(labels) > 50
    assert len(labels) == len(set(labels)), {one for one in labels if labels.count(one) > 1}


def test_every_public_name_is_there_and_says_what_it_does():
    assert set(cdlib.__all__) <= set(dir(cdlib))
    for name in cdlib.__all__:
        assert getattr(cdlib, name).__doc__, name
    with pytest.raises(AttributeError, match="load_modle"):
        _ = cdlib.load_modle


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_library_files_are_small_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), "a module says in its first line what it is for"


def test_nothing_is_pickled():
    """A pickle runs code when it is read; data go as safetensors, JSON, PNG or parquet."""
    banned = {("torch", "load"), ("torch", "save"), ("pickle", "load"), ("pickle", "loads")}
    banned |= {("pickle", "dump"), ("pickle", "dumps"), ("joblib", "load"), ("joblib", "dump")}
    for path in LIBRARY:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in banned, f"{path}:{node.lineno}"
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert getattr(node.value, "value", True) is False, f"{path}:{node.lineno}"
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                module = getattr(node, "module", None) or ""
                imported = {module, *(alias.name for alias in node.names)}
                assert not imported & {"pickle", "dill", "cloudpickle"}, f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    "path", [*PYTHON, *NOTEBOOKS, *TEXTS], ids=lambda p: str(p.relative_to(ROOT))
)
def test_no_path_of_a_machine_is_written_down(path):
    found = MACHINE_PATH.search(path.read_text())
    assert not found, found.group()


def test_code_is_of_one_style():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["PRESTE=quick"], "PRESTE is not a variable"), (["boook"], "boook")],
)
def test_make_rejects_what_it_does_not_know(arguments, says):
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and says in done.stderr


def test_make_passes_the_choices_on():
    command = ["make", "--dry-run", "book", "PRESET=quick", "CONCEPT=dog", "SEED=1", "MODEL=pocket"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for choice in ("--preset 'quick'", "--concept 'dog'", "--seed '1'", "--model 'pocket'"):
        assert choice in said
