"""Records kept although code has changed, where the change leaves every number what it was.

A record takes hours, and most changes of code are meant to change no number. Then the chapter is
run twice at the quick preset's sizes: by the code that made the record, taken from its commit, and
by today's. If all numbers of both are equal to the last digit, the record counts as made by today's
code, and says by which commit that was confirmed, with how many numbers. One concept's run speaks
for all records of the chapter that the same code made: the code does not know concepts apart.

    python -m cdlib.records --confirm
    python -m cdlib.records --confirm -p precision bf16     # what the record's machine has taken

What such a run cannot tell is never confirmed: another model or judge, or another value of a
setting that the record was made with.
"""

from __future__ import annotations

import datetime
import inspect
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cdlib.book import BookError
from cdlib.params import chapter_parameters, preset_numbers
from cdlib.records.making import commit_of, due, named, write_record
from cdlib.records.reading import (
    RECORDED,
    ROOT,
    SIZES,
    Record,
    given_for,
    made_of,
    notebook_of,
    read_record,
    record_path,
    recorded_of,
)
from cdlib.world import PAPER_CONCEPTS

PRESET = "quick"
CODE_PARTS = ("stages", "chapter")  # of `made_of`: what a run of both can tell
COMPARED = ("value", "ci95", "n")  # of a number


def confirm_records(
    chapters: Iterable[str] = RECORDED,
    concepts: Iterable[str] = PAPER_CONCEPTS,
    given: Mapping[str, object] | None = None,
    *,
    root: Path = ROOT,
) -> list[Path]:
    """Confirm what is stale of these records; gives the files that were written.

    given: parameters for both runs, in place of the quick preset's numbers or beside them; what a
        chapter does not have, now or then, is left out.

    Raises ValueError for a chapter or concept that is not recorded, and BookError, with the record
    as it was, where numbers differ, where this cannot be told, and where either commit is unknown.
    """
    wanted = named(chapters, concepts)
    there = [one for one in wanted if record_path(*one, root).exists() and due(*one, root)]
    with ExitStack() as open_trees:  # one for each commit, so that its chapters share a store
        tree_of = lru_cache(lambda commit: open_trees.enter_context(checked_out(commit, root)))
        return [_confirm(*one, dict(given or {}), root, tree_of) for one in there]


def _confirm(
    chapter: str, concept: str, given: dict, root: Path, tree_of: Callable[[str], Path]
) -> Path:
    record = read_record(chapter, concept, root)
    then, now = record.manifest["made_of"], made_of(chapter, concept, root)
    before, today = last_commit(record.manifest), commit_of(root)
    name = f"the record of {chapter} for {concept!r}"
    if changed := beyond_confirming(then, now):
        raise BookError(f"{name}: {', '.join(changed)} changed since; make records")
    if note := _witness(chapter, then, now, root):
        return _write(record, note, now, root)
    for commit in (before, today):
        if not commit.isalnum() or commit == "unknown":
            raise BookError(f"{name}: there is no commit to run, only {commit!r}; commit first")
    asked = {k: v for k, v in given_for(chapter, concept).items() if k not in SIZES}
    asked = sizes_of(notebook_of(chapter)) | asked | {"preset": PRESET} | given
    first = run_in(tree_of(before), chapter, asked)
    if first["made_of"] != then:
        raise BookError(f"{name}: was not made by the code of its commit {before}; make records")
    second = run_in(root, chapter, asked)
    if second["made_of"] != now:
        raise BookError(f"{name}: the code has changed while it ran; confirm again")
    numbers, others = (_numbers(chapter, one["results"]) for one in (first, second))
    if differ := [key for key in numbers | others if numbers.get(key) != others.get(key)]:
        shown = "\n".join(f"  {k}: {numbers.get(k)} then, {others.get(k)} now" for k in differ[:5])
        raise BookError(f"{name}: {len(differ)} numbers of {len(numbers)} differ:\n{shown}")
    note = {
        "commit": today,
        "against": before,
        "was": {part: then[part] for part in CODE_PARTS},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "given": asked,
        "numbers": len(numbers),
    }
    return _write(record, note, now, root)


def _witness(chapter: str, then: Mapping, now: Mapping, root: Path) -> dict | None:
    """What another concept's record says of the same change of code, if it has been confirmed."""
    for concept in PAPER_CONCEPTS:
        other = read_record(chapter, concept, root)
        notes = other.manifest.get("confirmed", []) if other else []
        if notes and all(
            notes[-1]["was"][part] == then[part] and other.manifest["made_of"][part] == now[part]
            for part in CODE_PARTS
        ):
            return notes[-1]
    return None


def _write(record: Record, note: dict, now: dict, root: Path) -> Path:
    confirmed = [*record.manifest.get("confirmed", []), note]
    manifest = record.manifest | {"made_of": now, "confirmed": confirmed}
    path = record_path(record.chapter, record.concept, root)
    return write_record(path, manifest, record.results)


def sizes_of(chapter: str) -> dict[str, object]:
    """The quick preset's numbers, to be given to both runs: the preset may have changed, too."""
    known = {parameter.name for parameter in chapter_parameters(chapter) if parameter.preset}
    return {k: v for k, v in preset_numbers(PRESET, chapter).items() if k in known}


def last_commit(manifest: Mapping) -> str:
    """The commit whose code is known to give a record's numbers: the last that was confirmed."""
    confirmed = manifest.get("confirmed", [])
    return confirmed[-1]["commit"] if confirmed else manifest["commit"]


def beyond_confirming(then: Mapping, now: Mapping) -> list[str]:
    """What differs of two `made_of` that no small run can tell: new settings are none of it."""
    parts = [part for part in ("model", "judge") if then[part] != now[part]]
    settings = then["settings"].items()
    return parts + [key for key, value in settings if now["settings"].get(key) != value]


@contextmanager
def checked_out(commit: str, root: Path) -> Iterator[Path]:
    """The repository's files as of a commit, in a folder that goes when the block ends."""
    with TemporaryDirectory(prefix="records-") as folder:
        packed = Path(folder) / "tree.tar"
        command = ["git", "archive", "--output", str(packed), commit]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BookError(f"commit {commit} is not to be had: {done.stderr.strip()}")
        tree = Path(folder) / "tree"
        with tarfile.open(packed) as files:
            files.extractall(tree, filter="data")
        yield tree


def run_in(tree: Path, chapter: str, given: Mapping[str, object]) -> dict:
    """A chapter run by the code of a tree: "results", and what they are "made_of" there."""
    with TemporaryDirectory(prefix="confirm-") as folder:
        answer = Path(folder) / "answer.json"
        asked = (chapter, notebook_of(chapter), dict(given), str(answer))
        program = f"{inspect.getsource(measure)}\nmeasure(*{asked!r})"
        paths = os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": paths},
            check=False,
        )
        if done.returncode or not answer.exists():
            raise BookError(f"{chapter} could not be run with {dict(given)} by the code in {tree}")
        return json.loads(answer.read_text(encoding="utf-8"))


def measure(chapter: str, notebook: str, given: dict, answer: str) -> None:
    """Run a chapter of the tree that is the working directory; its source is run there.

    Where that tree does not know the record by its name it is the notebook's own.
    """
    import json
    from pathlib import Path

    from cdlib.book import run_chapter
    from cdlib.params import chapter_parameters
    from cdlib.records.reading import RECORDED, made_of

    tree, answer = Path.cwd(), Path(answer)
    known = {parameter.name for parameter in chapter_parameters(notebook)}
    given = {name: value for name, value in given.items() if name in known}
    executed = answer.parent / "executed"
    executed.mkdir()
    found = run_chapter(tree / "notebooks" / f"{notebook}.ipynb", executed, given, cwd=tree)
    parts = made_of(chapter if chapter in RECORDED else notebook, given["concept"], tree)
    answer.write_text(json.dumps({"made_of": parts, "results": found}), encoding="utf-8")


def _numbers(chapter: str, found: Mapping[str, dict]) -> dict[str, list]:
    """What is compared of a run's results: all that a record keeps of them."""
    kept = recorded_of(chapter, found).items()
    return {name: [one[key] for key in COMPARED] for name, one in kept}
