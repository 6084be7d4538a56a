"""No baseline is handicapped: settings are chosen on validation images, where the truth is known.

The method itself is not tuned so: it never sees a true mask. What is chosen here favours the
baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd
import torch

from cdlib.checks import one_of
from cdlib.metrics import pooled_scores

from .masks import daam_mask, grabcut, otsu_baseline


def _grid(**choices: Sequence) -> list[dict]:
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


# What is tried, the published setting first where there is one: Otsu's of grey values, DAAM's 0.4.
GRIDS: dict[str, list[dict]] = {
    "otsu": _grid(of=("grey", "frame"), sigma=(0.0, 1.0), close=(False, True)),
    "grabcut": _grid(
        share=(0.8, 0.5, 0.85, 0.9, 0.95), outside=("background", "probably"), side=(0, 256)
    ),
    "daam": _grid(of=("maximum", "range"), threshold=(0.4, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8)),
}


@dataclass(frozen=True)
class Rival:
    """A baseline with its settings.

    name: "otsu", "grabcut" or "daam". settings: what its function takes. iou: pooled, on the images
    that the settings were chosen on. tried: a row for every setting with its iou, in the order of
    the grid.
    """

    name: str
    settings: Mapping[str, object]
    iou: float
    tried: pd.DataFrame

    def masks(self, images: torch.Tensor, m_hat: torch.Tensor | None = None) -> torch.Tensor:
        """Its masks, bool (N, H, W), of images (N, 3, H, W); "daam" needs their M_hat too."""
        return _masks(self.name, images, m_hat, self.settings)


def tune(
    name: str,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    truth: torch.Tensor,  # (N, H, W) bool
    m_hat: torch.Tensor | None = None,  # (N, h, w), for "daam"
    grid: Sequence[Mapping[str, object]] | None = None,
) -> Rival:
    """The settings with the highest pooled IoU; of several as high, the first.

    Give validation images, never those it is scored on. grid: settings to try, by default GRIDS.
    """
    grid = GRIDS[one_of("name", name, GRIDS)] if grid is None else list(grid)
    if not grid:
        raise ValueError("grid: has no settings to try.")
    ious = [pooled_scores(_masks(name, images, m_hat, settings), truth)["iou"] for settings in grid]
    tried = pd.DataFrame(
        [{**settings, "iou": iou} for settings, iou in zip(grid, ious, strict=True)]
    )
    best = int(tried["iou"].argmax())
    return Rival(name, dict(grid[best]), ious[best], tried)


def _masks(
    name: str, images: torch.Tensor, m_hat: torch.Tensor | None, settings: Mapping[str, object]
) -> torch.Tensor:
    if name == "daam":
        if m_hat is None or len(m_hat) != len(images):
            given = "none" if m_hat is None else len(m_hat)
            raise ValueError(
                f"m_hat: daam needs a map for each of {len(images)} images, not {given}."
            )
        return daam_mask(m_hat, tuple(images.shape[2:]), **settings)
    by_colour: dict[str, Callable] = {"otsu": otsu_baseline, "grabcut": grabcut}
    return by_colour[name](images, **settings)
