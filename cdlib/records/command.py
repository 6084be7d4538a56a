"""python -m cdlib.records: make what is missing or stale, or confirm what is stale."""

from __future__ import annotations

import argparse
import json
import sys

from cdlib.book import BookError
from cdlib.records.confirming import confirm_records
from cdlib.records.making import make_records, named
from cdlib.records.reading import RECORDED, ROOT, recorded_hours
from cdlib.world import PAPER_CONCEPTS


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cdlib.records",
        description="Measure what the book shows of concepts other than the one it is built for.",
    )
    parser.add_argument("--chapter", help=f"one of {', '.join(RECORDED)}; otherwise all")
    parser.add_argument("--concept", help=f"one of {', '.join(PAPER_CONCEPTS)}; otherwise all")
    parser.add_argument(
        "--confirm",
        action="store_true",
        help="make none: keep stale ones whose numbers today's code gives as theirs did",
    )
    parser.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="with --confirm: a parameter of the chapters for both runs",
    )
    asked = parser.parse_args(argv)
    if asked.p and not asked.confirm:
        parser.error("-p goes with --confirm: a record's own parameters are fixed")
    return asked


def _value(word: str) -> object:
    """A parameter's value as papermill reads it: a number where it looks like one."""
    try:
        return json.loads(word)
    except ValueError:
        return word


def main(argv: list[str] | None = None) -> int:
    """The command: 0 when all records fit, 2 for a wrong argument, 1 for what broke."""
    asked = parse_arguments(argv)
    chapters = RECORDED if asked.chapter is None else (asked.chapter,)
    concepts = PAPER_CONCEPTS if asked.concept is None else (asked.concept,)
    try:
        if asked.confirm:
            given = {name: _value(word) for name, word in asked.p}
            written = confirm_records(chapters, concepts, given)
        else:
            written = make_records(chapters, concepts)
    except (ValueError, BookError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    for path in written:
        print(path.relative_to(ROOT))
    done = "confirmed" if asked.confirm else "made"
    kept = len(named(chapters, concepts)) - len(written)
    print(f"{len(written)} {done}, {kept} kept; their runs took {recorded_hours():.1f} hours")
    return 0
