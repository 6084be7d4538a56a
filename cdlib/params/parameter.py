"""One thing that a chapter can be asked for, and what is said of a value that does not fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass


class ParameterError(ValueError):
    """A chapter was asked for something that it does not have."""

    def _render_traceback_(self) -> list[str]:
        """The message alone: IPython shows this in place of its traceback."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class Parameter:
    """One thing that a chapter can be asked for.

    `low` and `high` bound a number (inclusive). A string is one of `choices` or fits `pattern`,
    which `otherwise` says in words. With `preset=True` the default stands for "the preset's", see
    `PRESETS`.
    """

    name: str
    default: int | float | str
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    otherwise: str = ""
    preset: bool = False

    @property
    def type(self) -> type:
        return type(self.default)

    @property
    def allowed(self) -> str:
        """The values it takes, in words."""
        if self.choices:
            return "one of " + ", ".join((*self.choices, *filter(None, [self.otherwise])))
        kind = "an int" if self.type is int else "a float"
        return f"{kind} from {self.low} to {self.high}"

    def declaration(self) -> str:
        """Its line in a notebook's `parameters` cell."""
        return f"{self.name}: {self.type.__name__} = {self.default!r}  # {self.meaning}"

    def check(self, value: object) -> int | float | str:
        """`value` in this parameter's type, or a ParameterError that says what is allowed."""
        if self.type is float and type(value) is int:
            value = float(value)
        fits = type(value) is self.type
        if fits and self.type is str:
            fits = value in self.choices or bool(self.pattern and re.fullmatch(self.pattern, value))
        elif fits:
            fits = self.low <= value <= self.high  # false for NaN
        if not fits:
            given = f"{value!r} ({type(value).__name__})"
            hint = nearest(value, self.choices)
            raise ParameterError(
                f"{self.name} = {given} is not allowed: give {self.allowed}.{hint}"
            )
        return value


def nearest(given: object, names: Iterable[str]) -> str:
    """' Did you mean ...?' or nothing."""
    close = difflib.get_close_matches(str(given).lower(), list(names), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
