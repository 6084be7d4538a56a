"""Images against images: how close is a removal to the truth behind the object?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .inputs import as_masks, to_numpy


def psnr(a: ArrayLike, b: ArrayLike, mask: ArrayLike | None = None) -> np.ndarray:
    """Peak signal-to-noise ratio of each image in dB, (N,), inside a mask if one is given.

    a, b: (N, C, H, W) in 0..1. mask: bool (N, H, W). Equal images give inf, an empty mask NaN.
    """
    a, b = to_numpy(a).astype(np.float64), to_numpy(b).astype(np.float64)
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f"a, b: expected one shape (N, C, H, W), got {a.shape} and {b.shape}")
    error = ((a - b) ** 2).mean(1)  # (N, H, W)
    inside = np.ones(error.shape, dtype=bool) if mask is None else as_masks("mask", mask)
    if inside.shape != error.shape:
        raise ValueError(f"mask: shape {inside.shape} does not fit images of {a.shape}")
    with np.errstate(invalid="ignore", divide="ignore"):
        return -10 * np.log10((error * inside).sum((1, 2)) / inside.sum((1, 2)))
