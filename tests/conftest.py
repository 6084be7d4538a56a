"""What several tests share: a miniature book and notebooks made on the spot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import nbformat
import pytest
from filelock import FileLock

from cdlib.params import parameters_cell

pytest.register_assert_rewrite("held")

ROOT = Path(__file__).resolve().parents[1]
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def git(root: Path, *words: str) -> str:
    """What git says to a command in a folder, under a name of its own for commits."""
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def write_chapter(folder: Path, name: str, cells: list[tuple[str, str]]) -> Path:
    """A notebook with the chapter's own parameters, its check, and `cells` of (kind, source)."""
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    parameters = make["code"](parameters_cell(name), metadata={"tags": ["parameters"]})
    check = make["code"](f'import cdlib\n\np = cdlib.check_parameters(globals(), chapter="{name}")')
    notebook = nbformat.v4.new_notebook(
        cells=[
            make["markdown"](f"# Chapter {name}"),
            parameters,
            check,
            *[make[kind](source) for kind, source in cells],
        ],
        metadata={"kernelspec": KERNEL},
    )
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


@pytest.fixture
def chapter(tmp_path: Path) -> Callable[..., Path]:
    """`chapter("02_attention", ("code", "x = 1"))` writes a notebook and gives its path."""
    return lambda name, *cells: write_chapter(tmp_path / "notebooks", name, list(cells))


@pytest.fixture(scope="session")
def small_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a book of three small chapters, with the real book's pages and settings."""
    root = tmp_path_factory.mktemp("book")
    shutil.copytree(ROOT / "book", root / "book")
    shutil.copy(ROOT / "_config.yml", root / "_config.yml")
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8").splitlines(keepends=True)
    longer = re.compile(r"notebooks/(?!0[012])")  # chapters that this book does not have
    kept = [line for line in contents if not longer.search(line)]
    (root / "_toc.yml").write_text("".join(kept), encoding="utf-8")
    glued = (
        'cdlib.glue("m_hat.bird.auc", 0.96, ci95=(0.95, 0.97), n=1200, unit="fraction", '
        "paper=0.971)"
    )
    drawn = (
        "import matplotlib.pyplot as plt\n\nfig, ax = plt.subplots()\nax.plot([1, 2])\n"
        'cdlib.show_figure(fig, "fig-line", caption="A *line*.", alt="A line that rises.")'
    )
    welcome = "cdlib.glue_again(cdlib.load_results('_build/results.json'))"
    says = "We have {glue:text}`m_hat.bird.auc`, see {numref}`fig-line`."
    counts = (
        "{glue:text}`m_hat.bird.auc` ({glue:text}`m_hat.bird.auc.ci95`, "
        "{glue:text}`m_hat.bird.auc.n` pixels) {cite}`dombrowski2023`.\n\n$$a = b$$ (eq-a)"
    )
    notebooks = root / "notebooks"
    write_chapter(notebooks, "00_welcome", [("code", welcome), ("markdown", says)])
    write_chapter(notebooks, "01_pocket_world", [("code", "print(p.n_scenes)")])
    write_chapter(
        notebooks, "02_attention", [("code", glued), ("code", drawn), ("markdown", counts)]
    )
    return root


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The build folder of the real book, its artifacts made afresh; one for all workers."""
    from cdlib.book import build_book

    own = tmp_path_factory.getbasetemp()
    build = (own if worker_id == "master" else own.parent) / "real"
    with FileLock(build.with_name("real.lock")):
        if not (build / "done").exists():
            with patch.dict(os.environ, CDLIB_STORE=str(build / "artifacts")):
                build_book(ROOT, build, given={"preset": "quick", "concept": "car"})
            (build / "done").touch()
    return build


@pytest.fixture
def closed_figures():
    """No figure stays open after a test that draws."""
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


@pytest.fixture(scope="session")
def clueless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of the shipped one's shape that knows nothing: its weights are random.

    A chapter has to hold for whatever its numbers turn out to be.
    """
    import torch

    from cdlib.pocket import nets
    from cdlib.pocket.vocabulary import build_tokenizer

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    words = build_tokenizer()
    parts = nets.build_vae(), nets.build_text_encoder(words), words, nets.build_unet()
    nets.assemble(*parts).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture
def one_thread():
    """Sums in one order, so that two runs can be compared bit by bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
