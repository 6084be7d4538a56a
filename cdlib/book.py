"""Run the chapters and build the book from what they leave.

    python -m cdlib.book --preset quick --concept dog          # the whole book
    python -m cdlib.book --only 02                             # one chapter, no pages

Chapters are executed by papermill, in order, each in a kernel of its own; the welcome page (00)
goes last, because it shows the results of the others. Executed copies go to `_build/chapters`, the
glued numbers to `_build/results.json`, and jupyter-book makes `_build/html` from the copies with
execution off and warnings as errors. jupyter-book's own execution cache is not used: it does not
see a change in the library and would keep old numbers on a page.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import nbformat
import psutil
from nbformat import NotebookNode
from tqdm.auto import tqdm

from cdlib.explore.page import check_packages, lay_out
from cdlib.params import PRESETS, ParameterError, check_parameters
from cdlib.pocket.card import stale_records as stale_gates
from cdlib.records import stale_records
from cdlib.results import (
    gather_results,
    make_record,
    merge_results,
    titled_figures,
    write_results,
)

ROOT = Path(__file__).resolve().parents[1]
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class BookError(Exception):
    """The book could not be built; the message is all that a reader needs."""


def build_book(
    root: Path = ROOT,
    build: Path | None = None,
    *,
    only: str | None = None,
    given: Mapping[str, object] | None = None,
) -> Path:
    """Run the chapters under `root`/notebooks and build the pages; returns what was made.

    given: parameters for every chapter; what is left out takes the notebooks' defaults.
    only: the number or name of one chapter: it alone is run, and no pages are built.
    build: where everything goes, by default `root`/_build.
    Raises ParameterError, and FileNotFoundError where the explorers' packages are missing, before
    anything runs; BookError if a chapter or a page fails.
    """
    build = build or root / "_build"
    given = dict(given or {})
    notebooks = find_chapters(root, only)
    if only is None:
        check_packages(ROOT / "web")  # rather than after the last chapter
    for notebook in notebooks:
        check_parameters(given, chapter=notebook.stem)
    executed = build / "chapters"
    executed.mkdir(parents=True, exist_ok=True)
    if only is None:
        for old in executed.glob("*.ipynb"):
            old.unlink()
        shutil.rmtree(build / "explore", ignore_errors=True)
    results: dict[str, dict] = {}
    write_results(results, build / "results.json")
    bar = tqdm(notebooks, desc="book", unit="chapter", dynamic_ncols=True)
    for notebook in bar:
        bar.set_postfix_str(notebook.stem)
        merge_results(results, run_chapter(notebook, executed, given, cwd=root))
        write_results(results, build / "results.json")
    if only is not None:
        return executed / notebooks[0].name
    assemble(root, executed, build / "book_src")
    return render(build / "book_src", build / "html")


def find_chapters(root: Path, only: str | None = None) -> list[Path]:
    """The notebooks in the order in which they run: 01, 02, ..., and 00 last."""
    notebooks = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        raise BookError(f"there is no chapter (NN_name.ipynb) in {root / 'notebooks'}")
    notebooks.sort(key=lambda notebook: notebook.name.startswith("00"))
    if only is not None:
        names = ", ".join(notebook.stem for notebook in notebooks)
        notebooks = [one for one in notebooks if only in (one.stem, one.stem[:2])]
        if not notebooks:
            raise ParameterError(f"only = {only!r} is not a chapter: give one of {names}.")
    return notebooks


def run_chapter(notebook: Path, executed: Path, given: Mapping[str, object], cwd: Path) -> dict:
    """Execute one notebook into the folder `executed`; its results, seconds and memory included.

    A chapter that fails leaves its executed copy there, up to the cell that failed, and raises
    BookError with that cell's number, the error and the line it came from.
    """
    import papermill

    chapter, copy = notebook.stem, executed / notebook.name
    started = perf_counter()
    try:
        with PeakMemory() as memory, environment(CDLIB_RESULTS=executed.parent / "results.json"):
            papermill.execute_notebook(
                notebook,
                copy,
                parameters=dict(given),
                cwd=cwd,
                kernel_name="python3",
                progress_bar={"desc": chapter, "leave": False, "dynamic_ncols": True},
                # The kernel greets with a warning about its transport, which is local.
                extra_arguments=["--log-level=ERROR"],
                # Asked to end, Python takes seconds to take torch apart; all that lasts is on disk.
                shutdown_kernel="immediate",
            )
    except papermill.PapermillExecutionError as error:
        raise BookError(describe_failure(error, chapter, copy)) from None
    seconds = perf_counter() - started
    results = gather_results(nbformat.read(copy, as_version=4), chapter)
    number = chapter[:2]
    spent = {
        f"chapter.{number}.seconds": make_record(round(seconds, 1), unit="s", chapter=chapter),
        f"chapter.{number}.peak_rss_mb": make_record(
            round(memory.peak / 2**20), unit="MB", chapter=chapter
        ),
    }
    merge_results(results, spent)
    return results


@contextmanager
def environment(**names: object) -> Iterator[None]:
    """Environment variables for the processes that are started inside the `with` block."""
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(value) for name, value in names.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def describe_failure(error: object, chapter: str, copy: Path) -> str:
    """A failed cell in a few lines: where, what, and the last lines of its traceback."""
    lines = [_COLOUR.sub("", line) for part in error.traceback for line in part.splitlines()]
    tail = [line for line in lines if line.strip()][-12:-1]
    return "\n".join(
        [
            f"chapter {chapter} stopped in cell [{error.exec_count}]:",
            *(f"    {line}" for line in tail),
            f"  {error.ename}: {_COLOUR.sub('', error.evalue)}",
            f"The chapter as far as it came: {copy}",
        ]
    )


class PeakMemory:
    """The largest resident memory, in bytes, of the processes started inside the `with` block.

    A kernel is gone before its own accounts could be read, so it is looked at ten times a second.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._before = {child.pid for child in psutil.Process().children(recursive=True)}
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.1):
            total = 0
            for child in me.children(recursive=True):
                if child.pid not in self._before:
                    try:
                        total += child.memory_info().rss
                    except psutil.Error:  # it ended meanwhile
                        continue
            self.peak = max(self.peak, total)


def assemble(root: Path, executed: Path, source: Path) -> None:
    """Lay out the book's source: the pages and settings under `root`, and the executed chapters.

    Paths are those of the repository, so that links between pages hold in both places.
    """
    shutil.rmtree(source, ignore_errors=True)
    (source / "notebooks").mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, source / name)
    shutil.copytree(root / "book", source / "book")
    lay_out(ROOT / "web", executed.parent / "explore", source / "book/_static/explore")
    for copy in sorted(executed.glob("*.ipynb")):
        nbformat.write(
            prepare_page(nbformat.read(copy, as_version=4)), source / "notebooks" / copy.name
        )


def prepare_page(notebook: NotebookNode) -> NotebookNode:
    """An executed chapter as myst-nb wants it: figures titled, papermill's marks folded away."""
    notebook.metadata.pop("papermill", None)  # names files of this machine
    for number, cell in enumerate(notebook.cells):
        cell.metadata.pop("papermill", None)
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
        figures = titled_figures(cell)
        if len(figures) > 1:
            names = ", ".join(figure["name"] for figure in figures)
            raise BookError(f"cell {number} shows {names}: give each figure a cell of its own.")
        for figure in figures:
            # myst-nb takes a figure's title from its cell, and only from there.
            cell.metadata["mystnb"] = {
                "image": {"alt": figure["alt"]},
                "figure": {"name": figure["name"], "caption": figure["caption"]},
            }
    return notebook


def render(source: Path, html: Path) -> Path:
    """Build the pages with jupyter-book, warnings as errors; returns the first page."""
    aside, log = source.parent / "jupyter-book", source.parent / "jupyter-book.log"
    shutil.rmtree(aside, ignore_errors=True)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", source]
    command += ["--path-output", aside, "--warningiserror", "--keep-going"]
    with tqdm(total=1, desc="pages", unit="book", dynamic_ncols=True) as bar:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"},
        )
        bar.update()
    log.write_text(done.stdout, encoding="utf-8")
    if done.returncode != 0:
        plain = _COLOUR.sub("", done.stdout).splitlines()
        said = [line for line in plain if re.search(r"WARNING|ERROR", line)] or plain[-15:]
        raise BookError("\n".join(["the pages have errors:", *said[:40], f"All of it: {log}"]))
    shutil.rmtree(html, ignore_errors=True)
    shutil.move(aside / "_build" / "html", html)
    shutil.rmtree(aside)
    index = html / "index.html"
    # It only leads on to the first chapter, but a browser still asks it for title and icon.
    head = (
        '<!doctype html>\n<title>The book</title>\n<link rel="icon" href="_static/favicon.svg">\n'
    )
    index.write_text(head + index.read_text(encoding="utf-8"), encoding="utf-8")
    return index


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cdlib.book", description="Run the chapters and build the book."
    )
    parser.add_argument("--preset", help=f"how much to run: {', '.join(PRESETS)}")
    parser.add_argument("--concept", help="the object to look for, e.g. bird")
    parser.add_argument("--model", help="pocket, a diffusers folder or a hub id")
    parser.add_argument("--seed", help="where all randomness starts, a whole number")
    parser.add_argument("--device", help="where the model runs, e.g. cpu or cuda")
    parser.add_argument("--only", metavar="NN", help="run this chapter alone and build no pages")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command: 0 when the book was built, 2 for a wrong parameter, 1 for what broke."""
    arguments = vars(parse_arguments(argv))
    only = arguments.pop("only")
    given = {name: value for name, value in arguments.items() if value is not None}
    if "seed" in given:
        given["seed"] = _number_or_text(given["seed"])
    started = perf_counter()
    for reason in (*stale_gates(), *stale_records()):
        print(f"stale: {reason}", file=sys.stderr)
    try:
        made = build_book(only=only, given=given)
    except (ParameterError, BookError, FileNotFoundError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 2 if isinstance(error, ParameterError) else 1
    print(f"{made}  ({perf_counter() - started:.0f} s)")
    return 0


def _number_or_text(text: str) -> object:
    """A Python literal, as papermill reads it; other words stay words, for the check to name."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


if __name__ == "__main__":
    sys.exit(main())
