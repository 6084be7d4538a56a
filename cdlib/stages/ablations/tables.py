"""Ablations as numbers: a table of them, and the same as results to be recorded and read back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pandas as pd
import torch

from cdlib.checks import one_of
from cdlib.metrics import Estimate
from cdlib.stages.methods import gain, score_trainings

CHOICES = {
    "t0": "timesteps averaged",
    "layers": "attention layers",
    "n_noise": "noise draws a timestep",
    "rule": "threshold rule",
    "space": "colours of the difference",
    "polish": "outline of M",
    "finetune_steps": "steps of fine-tuning",
    "p_foreground": "odds of the foreground prompt, half the steps",
    "refinement": "refinement",
    "synthetic": "synthetic images",
    "recolour": "recolouring in training",
    "width": "channels of the U-Net's first level",
}
# How a setting reads; one that is not here reads as it is.
WORDS = {
    "t0": "T₀ = {}",
    "n_noise": "N = {}",
    "finetune_steps": "{} steps",
    "p_foreground": "p = {}",
    "recolour": "strength {}",
    "layers": {"down": "the way down", "mid": "the middle", "up": "the way up", "all": "all of it"},
    "space": {"rgb": "RGB", "lab": "CIELAB"},
    "polish": {"none": "as cut", "grabcut": "by colour"},
    "refinement": {"on": "U-Net on D_s", "off": "U-Net on M_pre"},
    "synthetic": {
        "none": "none",
        "half": "D_s and half of them",
        "all": "D_s and all of them",
        "alone": "these alone",
    },
}
SHARES = ("p_foreground", "recolour")  # choices whose settings are in [0, 1]
ESTIMATES = ("value", "low", "high")
NAME = re.compile(r"ablation\.(\w+)\.(\w+)\.(\w+)\.(\w+)\.iou")


class Variant(NamedTuple):
    """One setting of one choice, and the validation masks that it leads to.

    setting: lower-case letters, digits and _, as in a result's name. masks: what they are ("m_pre",
    "m_refined" or "unet") to one (N, H, W) for each training. reference: what the other settings of
    its choice are compared with.
    """

    choice: str
    setting: str
    masks: dict[str, list[torch.Tensor]]
    reference: bool = False

    @classmethod
    def of(cls, choice: str, setting: object, masks: dict, reference: bool = False) -> Variant:
        """With any setting: the number 0.5 is "0_5"."""
        name = f"{setting:g}" if isinstance(setting, float) else str(setting)
        return cls(one_of("choice", choice, CHOICES), name.replace(".", "_"), masks, reference)


def ablation_table(variants: Iterable[Variant], truth: torch.Tensor, seed: int = 0) -> pd.DataFrame:
    """A row for every variant and kind of mask.

    Columns: choice, setting, words, reference, kind; iou, pooled, with low, high and n; gain over
    the choice's reference, in points of 100 with gain_low and gain_high, from the same images drawn
    again together. A reference has to come before what is compared with it, and has a gain of 0.
    """
    results, references = {}, {}
    for one in variants:
        for kind, masks in one.masks.items():
            name = f"ablation.c.{one.choice}.{one.setting}.{kind}"
            results[f"{name}.iou"] = score_trainings(masks, truth, seed=seed).estimates["iou"]
            if one.reference:
                references[one.choice, kind] = masks
            else:
                base = references[one.choice, kind]
                results[f"{name}.gain"] = gain(masks, base, truth, seed=seed)
    return table_of_results(results, "c")


def ablation_results(table: pd.DataFrame, concept: str) -> dict[str, Estimate]:
    """The table as results: "ablation.bird.t0.5.m_pre.iou", and "...gain" but for a reference."""
    found = {}
    for row in table.itertuples():
        name = f"ablation.{concept}.{row.choice}.{row.setting}.{row.kind}"
        found[f"{name}.iou"] = Estimate(row.iou, (row.low, row.high), row.n)
        if not row.reference:
            found[f"{name}.gain"] = Estimate(row.gain, (row.gain_low, row.gain_high), row.n)
    return found


def table_of_results(results: Mapping[str, Estimate], concept: str) -> pd.DataFrame:
    """The table that `ablation_results` was given; other results are passed over."""
    rows = []
    for name, iou in results.items():
        found = NAME.fullmatch(name)
        if not found or found[1] != concept:
            continue
        choice, setting, kind = found.groups()[1:]
        more = results.get(name.removesuffix("iou") + "gain")
        rows.append(
            {
                "choice": choice,
                "setting": setting,
                "words": words_of(choice, setting),
                "reference": more is None,
                "kind": kind,
                **dict(zip(("iou", "low", "high"), (iou.value, *iou.ci95), strict=True)),
                "n": iou.n,
                **dict(
                    zip(GAIN, (more.value, *more.ci95) if more else (0.0, 0.0, 0.0), strict=True)
                ),
            }
        )
    rows.sort(key=_place)
    columns = ["choice", "setting", "words", "reference", "kind", "iou", "low", "high", "n", *GAIN]
    kinds = {"reference": bool, "n": int} | dict.fromkeys(("iou", "low", "high", *GAIN), float)
    return pd.DataFrame(rows, columns=columns).astype(kinds)


GAIN = ("gain", "gain_low", "gain_high")


def words_of(choice: str, setting: str) -> str:
    """A setting as a reader would write it."""
    said = WORDS.get(choice, "{}")
    if isinstance(said, dict):
        return said[setting]
    return said.format(setting.replace("_", ".") if choice in SHARES else setting)


def _place(row: Mapping) -> tuple:
    """By choice, the reference first, numbers as numbers."""
    setting = row["setting"].replace("_", ".")
    number = float(setting) if re.fullmatch(r"[\d.]+", setting) else 0.0
    return list(CHOICES).index(row["choice"]), not row["reference"], number, setting, row["kind"]
