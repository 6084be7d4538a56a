"""Regions of background that a model is taught to paint (section 3.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .inputs import as_mask


def sample_rectangle(
    foreground: torch.Tensor,
    generator: torch.Generator,
    *,
    n: int = 1,
    tries: int = 100,
    min_side: float = 10.0,
    max_side: float = 32.0,
    min_area: float = 256.0,
    max_area: float = 1024.0,
    min_background: float = 2 / 3,
) -> torch.Tensor:
    """Draw a random region of background to learn to paint, as a (h, w) bool mask (section 3.4).

    Two background cells, drawn at random, are opposite corners of a box. It is accepted if both
    sides exceed `min_side`, not both exceed `max_side`, its area lies in `min_area` to `max_area`
    and background makes up `min_background` of that area; the region is the box without its
    foreground cells. If no box of `tries` is accepted, the region is the whole background; with
    at most one background cell it is empty. The region never covers foreground. Of `n` boxes,
    drawn one by one in this way, it is the union.

    Sides and areas are those of the paper's 64x64 grid, whatever the grid: a box is judged as it
    would be if its cells were blown up to 64x64. There the paper measures from corner cell to
    corner cell, so that s of g cells have the side 64 s / g - 1; at 64x64 this is its rule to the
    letter, and at 16x16 sides are 3 cells or more and areas 20 to 66 cells.

    foreground: (h, w) bool. generator: a CPU generator; one call always uses up 2 n tries draws.
    """
    fg = as_mask("foreground", foreground)
    if fg.ndim != 2:
        raise ValueError(f"foreground: expected shape (h, w), got {tuple(fg.shape)}")
    if n < 1 or tries < 1:
        raise ValueError(f"n and tries: got {n} and {tries}, allowed is 1 or more")
    background = ~fg.cpu()
    cells = background.nonzero()  # (K, 2), rows y, x
    if len(cells) <= 1:
        return torch.zeros_like(fg)
    h, w = background.shape
    # summed[y, x] counts the background above and left of (y, x): any box in four look-ups
    summed = F.pad(background.long().cumsum(0).cumsum(1), (1, 0, 1, 0))
    region = torch.zeros_like(background)
    for _ in range(n):
        corners = cells[torch.randint(len(cells), (tries, 2), generator=generator)]
        (y0, x0), (y1, x1) = corners.amin(1).unbind(1), (corners.amax(1) + 1).unbind(1)
        inside = summed[y1, x1] - summed[y0, x1] - summed[y1, x0] + summed[y0, x0]
        height, width = (y1 - y0) * (64 / h) - 1, (x1 - x0) * (64 / w) - 1
        area = height * width
        accepted = (height > min_side) & (width > min_side)
        accepted &= ~((height > max_side) & (width > max_side))
        accepted &= (area >= min_area) & (area <= max_area)
        accepted &= inside * (64 / h) * (64 / w) >= min_background * area
        if not accepted.any():
            return background.to(fg.device)
        i = int(accepted.int().argmax())
        region[y0[i] : y1[i], x0[i] : x1[i]] = True
    return (region & background).to(fg.device)
