"""What is done to a mask as a shape: filtered, filled, enlarged (3.2, 3.3, 5.3)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from ..checks import whole_number
from .inputs import as_mask

UPSAMPLING = ("nearest", "bilinear-any")


def majority_filter(mask: torch.Tensor) -> torch.Tensor:
    """Give each interior cell the majority of its 3x3 block; the border stays (section 3.2)."""
    out = as_mask("mask", mask).clone()
    h, w = out.shape[-2:]
    if h < 3 or w < 3:
        return out
    count = sum(
        out[..., dy : h - 2 + dy, dx : w - 2 + dx].int() for dy in range(3) for dx in range(3)
    )
    out[..., 1:-1, 1:-1] = count >= 5
    return out


def fill_and_close(mask: torch.Tensor) -> torch.Tensor:
    """Close gaps of one cell with a cross, then fill holes, mask by mask (section 3.3).

    Each mask gets a margin first: without it SciPy's closing eats the cells along the border,
    as it does in the paper's code. So nothing is ever taken from the mask.
    """
    mask = as_mask("mask", mask)
    planes = np.pad(mask.cpu().numpy().reshape(-1, *mask.shape[-2:]), ((0, 0), (1, 1), (1, 1)))
    for i, plane in enumerate(planes):
        planes[i] = ndimage.binary_fill_holes(ndimage.binary_closing(plane))
    inner = np.ascontiguousarray(planes[:, 1:-1, 1:-1])
    return torch.from_numpy(inner).reshape(mask.shape).to(mask.device)


def dilate_mask(mask: torch.Tensor, cells: int) -> torch.Tensor:
    """Enlarge (..., h, w) masks by `cells` in every direction, diagonals too.

    A generous M_pre helps removal: object cells that it misses are kept, and the inpainter takes
    them for something to continue (section 9.2, point 5).
    """
    mask, cells = as_mask("mask", mask), whole_number("dilate", cells, 0)
    planes = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    return (F.max_pool2d(planes, 2 * cells + 1, 1, cells) > 0).reshape(mask.shape)


def upsample_mask(mask: torch.Tensor, size: tuple[int, int], mode: str = "nearest") -> torch.Tensor:
    """Bring a mask to `size` (H, W).

    "nearest" repeats cells. "bilinear-any" is what the paper's code does (section 5.3): bilinear
    interpolation with everything above zero kept, which adds half a cell on every side.
    """
    mask = as_mask("mask", mask)
    if mode not in UPSAMPLING:
        raise ValueError(f"mode: got {mode!r}, allowed are {', '.join(UPSAMPLING)}")
    planes = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    if mode == "nearest":
        out = F.interpolate(planes, size=tuple(size), mode="nearest") > 0
    else:
        out = F.interpolate(planes, size=tuple(size), mode="bilinear", align_corners=False) > 0
    return out.reshape(*mask.shape[:-2], *size)
