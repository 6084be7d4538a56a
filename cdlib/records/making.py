"""Records made: the chapters run for each concept, their numbers written down with what made them.

A record that fits today's code and model is kept, so a run that was stopped goes on where it was;
what a chapter had already made is in the store, and a fine-tuning goes on from its checkpoint.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from cdlib.book import BookError, run_chapter
from cdlib.checks import one_of
from cdlib.files import written_whole
from cdlib.records.reading import (
    RECORDED,
    ROOT,
    Record,
    concepts_of,
    given_for,
    made_of,
    notebook_of,
    read_record,
    record_path,
    recorded_of,
    seconds_in_all,
)
from cdlib.store import Store
from cdlib.world import PAPER_CONCEPTS

LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "scikit-learn")


def make_records(
    chapters: Iterable[str] = RECORDED,
    concepts: Iterable[str] = PAPER_CONCEPTS,
    *,
    root: Path = ROOT,
    build: Path | None = None,
) -> list[Path]:
    """Make what is missing or stale of these records; gives the files that were written.

    Raises ValueError for a chapter or concept that is not recorded, BookError if a chapter fails.
    """
    wanted = named(chapters, concepts)
    needed = dict.fromkeys(notebook_of(chapter) for chapter, _ in wanted)
    if absent := [name for name in needed if not (root / "notebooks" / f"{name}.ipynb").exists()]:
        raise BookError(f"there is no notebooks/{absent[0]}.ipynb to record")
    missing = [one for one in wanted if due(*one, root)]
    bar = tqdm(missing, desc="records", unit="record", dynamic_ncols=True)
    written = []
    for chapter, concept in bar:
        bar.set_postfix_str(f"{chapter} {concept}")
        written.append(make_record_of(chapter, concept, root, build or root / "_build"))
    return written


def named(chapters: Iterable[str], concepts: Iterable[str]) -> list[tuple[str, str]]:
    """All of these records, (chapter, concept), concept by concept.

    Raises ValueError for a wrong name, and where a chapter is not recorded of any of the concepts.
    """
    chapters = [one_of("chapter", chapter, RECORDED) for chapter in chapters]
    concepts = [one_of("concept", concept, PAPER_CONCEPTS) for concept in concepts]
    pairs = [(chapter, concept) for concept in concepts for chapter in chapters]
    found = [(chapter, concept) for chapter, concept in pairs if concept in concepts_of(chapter)]
    if pairs and not found:
        allowed = ", ".join(concepts_of(chapters[0]))
        raise ValueError(f"concept={concepts[0]!r}: {chapters[0]} is recorded of {allowed} alone.")
    return found


def make_record_of(chapter: str, concept: str, root: Path, build: Path) -> Path:
    """Run a chapter for a concept and write its record; gives the file."""
    given = given_for(chapter, concept)
    # Looked at before the run: code that changes while it runs must make the record stale.
    parts = made_of(chapter, concept, root)
    commit = commit_of(root)
    before = seconds_before(read_record(chapter, concept, root), Store().root)
    executed = build / "records" / concept
    executed.mkdir(parents=True, exist_ok=True)
    notebook = root / "notebooks" / f"{notebook_of(chapter)}.ipynb"
    found = run_chapter(notebook, executed, given, cwd=root)
    manifest = {
        "command": f"python -m cdlib.records --chapter {chapter} --concept {concept}",
        "commit": commit,
        "hardware": _hardware(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": found[f"chapter.{chapter[:2]}.seconds"]["value"],
        "seconds_before": before,
        "libraries": {name: version(name) for name in LIBRARIES},
        "made_of": parts,
    }
    return write_record(record_path(chapter, concept, root), manifest, recorded_of(chapter, found))


def seconds_before(replaced: Record | None, store: Path) -> float:
    """How long the runs took whose results a new run may find in the store: those that made the
    record it replaces. None may be found where the store is empty.
    """
    if replaced is None or not store.is_dir() or not any(store.iterdir()):
        return 0.0
    return seconds_in_all(replaced.manifest)


def write_record(path: Path, manifest: dict, results: dict) -> Path:
    """Write a record whole or not at all; gives the file."""
    text = json.dumps({"manifest": manifest, "results": results}, indent=1, allow_nan=False)
    with written_whole(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")
    return path


def due(chapter: str, concept: str, root: Path) -> bool:
    """Is the record missing or stale?"""
    record = read_record(chapter, concept, root)
    return record is None or bool(record.stale)


def commit_of(root: Path) -> str:
    """The commit that is checked out, with "+changes" if the code is not as committed."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=root, check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "cdlib", "notebooks")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # a copy without its history


def _hardware() -> str:
    """The machine in a few words, and the accelerator that device="auto" takes."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    accelerator = "cpu"
    if torch.cuda.is_available():
        accelerator = torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        accelerator = "mps"
    return f"{platform.machine()}, {cores} cores, {accelerator}"
