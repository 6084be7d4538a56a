"""Objects painted over without a model: by the background beside them, or by OpenCV."""

from __future__ import annotations

from numbers import Real

import cv2
import numpy as np
import torch

from cdlib.checks import one_of
from cdlib.masks import upsample_mask

from .inputs import check_images

CV2_METHODS = {"telea": cv2.INPAINT_TELEA, "ns": cv2.INPAINT_NS}


def crop_baseline(images: torch.Tensor, m_pre: torch.Tensor) -> torch.Tensor:
    """M_crop's stand-in for the removal: background flipped over the object, (N, 3, H, W).

    The paper's supplement says "extracting the largest background region according to the
    preliminary masks and then flipping it into the region of the foreground object" (section 5.4)
    and no more. Here the region is the largest rectangle without a cell of M_pre. Flipped at its
    edges, again and again like a paper strip folded up, it covers the plane, and the object's cells
    take what comes to lie on them. So every mask with any background has its answer, nothing is
    rescaled, and next to the rectangle the picture goes on without a seam. An image that is
    all object stays as it is.

    images: (N, 3, H, W) floats. m_pre: (N, h, w) bool, h and w dividing H and W.
    """
    check_images(images)
    n, _, height, width = images.shape
    if m_pre.dtype != torch.bool or m_pre.ndim != 3 or len(m_pre) != n:
        raise ValueError(
            f"m_pre: must be bool of shape ({n}, h, w), not {m_pre.dtype} of {tuple(m_pre.shape)}."
        )
    h, w = m_pre.shape[1:]
    if height % h or width % w:
        raise ValueError(f"m_pre: {h}x{w} cells do not divide images of {height}x{width}.")
    flipped = images.clone()
    for i, (top, left, rows, columns) in enumerate(largest_rectangles(~m_pre).tolist()):
        if rows:
            y = _fold(height, top * height // h, rows * height // h)
            x = _fold(width, left * width // w, columns * width // w)
            flipped[i] = images[i][:, y[:, None], x]
    covered = upsample_mask(m_pre, (height, width)).to(images.device)
    return torch.where(covered[:, None], flipped, images)


def largest_rectangles(free: torch.Tensor) -> torch.Tensor:
    """The largest axis-aligned rectangle of True cells in each of (N, h, w): (N, 4) int64.

    Columns: top, left, rows, columns. Of several as large, it is the flattest, of those the
    leftmost, then the topmost. Without a True cell all four are 0.
    """
    n, h, w = free.shape
    free = free.cpu().numpy()
    above = np.zeros((n, h, w), dtype=np.int64)  # True cells in a row, from here upwards
    above[:, 0] = free[:, 0]
    for y in range(1, h):
        above[:, y] = (above[:, y - 1] + 1) * free[:, y]
    best, found = np.zeros(n, dtype=np.int64), np.zeros((n, 4), dtype=np.int64)
    for rows in range(1, h + 1):
        columns = np.zeros((n, h), dtype=np.int64)  # that are as tall, from here to the left
        for right in range(w):
            columns = (columns + 1) * (above[:, :, right] >= rows)
            bottom = columns.argmax(1)
            widest = columns.max(1)
            better = rows * widest > best
            corner = [bottom - rows + 1, right - widest + 1, np.full(n, rows), widest]
            found[better] = np.stack(corner, axis=1)[better]
            best = np.maximum(best, rows * widest)
    return torch.from_numpy(found)


def _fold(length: int, first: int, count: int) -> torch.Tensor:
    """For each of `length` pixels, which of those from `first` on, `count` of them, falls on it
    when the strip is flipped at both of its ends and so on; those of the strip fall on themselves.
    """
    place = (torch.arange(length) - first) % (2 * count)
    return first + torch.minimum(place, 2 * count - 1 - place)


def cv2_inpaint(
    images: torch.Tensor, mask: torch.Tensor, method: str = "telea", radius: float = 3.0
) -> torch.Tensor:
    """OpenCV's inpainting of what the mask covers: (N, 3, H, W) float32, the rest untouched.

    method: "telea", fast marching (Telea, 2004), or "ns", Navier-Stokes (Bertalmio et al., 2001).
    radius: of the neighbourhood that a pixel is made from, in pixels. OpenCV sees 8 bits a channel.
    images: (N, 3, H, W) in [0, 1]. mask: (N, H, W) bool.
    """
    check_images(images)
    flag = CV2_METHODS[one_of("method", method, CV2_METHODS)]
    if isinstance(radius, bool) or not isinstance(radius, Real) or not 0 < radius < np.inf:
        raise ValueError(f"radius={radius!r}: must be a number of pixels above 0.")
    wanted = (len(images), *images.shape[2:])
    if mask.dtype != torch.bool or tuple(mask.shape) != wanted:
        raise ValueError(
            f"mask: must be bool of shape {wanted}, not {mask.dtype} of {tuple(mask.shape)}."
        )
    pixels = (images.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()
    holes = mask.byte().cpu().numpy()
    painted = np.stack(
        [
            cv2.inpaint(np.ascontiguousarray(image), hole, radius, flag)
            for image, hole in zip(pixels, holes, strict=True)
        ]
    )
    painted = torch.from_numpy(painted).permute(0, 3, 1, 2).to(images.device).float() / 255
    return torch.where(mask[:, None].to(images.device), painted, images.float())
