"""Records as they lie in the repository: read, held against today's code, handed to the prose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nbformat

from cdlib.checks import one_of
from cdlib.params import CHAPTERS, chapter_parameters, check_parameters
from cdlib.pocket import card
from cdlib.results import glue, glue_text
from cdlib.store import code_hash, fingerprint, source_hash
from cdlib.world import PAPER_CONCEPTS

ROOT = Path(__file__).resolve().parents[2]
PRESET = "book"
# Measured once and read often: more of everything than a build on a laptop has time for.
SIZES = {
    "steps": 20,
    "n_images": 96,
    "n_val": 48,
    "n_train": 640,
    "finetune_steps": 240,
    "resample": 4,
    "n_synthetic": 96,
    "segmenter_steps": 1440,
    "segmenter_batch": 16,
    "n_seeds": 3,
}
# The ablations of chapter 7 are a record of their own, of one concept and with sizes of their own:
# every row of them takes removals, and some a fine-tuning, where the tables take a few trainings.
# None is taken from SIZES, so that new ones for the tables leave the ablations as they are.
ABLATIONS, ABLATED = "07_ablations", "bird"
ABLATION_SIZES = {
    "steps": 50,
    "n_images": 96,
    "n_val": 48,
    "n_train": 160,
    "finetune_steps": 480,
    "resample": 4,
    "n_synthetic": 128,
    "segmenter_steps": 480,
    "segmenter_batch": 32,
    "n_seeds": 3,
}

# Chapters that show other concepts than their own, and what their numbers come from. Between them
# a chapter's modules import every room but figures and results, which change how a number is shown
# and not what it is.
MASKS = (
    "cdlib.datasets",
    "cdlib.diagnosis",
    "cdlib.stages.attention",
    "cdlib.stages.chain",
    "cdlib.stages.evaluation",
    "cdlib.stages.finetuning",
    "cdlib.stages.removal",
)
SYNTHETIC = (*MASKS, "cdlib.stages.features", "cdlib.stages.synthesis")
EVALUATION = (
    *SYNTHETIC,
    "cdlib.stages.ablations",
    "cdlib.stages.methods",
    "cdlib.stages.segmenting",
)
CODE = {
    "04_removal": MASKS,
    "05_synthetic": SYNTHETIC,
    "07_evaluation": EVALUATION,
    ABLATIONS: EVALUATION,
}
RECORDED = tuple(CODE)
PARTS = {
    "model": "another model",
    "judge": "another judge",
    "stages": "other code of the stages",
    "chapter": "other code in the chapter",
    "settings": "other settings",
}


@dataclass(frozen=True)
class Record:
    """What one chapter measured for one concept.

    results: name to an entry as in results.json, see `cdlib.results`. manifest: command, commit,
    hardware, date, seconds, those of the runs before it, versions, and what `made_of` gives. stale:
    in words, what has changed since; empty if nothing that matters has.
    """

    chapter: str
    concept: str
    results: dict[str, dict]
    manifest: dict[str, Any]
    stale: tuple[str, ...]


def load_records(
    chapter: str, *, live: str | None = None, model: str = "pocket", root: Path = ROOT
) -> dict[str, Record | None]:
    """The records of the paper's concepts, without `live`, one that this run measures itself.

    None stands for a concept without a record. Records are of the pocket model: with any other,
    `model` as in the chapter's parameters, there are none.
    """
    one_of("chapter", chapter, RECORDED)
    others = [concept for concept in PAPER_CONCEPTS if concept != live]
    if model != "pocket":
        return dict.fromkeys(others)
    return {concept: read_record(chapter, concept, root) for concept in others}


def load_record(
    chapter: str, concept: str, *, model: str = "pocket", root: Path = ROOT
) -> Record | None:
    """One record, also of the concept that this run measures itself; None if there is none."""
    one_of("chapter", chapter, RECORDED)
    return read_record(chapter, concept, root) if model == "pocket" else None


def glue_records(records: Mapping[str, Record | None], *names: str) -> None:
    """Hand numbers of other concepts to the prose and to results.json, source "recorded".

    names: with {c} for the concept, such as "removal.{c}.psnr.m"; names that no chapter measures
    live for other concepts than its own. What was not recorded reads so, and is in no results.
    """
    for name in names:
        if "{c}" not in name:
            raise ValueError(f"name = {name!r} is not allowed: give one with {{c}} in it.")
        for concept, record in records.items():
            _glue_one(name.format(c=concept), record)


def _glue_one(name: str, record: Record | None) -> None:
    found = None if record is None else record.results.get(name)
    if found is None:
        for key in (name, f"{name}.ci95", f"{name}.n"):
            glue_text(key, "not recorded")
        return
    told = {key: found[key] for key in ("value", "n", "unit", "paper")}
    ci95 = None if found["ci95"] is None else tuple(found["ci95"])
    glue(name, **told, ci95=ci95, source="recorded")


def record_rows(records: Mapping[str, Record | None]) -> list[dict[str, str]]:
    """Where the numbers come from, for a table: a row for each concept."""
    rows = []
    for concept, record in records.items():
        told = record.manifest if record else {}
        state = "not recorded: make records"
        if record:
            state = _state(record)
        rows.append(
            {
                "concept": concept,
                "command": told.get("command", ""),
                "commit": told.get("commit", "")[:10],
                "hardware": told.get("hardware", ""),
                "date": told.get("date", ""),
                "seconds": f"{told['seconds']:.0f}" if record else "",
                "state": state,
            }
        )
    return rows


def _state(record: Record) -> str:
    """Whether today's code made a record's numbers, or was seen to give the same."""
    if record.stale:
        return f"stale: made with {' and '.join(record.stale)}"
    if confirmed := record.manifest.get("confirmed"):
        return f"confirmed at {confirmed[-1]['commit'][:10]}"
    return "up to date"


def stale_records(root: Path = ROOT) -> list[str]:
    """A line for every record that speaks of another model or of code that has since changed."""
    lines = []
    for chapter in RECORDED:
        for concept in concepts_of(chapter):
            record = read_record(chapter, concept, root)
            if record and record.stale:
                made = f"the record of {chapter} for {concept!r} was made with "
                lines.append(f"{made}{' and '.join(record.stale)}: make records")
    return lines


def record_path(chapter: str, concept: str, root: Path = ROOT) -> Path:
    """Where the record is, or would be."""
    return root / "book" / "records" / chapter / f"{concept}.json"


def read_record(chapter: str, concept: str, root: Path = ROOT) -> Record | None:
    """The record of a chapter for a concept, None if there is none."""
    path = record_path(chapter, concept, root)
    if not path.exists():
        return None
    said = json.loads(path.read_text(encoding="utf-8"))
    then, now = said["manifest"]["made_of"], made_of(chapter, concept, root)
    stale = tuple(words for part, words in PARTS.items() if then.get(part) != now[part])
    return Record(chapter, concept, said["results"], said["manifest"], stale)


def made_of(chapter: str, concept: str, root: Path = ROOT) -> dict[str, Any]:
    """All that a record depends on: a change in any part of it makes the record stale."""
    return {
        "model": fingerprint(card.WEIGHTS),
        "judge": fingerprint(card.WEIGHTS / "classifier.safetensors"),
        "stages": _code(chapter),
        "chapter": _chapter_hash(root / "notebooks" / f"{notebook_of(chapter)}.ipynb"),
        "settings": _settings(chapter, concept),
    }


def notebook_of(chapter: str) -> str:
    """The chapter that a record is made by: its own, or for the ablations the seventh."""
    return "07_evaluation" if chapter == ABLATIONS else chapter


def concepts_of(chapter: str) -> tuple[str, ...]:
    """Which concepts are recorded of a chapter."""
    return (ABLATED,) if chapter == ABLATIONS else PAPER_CONCEPTS


def given_for(chapter: str, concept: str) -> dict[str, int | str]:
    """The parameters that a record is made with; all others are the preset's."""
    known = {parameter.name for parameter in chapter_parameters(notebook_of(chapter))}
    sizes = ABLATION_SIZES if chapter == ABLATIONS else SIZES
    given = {"preset": PRESET, "concept": concept}
    given |= {name: size for name, size in sizes.items() if name in known}
    if "ablate" in known:
        given["ablate"] = "live" if chapter == ABLATIONS else "none"
    return given


def recorded_of(chapter: str, found: Mapping[str, dict]) -> dict[str, dict]:
    """What a record keeps of a run's results: all that it measured, but not what that took."""
    kept = "ablation." if chapter == ABLATIONS else ""
    return {
        name: one
        for name, one in sorted(found.items())
        if one["source"] == "live" and name.startswith(kept) and not name.startswith("chapter.")
    }


def recorded_hours(root: Path = ROOT) -> float:
    """How long the runs that wrote the records took, and those that these took up from, see
    `seconds_in_all`, on the machines that they name."""
    paths = (record_path(chapter, c, root) for chapter in RECORDED for c in concepts_of(chapter))
    said = (json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists())
    return sum(seconds_in_all(record["manifest"]) for record in said) / 3600


def seconds_in_all(manifest: Mapping[str, Any]) -> float:
    """Seconds of the run that made a record, and of the runs that made the ones it replaced, whose
    results it may have found in the store."""
    return manifest["seconds"] + manifest.get("seconds_before", 0.0)


@lru_cache(maxsize=len(CODE))
def _code(chapter: str) -> str:
    """Hash of the code that this process runs, which does not change on the way."""
    return code_hash(CODE[chapter])


def _settings(chapter: str, concept: str) -> dict[str, Any]:
    """The chapter's parameters as the record is made with; on which device is in the manifest."""
    one_of("chapter", notebook_of(chapter), CHAPTERS)
    found = vars(check_parameters(given_for(chapter, concept), notebook_of(chapter)))
    return {name: value for name, value in found.items() if name != "device"}


def _chapter_hash(notebook: Path) -> str:
    """Hash of a chapter's code but for its parameters, which count as settings, and its figures."""
    cells = nbformat.read(notebook, as_version=4).cells
    code = [
        cell.source
        for cell in cells
        if cell.cell_type == "code"
        and not {"parameters", "hide-input"} & set(cell.metadata.get("tags", []))
    ]
    return source_hash("\n".join(code))
