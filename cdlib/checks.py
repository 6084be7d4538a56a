"""Refusals that help: what was given, what is allowed, and the nearest right name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real


def one_of(parameter: str, value: object, allowed: Iterable[str]) -> str:
    """`value` itself if it is among `allowed`; otherwise a ValueError with the nearest name."""
    names = list(allowed)
    if isinstance(value, str) and value in names:
        return value
    raise ValueError(
        f"{parameter}={value!r}: allowed are {', '.join(names)}.{did_you_mean(value, names)}"
    )


def did_you_mean(value: object, names: Iterable[str]) -> str:
    """The sentence " Did you mean 'bird'?", or nothing where no name comes near."""
    of_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(value).lower(), list(of_lower), n=1, cutoff=0.5)
    return f" Did you mean {of_lower[close[0]]!r}?" if close else ""


def whole_number(parameter: str, value: object, low: int, high: int | None = None) -> int:
    """`value` as an int within [low, high]; otherwise a ValueError."""
    fits = isinstance(value, Integral) and not isinstance(value, bool) and value >= low
    if fits and (high is None or value <= high):
        return int(value)
    allowed = f"at least {low}" if high is None else f"from {low} to {high}"
    raise ValueError(f"{parameter}={value!r}: must be a whole number {allowed}.")


def real_number(
    parameter: str, value: object, low: float, high: float = math.inf, above: bool = False
) -> float:
    """`value` as a float within [low, high], or (low, high] if `above`; else a ValueError."""
    fits = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if fits and low <= value <= high and not (above and value == low):
        return float(value)
    least = f"above {low:g}" if above else f"at least {low:g}"
    allowed = least if math.isinf(high) else f"{least} and at most {high:g}"
    raise ValueError(f"{parameter}={value!r}: must be a finite number {allowed}.")
