"""Masks without training: by colour alone, by colour and place, by attention cut at a share."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from cdlib.checks import one_of, real_number, whole_number
from cdlib.masks import fill_and_close, thresholds
from cdlib.outlines import grabcut_sides

from .inputs import check_images

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in brightness (ITU-R BT.601)


def frame_distance(images: torch.Tensor, width: int = 2) -> torch.Tensor:
    """How far each pixel's colour is from the mean colour of the image's frame: (N, H, W).

    The frame is mostly background, so what is far from it may be the object. images: (N, 3, H, W)
    in [0, 1]; width: of the frame, in pixels. Distances are Euclidean in RGB, in [0, sqrt(3)].
    """
    mean = images[:, :, _frame(images, width)].mean(-1)
    return (images - mean[:, :, None, None]).norm(dim=1)


def otsu_mask(images: torch.Tensor, width: int = 2) -> torch.Tensor:
    """Objects by colour alone: `frame_distance` cut at Otsu's threshold (1979), bool (N, H, W)."""
    return otsu_baseline(images, width=width)


def otsu_baseline(
    images: torch.Tensor,
    of: str = "frame",
    *,
    width: int = 2,
    sigma: float = 0.0,
    close: bool = False,
) -> torch.Tensor:
    """Objects by colour alone: one number a pixel, cut at Otsu's threshold (1979), (N, H, W) bool.

    of: "frame", the distance from the frame's colour, see `frame_distance`; or "grey", brightness
    as in Otsu's paper, where the object is whichever side covers less than half of the frame.
    width: of the frame, in pixels. sigma: of a Gaussian that images are blurred with first, in
    pixels. close: gaps and holes of the mask, see `fill_and_close`. images: (N, 3, H, W) in [0, 1].
    """
    one_of("of", of, ("frame", "grey"))
    frame = _frame(images, width)
    if real_number("sigma", sigma, 0):
        blurred = ndimage.gaussian_filter(images.cpu().numpy(), (0, 0, sigma, sigma))
        images = torch.from_numpy(blurred).to(images.device)
    if of == "frame":
        mask = _cut_by_otsu(frame_distance(images, width))
    else:
        mask = _cut_by_otsu(torch.einsum("nchw,c->nhw", images, images.new_tensor(LUMA)))
        mask ^= (mask[:, frame].float().mean(1) > 0.5)[:, None, None]
    return fill_and_close(mask) if close else mask


def grabcut(
    images: torch.Tensor,
    share: float = 0.8,
    *,
    iterations: int = 5,
    outside: str = "background",
    side: int = 0,
    seed: int = 0,
) -> torch.Tensor:
    """Objects by colour and place: OpenCV's GrabCut (Rother et al., 2004), bool (N, H, W).

    It starts from a box in the middle of the image, whose pixels are probably object, and in turns
    fits five Gaussians to the colours of either side and cuts the image where neighbours differ.

    images: (N, 3, H, W) in [0, 1]; OpenCV sees 8 bits a channel. share: of the image's height and
    width that the box takes, 0.05 to 0.99. iterations: how many turns. outside: of the box
    is "background" for good, as where a user has drawn it, or "probably" so. side: pixels to which
    smaller images are enlarged, 0 for none, and seed: see `cdlib.outlines.grabcut_sides`.
    """
    check_images(images)
    height, width = images.shape[2:]
    share = real_number("share", share, 0.05, 0.99)
    turns = whole_number("iterations", iterations, 1)
    if min(height, width) < 8:
        raise ValueError(f"images: GrabCut needs sides of 8 pixels or more, not {height}x{width}.")
    sure = one_of("outside", outside, ("background", "probably")) == "background"
    start = np.full((height, width), cv2.GC_BGD if sure else cv2.GC_PR_BGD, dtype=np.uint8)
    rows, columns = (min(max(3, round(share * side)), side - 2) for side in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    start[top : top + rows, left : left + columns] = cv2.GC_PR_FGD
    pixels = (images.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()
    found = np.empty((len(images), height, width), dtype=bool)
    for mask, image in zip(found, pixels, strict=True):
        mask[:] = grabcut_sides(image, start, turns, side, seed)
    return torch.from_numpy(found).to(images.device)


def daam_mask(
    m_hat: torch.Tensor,
    size: tuple[int, int] | None = None,
    *,
    threshold: float = 0.4,
    of: str = "maximum",
) -> torch.Tensor:
    """Attention cut at a share of its maximum, as DAAM does it (Tang et al., 2023): bool (N, H, W).

    m_hat: (N, h, w), 0 or more. size: (H, W), to which maps are brought by bicubic interpolation
    before they are cut, as in DAAM's code; None leaves them as they are.
    threshold: object is what lies above this share, in 0..1. of: the "maximum", as its paper says,
    or the map's "range", once its lowest value has been taken off, as its code does.
    """
    if m_hat.ndim != 3 or 0 in m_hat.shape or not m_hat.is_floating_point():
        raise ValueError(
            f"m_hat: must be floats of shape (N, h, w), not {m_hat.dtype} of {tuple(m_hat.shape)}."
        )
    threshold = real_number("threshold", threshold, 0, 1)
    maps = m_hat.float()
    if size is not None:
        maps = F.interpolate(maps[:, None], tuple(size), mode="bicubic")[:, 0]
    if one_of("of", of, ("maximum", "range")) == "range":
        maps = maps - maps.amin((1, 2), keepdim=True)
    return maps > threshold * maps.amax((1, 2), keepdim=True)


def _cut_by_otsu(maps: torch.Tensor) -> torch.Tensor:
    return maps > thresholds(maps, "otsu").threshold[:, None, None]


def _frame(images: torch.Tensor, width: int) -> torch.Tensor:
    """The image's outermost pixels, bool (H, W)."""
    check_images(images)
    if not 1 <= width <= min(images.shape[2:]) // 2:
        raise ValueError(f"width={width!r}: allowed is 1 to half of the image's side.")
    frame = torch.ones(images.shape[2:], dtype=torch.bool, device=images.device)
    frame[width:-width, width:-width] = False
    return frame
