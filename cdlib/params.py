"""What a chapter can be asked: names, types, ranges, meanings and the presets' numbers.

A chapter's first code cell is tagged `parameters` and repeats the defaults below, annotated, so
that `papermill --help-notebook notebooks/02_attention.ipynb` lists them; its second code cell is

    import cdlib

    p = cdlib.check_parameters(globals(), chapter="02_attention")

From there on the chapter reads `p.steps`, `p.concept`, ...: checked, and filled in from the preset
wherever the notebook's own value says "the preset's" (0 for counts, "auto" for the model).

papermill only warns about a name that it does not know, and runs on with the default; so the check
also looks for names that the parameters cell or papermill's injected cell set and the chapter does
not have. Nothing here imports torch: a slip is reported in the first second.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

from cdlib.world import CONCEPTS

PRESETS: dict[str, dict[str, int | float | str]] = {
    "quick": {
        "model": "pocket",
        "n_scenes": 12,
        "n_samples": 8,
        "n_images": 16,
        "steps": 20,
        "n_train": 16,
        "finetune_steps": 24,
        "batch_size": 8,
        "learning_rate": 5e-4,
        "mean_over": "region",
    },
    "book": {
        "model": "pocket",
        "n_scenes": 48,
        "n_samples": 24,
        "n_images": 96,
        "steps": 50,
        "n_train": 160,
        "finetune_steps": 480,
        "batch_size": 16,
        "learning_rate": 5e-4,
        "mean_over": "region",
    },
    # Steps of fine-tuning are nowhere given: "one day" on two GPUs is of this order.
    "paper": {
        "model": "CompVis/stable-diffusion-v1-4",
        "n_scenes": 48,
        "n_samples": 24,
        "n_images": 1000,
        "steps": 50,
        "n_train": 10_000,
        "finetune_steps": 50_000,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "mean_over": "all",
    },
}


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
            hint = _nearest(value, self.choices)
            raise ParameterError(
                f"{self.name} = {given} is not allowed: give {self.allowed}.{hint}"
            )
        return value


COMMON = (
    Parameter("preset", "book", "how much to run: quick, book or paper", choices=tuple(PRESETS)),
    Parameter("concept", "bird", "the object to look for", choices=tuple(CONCEPTS)),
    Parameter(
        "model",
        "auto",
        "pocket, a diffusers folder or a hub id; auto takes the preset's",
        choices=("auto", "pocket"),
        pattern=r"\S*/.*\S",
        otherwise="a diffusers folder (./name) or a hub id (owner/name)",
        preset=True,
    ),
    Parameter("seed", 0, "where all randomness starts", low=0, high=2**31 - 1),
    Parameter(
        "device",
        "auto",
        "where the model runs: auto, cpu, mps, cuda or cuda:N",
        choices=("auto", "cpu", "mps", "cuda"),
        pattern=r"cuda:\d+",
        otherwise="cuda:N",
    ),
)
DIFFICULTY = Parameter(
    "difficulty", 0.3, "clutter and camouflage of the scenes, 0 (plain) to 1", low=0.0, high=1.0
)

N_IMAGES = Parameter(
    "n_images", 0, "images measured; 0 takes the preset's", 0, 100_000, preset=True
)
N_SAMPLES = Parameter(
    "n_samples", 0, "images drawn by the model; 0 takes the preset's", 0, 4096, preset=True
)
# How M_hat and M_pre are made, in every chapter that needs them.
MASKS = (
    Parameter("steps", 0, "steps of the DDIM grid; 0 takes the preset's", 0, 1000, preset=True),
    Parameter(
        "t0",
        0,
        "timesteps averaged, the least noisy ones; 0 takes four fifths of steps",
        0,
        1000,
        preset=True,
    ),
    Parameter("n_noise", 1, "noise draws at each timestep", 1, 64),
    Parameter(
        "rule",
        "gmm",
        "threshold rule of the preliminary mask: gmm, posterior, otsu or percentile",
        choices=("gmm", "posterior", "otsu", "percentile"),
    ),
)
# How m' is made: the same in the chapter that trains it and in those that use it, which thereby
# find it in the store.
FINETUNING = (
    Parameter(
        "n_train", 0, "images to fine-tune on; 0 takes the preset's", 0, 1_000_000, preset=True
    ),
    Parameter(
        "finetune_steps",
        0,
        "steps of fine-tuning; 0 takes the preset's",
        0,
        10_000_000,
        preset=True,
    ),
    Parameter(
        "batch_size", 0, "images in a step of it; 0 takes the preset's", 0, 65_536, preset=True
    ),
    Parameter(
        "learning_rate", 0.0, "AdamW's learning rate; 0 takes the preset's", 0.0, 0.1, preset=True
    ),
    # Not "p": that is what chapters call their checked parameters.
    Parameter("p_foreground", 0.5, "odds of the whole image with the prompt y_f", 0.0, 1.0),
    Parameter("rectangles", 1, "rectangles of background in a step with y_b", 1, 64),
    Parameter(
        "noise",
        "whole",
        "what is noised for y_b: the whole latent (code) or the rectangle (paper)",
        choices=("whole", "rectangle"),
    ),
    Parameter(
        "mean_over",
        "auto",
        "cells in the loss's mean: all (code) or the region that counts; auto takes the preset's",
        choices=("auto", "all", "region"),
        preset=True,
    ),
    Parameter("lora_rank", 0, "rank of LoRA's matrices; 0 trains the whole U-Net", 0, 1024),
)
SCHEDULER = Parameter(
    "scheduler",
    "DDIMScheduler",
    "the sampler, by its name in diffusers",
    choices=(
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "PNDMScheduler",
    ),
    pattern=r"[A-Z]\w+Scheduler",
    otherwise="another of diffusers' schedulers",
)

CHAPTERS: dict[str, tuple[Parameter, ...]] = {
    "00_welcome": COMMON,
    "01_pocket_world": COMMON
    + (
        DIFFICULTY,
        Parameter(
            "n_scenes", 0, "scenes shown and measured; 0 takes the preset's", 0, 4096, preset=True
        ),
        N_SAMPLES,
        Parameter(
            "steps", 0, "denoising steps of a sample; 0 takes the preset's", 0, 1000, preset=True
        ),
        Parameter("guidance", 4.0, "classifier-free guidance scale of the samples", 0.0, 30.0),
    ),
    "02_attention": (*COMMON, DIFFICULTY, N_IMAGES, *MASKS),
    "03_finetuning": (
        *(*COMMON, DIFFICULTY, *MASKS, *FINETUNING, SCHEDULER, N_SAMPLES),
        Parameter("s_low", -2.0, "the lowest concept guidance s of the sweep", -30.0, 30.0),
        Parameter("s_high", 7.5, "the highest concept guidance s of the sweep", -30.0, 30.0),
    ),
    "04_removal": (
        *(*COMMON, DIFFICULTY, N_IMAGES, *MASKS, *FINETUNING, SCHEDULER),
        Parameter("dilate", 0, "latent cells by which the removed region is widened", 0, 8),
    ),
}


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
                f"It has {', '.join(schema)}.{_nearest(name, schema)}"
            )
    values = {name: one.check(namespace.get(name, one.default)) for name, one in schema.items()}
    return SimpleNamespace(**_fill_from_preset(values, schema))


def chapter_parameters(chapter: str) -> tuple[Parameter, ...]:
    """The parameters of a chapter, named as its notebook is, e.g. "02_attention"."""
    if chapter not in CHAPTERS:
        raise ParameterError(
            f"chapter = {chapter!r} does not exist: give one of {', '.join(CHAPTERS)}."
            f"{_nearest(chapter, CHAPTERS)}"
        )
    return CHAPTERS[chapter]


def parameters_cell(chapter: str) -> str:
    """The source of the chapter's `parameters` cell."""
    return "\n".join(parameter.declaration() for parameter in chapter_parameters(chapter))


def _fill_from_preset(values: dict, schema: Mapping[str, Parameter]) -> dict:
    """Replace what stands for "the preset's" by its number, and check what goes together."""
    numbers = PRESETS[values["preset"]]
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


def _nearest(given: object, names: Iterable[str]) -> str:
    """' Did you mean ...?' or nothing."""
    close = difflib.get_close_matches(str(given).lower(), list(names), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
