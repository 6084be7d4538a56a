"""Parameters held against the table, and filled in from the preset."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import SimpleNamespace

from .chapters import CHAPTERS
from .parameter import Parameter, ParameterError, nearest
from .presets import preset_numbers


def check_parameters(namespace: Mapping[str, object], chapter: str) -> SimpleNamespace:
    """The chapter's parameters as found in `namespace`: checked, and filled in from the preset.

    In a notebook pass `globals()`; anywhere else a plain mapping from names to values, where names
    that are left out take their defaults. Raises ParameterError (a ValueError) for a name that the
    chapter does not have and for a value of the wrong type or out of range.
    """
    schema = {parameter.name: parameter for parameter in chapter_parameters(chapter)}
    for name in _names_given(namespace):
        if name not in schema:
            raise ParameterError(
                f"{name} = {namespace.get(name)!r}: chapter {chapter} has no parameter {name!r}. "
                f"It has {', '.join(schema)}.{nearest(name, schema)}"
            )
    values = {name: one.check(namespace.get(name, one.default)) for name, one in schema.items()}
    numbers = preset_numbers(values["preset"], chapter)
    return SimpleNamespace(**_fill_from_preset(values, schema, numbers))


def chapter_parameters(chapter: str) -> tuple[Parameter, ...]:
    """The parameters of a chapter, named as its notebook is, e.g. "02_attention"."""
    if chapter not in CHAPTERS:
        raise ParameterError(
            f"chapter = {chapter!r} does not exist: give one of {', '.join(CHAPTERS)}."
            f"{nearest(chapter, CHAPTERS)}"
        )
    return CHAPTERS[chapter]


def parameters_cell(chapter: str) -> str:
    """The source of the chapter's `parameters` cell."""
    return "\n".join(parameter.declaration() for parameter in chapter_parameters(chapter))


def _fill_from_preset(values: dict, schema: Mapping[str, Parameter], numbers: Mapping) -> dict:
    """Replace what stands for "the preset's" by its number, and check what goes together."""
    if values.get("scheduler", "DDIMScheduler") != "DDIMScheduler":
        numbers = {**numbers, "resample": 1}  # no other sampler can take a step again
    for name, parameter in schema.items():
        if parameter.preset and values[name] == parameter.default and name in numbers:
            values[name] = numbers[name]
    if "t0" in values:
        # Section 4 of the paper averages 40 of 50 timesteps; keep that share on other grids.
        values["t0"] = values["t0"] or max(1, values["steps"] * 4 // 5)
        if values["t0"] > values["steps"]:
            raise ParameterError(
                f"t0 = {values['t0']} is not allowed: give an int from 1 to steps = "
                f"{values['steps']}, or 0 for four fifths of it."
            )
    if "s_low" in values and values["s_low"] >= values["s_high"]:
        raise ParameterError(
            f"s_low = {values['s_low']} is not allowed: give less than s_high = {values['s_high']}."
        )
    return values


def _names_given(namespace: Mapping[str, object]) -> list[str]:
    """Names set as parameters: all of a plain mapping, or what the notebook's settings cells set.

    In a running notebook (`In` is IPython's list of executed cells) these are the cells right
    before the one that checks which do nothing but assign and import: the `parameters` cell and the
    one that papermill injects. Names made further down never count, so the check can be run again.
    """
    if not (isinstance(namespace.get("In"), list) and "get_ipython" in namespace):
        return [name for name in namespace if not name.startswith("__")]
    names: dict[str, None] = {}
    for source in reversed(namespace["In"][1:-1]):
        assigned = _assigned_names(source)
        if assigned is None:
            break
        names.update(dict.fromkeys(assigned))
    return list(names)


def _assigned_names(source: str) -> list[str] | None:
    """Names that a cell assigns, or None if it does anything but assign and import."""
    names = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) for t in node.targets):
            names += [target.id for target in node.targets]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
        elif not isinstance(node, (ast.Import, ast.ImportFrom)):
            return None
    return names
