"""What the paper scores: a square from the middle of each image, small (6.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from cdlib.checks import whole_number

HALF = 0.5  # a true mask's pixel of which at least so much is object, is object


def centre_crop(batch: torch.Tensor, side: int = 128) -> torch.Tensor:
    """Short side to `side` pixels, then the square in the middle, as the paper's test does (6.3).

    Bilinear, pixels that shrink being averages of those they cover. The paper's code does not
    average, and calls any pixel that a true mask has touched object, which makes objects fatter;
    here masks are cut at one half, so that their area stays.

    batch: images (N, C, H, W) or maps (N, H, W), floats; or masks, bool (N, H, W), which stay bool.
    Returns (N, C, side, side) or (N, side, side).
    """
    if batch.ndim not in (3, 4) or 0 in batch.shape:
        raise ValueError(
            f"batch: expected shape (N, C, H, W) or (N, H, W), got {tuple(batch.shape)}"
        )
    side = whole_number("side", side, 1)
    height, width = batch.shape[-2:]
    short = min(height, width)
    size = [side * length // short for length in (height, width)]
    planes = batch if batch.ndim == 4 else batch[:, None]
    scaled = planes.float()
    if size != [height, width]:
        scaled = F.interpolate(scaled, size, mode="bilinear", antialias=True)
    top, left = ((length - side) // 2 for length in size)
    square = scaled[..., top : top + side, left : left + side]
    square = square >= HALF if batch.dtype == torch.bool else square.to(batch.dtype)
    return square if batch.ndim == 4 else square[:, 0]
