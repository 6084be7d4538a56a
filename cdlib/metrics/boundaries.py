"""How well do outlines agree: the boundary F of Martin et al. (2004), as in DAVIS."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from .inputs import as_mask_pair
from .intervals import Estimate, mean_estimate


def boundary_f(pred: ArrayLike, truth: ArrayLike, tolerance: float = 0.008) -> np.ndarray:
    """F = 2PR / (P + R) of each image's outlines, (N,) in 0..1 (Perazzi et al., 2016).

    P is the share of the prediction's outline that lies near the truth's, R the reverse. Near is
    within `tolerance` of the image's diagonal, rounded up to whole pixels: 1 at 64x64, 6 at
    512x512. The edge of the image is no outline, so that a mask of all pixels has none, like an
    empty one; two masks without outlines agree (1), one with and one without do not (0).

    pred, truth: bool (N, H, W).
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, Real) or not 0 <= tolerance < 1:
        raise ValueError(f"tolerance: got {tolerance!r}, allowed is a share from 0 to below 1")
    outlines = [_outline(mask) for mask in as_mask_pair(pred, truth)]
    radius = math.ceil(tolerance * math.hypot(*outlines[0].shape[1:]))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disc = (x * x + y * y <= radius * radius)[None]  # a plane: images do not touch
    near = [ndimage.binary_dilation(outline, disc) for outline in outlines]
    hits = [(a & b).sum((1, 2)) for a, b in zip(outlines, reversed(near), strict=True)]
    length = [outline.sum((1, 2)) for outline in outlines]
    with np.errstate(invalid="ignore"):
        precision, recall = (hit / total for hit, total in zip(hits, length, strict=True))
        f = 2 * precision * recall / (precision + recall)
    neither = (length[0] == 0) & (length[1] == 0)
    return np.where(neither, 1.0, np.nan_to_num(f, nan=0.0))


def boundary_f_estimate(
    pred: ArrayLike,
    truth: ArrayLike,
    tolerance: float = 0.008,
    n_boot: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The mean of `boundary_f`, with its 95% interval over images."""
    return mean_estimate(boundary_f(pred, truth, tolerance), n_boot, seed)


def _outline(masks: np.ndarray) -> np.ndarray:
    """Pixels that differ from the one to the right, below, or both: a line one pixel wide."""
    after = np.pad(masks, ((0, 0), (0, 1), (0, 1)), mode="edge")
    right, below, both = after[:, :-1, 1:], after[:, 1:, :-1], after[:, 1:, 1:]
    return (masks ^ right) | (masks ^ below) | (masks ^ both)
