"""Numbers and figures that a chapter hands to the book.

    cdlib.glue("m_hat.bird.auc", auc, ci95=(low, high), n=96, unit="fraction", paper=0.971)

writes nothing on the screen and leaves three things in the executed notebook: the record that
`cdlib.book` gathers into `_build/results.json`, and short texts for the prose,

    {glue:text}`m_hat.bird.auc`   {glue:text}`m_hat.bird.auc.ci95`   {glue:text}`m_hat.bird.auc.n`

A glued text serves its own page. A page that speaks of another chapter's numbers hands them to its
own prose with `cdlib.glue_again(cdlib.load_results())`.

    cdlib.show_figure(fig, "fig-word-maps", caption="...", alt="...")

shows a matplotlib figure, numbered and captioned in the built book (refer to it by
{numref}`fig-word-maps`), with a text that says in words what is seen. One figure a cell.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
from base64 import b64encode
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from cdlib.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIELDS = ("value", "ci95", "n", "unit", "chapter", "paper", "source")
SOURCES = ("live", "recorded")
RESULTS = Path(__file__).resolve().parents[1] / "_build" / "results.json"
GLUE_PREFIX = "application/papermill.record/"  # what myst-nb looks for; shown by no front end
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")
_LABEL = re.compile(r"fig-[a-z0-9-]+")


def glue(
    name: str,
    value: float,
    *,
    ci95: tuple[float, float] | None = None,
    n: int | None = None,
    unit: str | None = None,
    paper: float | None = None,
    source: str = "live",
    fmt: str | None = None,
) -> None:
    """Hand one number to the prose and to `_build/results.json`.

    name: dotted, lower-case, e.g. "m_pre.bird.iou". value: finite; with unit="fraction" in [0, 1].
    ci95: (low, high) around the value. n: what it was measured over. paper: the paper's own number,
    in the same unit. source: "live" or "recorded". fmt: a format specification for the prose, by
    default "d" for whole numbers, ".3f" for fractions and ".3g" for the rest.
    Raises ValueError naming whichever of these does not fit.
    """
    _check_name(name)
    record = make_record(value, ci95=ci95, n=n, unit=unit, paper=paper, source=source)
    for key, text in _texts(name, record, fmt).items():
        extra = {"cdlib": {"name": name, "record": record}} if key == name else {}
        _glue_text(key, text, extra)


def glue_again(results: Mapping[str, dict]) -> None:
    """Hand the numbers of other chapters (see `load_results`) to this page's prose."""
    for name, record in results.items():
        for key, text in _texts(name, record).items():
            _glue_text(key, text, {})


def glue_text(name: str, text: str) -> None:
    """Hand a word or phrase of the run (the concept's name, say) to the prose; it is no result."""
    _check_name(name)
    if not text.strip():
        raise ValueError(f"text = {text!r} is not allowed: give {name} some words.")
    _glue_text(name, text, {})


def show_figure(fig: Figure, name: str, *, caption: str, alt: str, dpi: int = 144) -> None:
    """Show a matplotlib figure that the built book numbers, captions and describes.

    name: its label, "fig-...", for {numref}. caption: MyST; may use {glue:text}. alt: what is to be
    seen, in words, for those who do not see it. The figure is closed, so that it shows once.
    """
    from IPython.display import display
    from matplotlib import pyplot as plt

    if not _LABEL.fullmatch(name):
        raise ValueError(f"name = {name!r} is not allowed: give a label such as fig-word-maps.")
    for key, text in (("caption", caption), ("alt", alt)):
        if not text.strip():
            raise ValueError(f"{key} = {text!r} is not allowed: say in words what {name} shows.")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    plt.close(fig)
    # The drawn width in CSS pixels, so that a dense picture is sharp rather than large.
    width = int.from_bytes(buffer.getvalue()[16:20], "big") * 96 // dpi
    picture = {"image/png": b64encode(buffer.getvalue()).decode(), "text/plain": alt}
    figure = {"name": name, "caption": caption, "alt": alt}
    metadata = {"image/png": {"width": width, "alt": alt}, "cdlib": {"figure": figure}}
    display(picture, raw=True, metadata=metadata)


def make_record(
    value: float,
    *,
    ci95: tuple[float, float] | None = None,
    n: int | None = None,
    unit: str | None = None,
    paper: float | None = None,
    source: str = "live",
    chapter: str | None = None,
) -> dict:
    """One entry of results.json, checked; `chapter` is filled in where the results are gathered."""
    numbers = {"value": value, "paper": paper}
    if ci95 is not None:
        if len(ci95) != 2 or not ci95[0] <= value <= ci95[1]:
            raise ValueError(f"ci95 = {ci95} is not allowed: give (low, high) around {value}.")
        numbers |= {"the low end of ci95": ci95[0], "the high end of ci95": ci95[1]}
    for name, number in numbers.items():
        if number is not None or name == "value":
            _check_number(name, number, unit)
    if n is not None and (not isinstance(n, Integral) or n < 1):
        raise ValueError(f"n = {n!r} is not allowed: give a whole number of at least 1.")
    if source not in SOURCES:
        raise ValueError(f"source = {source!r} is not allowed: give one of {', '.join(SOURCES)}.")
    return {
        "value": _plain(value),
        "ci95": None if ci95 is None else [_plain(end) for end in ci95],
        "n": None if n is None else int(n),
        "unit": unit,
        "chapter": chapter,
        "paper": None if paper is None else _plain(paper),
        "source": source,
    }


def gather_results(notebook: Mapping, chapter: str) -> dict[str, dict]:
    """Every glued number of an executed notebook, by name, as entries of results.json."""
    found: dict[str, dict] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            glued = output.get("metadata", {}).get("cdlib", {})
            if "record" in glued:
                merge_results(found, {glued["name"]: {**glued["record"], "chapter": chapter}})
    return found


def merge_results(into: dict[str, dict], more: Mapping[str, dict]) -> None:
    """Add results to others in place; one name with two values is a ValueError."""
    for name, record in more.items():
        before = into.setdefault(name, dict(record))
        if before["value"] != record["value"]:
            raise ValueError(
                f"{name} was glued twice: {before['value']} by chapter {before['chapter']}, then "
                f"{record['value']} by chapter {record['chapter']}. Give each number its own name."
            )


def load_results(path: Path | str | None = None) -> dict[str, dict]:
    """The results of the chapters run so far; maybe none yet.

    path: by default that of the build that runs this chapter, or else `_build/results.json`.
    """
    path = Path(path or os.environ.get("CDLIB_RESULTS") or RESULTS)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_results(results: Mapping[str, dict], path: Path | str) -> None:
    """Write results.json, sorted by name, in one step."""
    text = json.dumps(results, indent=1, sort_keys=True, allow_nan=False) + "\n"
    with written_whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def titled_figures(cell: Mapping) -> list[dict]:
    """What `show_figure` said of the figures in an executed cell: name, caption and alt."""
    outputs = cell.get("outputs", [])
    said = [output.get("metadata", {}).get("cdlib", {}).get("figure") for output in outputs]
    return [figure for figure in said if figure]


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"name = {name!r} is not allowed: give one such as m_pre.bird.iou.")


def _check_number(name: str, number: Real, unit: str | None) -> None:
    if isinstance(number, bool) or not isinstance(number, Real) or not math.isfinite(number):
        raise ValueError(f"{name} = {number!r} is not allowed: give a finite number.")
    if unit == "fraction" and not 0 <= number <= 1:
        raise ValueError(
            f"{name} = {number} is not allowed with unit 'fraction': give 0.752 for 75.2 percent."
        )


def _plain(number: Real) -> int | float:
    """numpy's scalars as Python's, which JSON can hold."""
    return int(number) if isinstance(number, Integral) else float(number)


def _texts(name: str, record: Mapping, fmt: str | None = None) -> dict[str, str]:
    """What the prose can say of a record: its value, and its interval and n where it has them."""
    fmt = fmt or _format_for(record["value"], record["unit"])
    texts = {name: format(record["value"], fmt)}
    if record["ci95"] is not None:
        texts[f"{name}.ci95"] = " to ".join(format(end, fmt) for end in record["ci95"])
    if record["n"] is not None:
        texts[f"{name}.n"] = format(record["n"], ",d")
    return texts


def _format_for(value: int | float, unit: str | None) -> str:
    if isinstance(value, int):
        return ",d"
    return ".3f" if unit == "fraction" else ".3g"


def _glue_text(key: str, text: str, extra: dict) -> None:
    """Leave `text` in the notebook where myst-nb's glue roles find it, as myst_nb.glue does."""
    from IPython.display import display

    metadata = {"scrapbook": {"name": key, "mime_prefix": GLUE_PREFIX}, **extra}
    # Quoted, as Python shows a string: myst-nb would read 1,200 as a tuple and 0.960 as 0.96.
    display({f"{GLUE_PREFIX}text/plain": repr(text)}, raw=True, metadata=metadata)
