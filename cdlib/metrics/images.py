"""Images against images: how close is a removal to the truth behind the object?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from skimage.metrics import structural_similarity

from .inputs import as_masks, to_numpy

SSIM_WINDOW = 11  # pixels on a side, with Gaussian weights of sigma 1.5


def psnr(a: ArrayLike, b: ArrayLike, mask: ArrayLike | None = None) -> np.ndarray:
    """Peak signal-to-noise ratio of each image in dB, (N,), inside a mask if one is given.

    a, b: (N, C, H, W) in 0..1. mask: bool (N, H, W). Equal images give inf, an empty mask NaN.
    """
    a, b = _as_image_pair(a, b)
    error = ((a - b) ** 2).mean(1)  # (N, H, W)
    inside = np.ones(error.shape, dtype=bool) if mask is None else _as_region(mask, a)
    with np.errstate(invalid="ignore", divide="ignore"):
        return -10 * np.log10((error * inside).sum((1, 2)) / inside.sum((1, 2)))


def ssim(a: ArrayLike, b: ArrayLike, mask: ArrayLike | None = None) -> np.ndarray:
    """Structural similarity of each image, (N,) in -1..1 (Wang et al., 2004, their constants).

    The mean of the SSIM map over channels and pixels. Without a mask, pixels whose window reaches
    out of the image are left out, as in the authors' code. With one, it is the mean over the mask's
    pixels: their windows, 11 pixels wide, also see what is around the mask, and at the image's edge
    its reflection. An empty mask gives NaN. `mean_estimate` puts an interval to it.

    a, b: (N, C, H, W) in 0..1, 11 pixels or more on a side. mask: bool (N, H, W).
    """
    a, b = _as_image_pair(a, b)
    if min(a.shape[2:]) < SSIM_WINDOW:
        raise ValueError(f"a, b: SSIM needs sides of {SSIM_WINDOW} pixels or more, got {a.shape}")
    region = None if mask is None else _as_region(mask, a)
    values = []
    for i in range(len(a)):
        whole, each = structural_similarity(
            a[i],
            b[i],
            data_range=1.0,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        if region is None:
            values.append(whole)
        else:
            values.append(each[:, region[i]].mean() if region[i].any() else np.nan)
    return np.array(values)


def _as_image_pair(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = to_numpy(a).astype(np.float64), to_numpy(b).astype(np.float64)
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f"a, b: expected one shape (N, C, H, W), got {a.shape} and {b.shape}")
    return a, b


def _as_region(mask: ArrayLike, images: np.ndarray) -> np.ndarray:
    region = as_masks("mask", mask)
    if region.shape != (len(images), *images.shape[2:]):
        raise ValueError(f"mask: shape {region.shape} does not fit images of {images.shape}")
    return region
