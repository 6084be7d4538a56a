"""Outlines by colour: the refined mask laid where colours change, by OpenCV's GrabCut.

The paper cuts a difference of two pictures. It misses where what was painted has the object's
colour, and takes in shadows, rims and background that was painted anew. What such pixels *look*
like tells most of them apart, and GrabCut asks just that. The paper does not do this, and neither
do the chapters unless they are asked to (`polish`).
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from cdlib.checks import one_of
from cdlib.masks import dilate_mask, refine, upsample_mask

POLISHES = ("none", "grabcut")
LEAST = 5  # pixels on either side: GrabCut fits as many Gaussians to their colours


def grabcut_sides(
    image: np.ndarray, sides: np.ndarray, iterations: int, side: int = 0, seed: int = 0
) -> np.ndarray:
    """One image cut in two by OpenCV's GrabCut (Rother et al., 2004): bool (H, W), the object.

    image: (H, W, 3) uint8. sides: (H, W) uint8 of cv2.GC_BGD, GC_PR_BGD, GC_PR_FGD, GC_FGD to
    start from. side: smaller images are enlarged to at least this many pixels a side, by a whole
    factor, and the cut goes by the majority of what becomes of a pixel; 0 leaves them as they are.
    seed: of the k-means that the Gaussians start from.
    """
    height, width = sides.shape
    factor = max(1, -(-side // min(height, width)))
    if factor > 1:  # an outline is a pixel wide, and colours mix there: between pixels lies more
        size = (width * factor, height * factor)
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        sides = cv2.resize(sides, size, interpolation=cv2.INTER_NEAREST)
    cv2.setRNGSeed(seed)  # OpenCV has one generator for all; each image alone gives the same
    image, sides, models = np.ascontiguousarray(image), sides.copy(), np.zeros((2, 1, 65))
    cv2.grabCut(image, sides, None, *models, iterations, cv2.GC_INIT_WITH_MASK)
    found = ((sides == cv2.GC_FGD) | (sides == cv2.GC_PR_FGD)).astype(np.float32)
    return cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA) > 0.5


def sharpen(
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    removed: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    m_pre: torch.Tensor,  # (N, h, w) bool
    *,
    polish: str = "none",
    dilate: int = 0,
    upsampling: str = "bilinear-any",
    valid: torch.Tensor | None = None,
    seed: int = 0,
    **refinement,
) -> torch.Tensor:
    """M, bool (N, H, W), with the outline that was asked for.

    polish: "none" leaves it as `refine` cuts it, which is the paper's M; "grabcut" lays it by
        colour, see `polish_mask`, within M_pre widened and brought to size as `refine` does it.
    All else: see `refine`.
    """
    one_of("polish", polish, POLISHES)
    where = {"dilate": dilate, "upsampling": upsampling, "valid": valid}
    m = refine(images, removed, m_pre, **where, seed=seed, **refinement)
    if polish == "none":
        return m
    region = upsample_mask(dilate_mask(m_pre, dilate), tuple(m.shape[1:]), upsampling).to(m.device)
    if valid is not None:
        region = region & valid.to(m.device)
    return polish_mask(images, m, region, seed=seed)


def polish_mask(
    images: torch.Tensor,
    m: torch.Tensor,
    within: torch.Tensor,
    *,
    iterations: int = 3,
    side: int = 256,
    seed: int = 0,
) -> torch.Tensor:
    """A mask with its outline where colours change, bool (N, H, W), nowhere outside `within`.

    GrabCut takes what `m` holds as probably object, the rest of `within` as probably background
    and all else as background for good.

    images: (N, 3, H, W) in [0, 1]; OpenCV sees 8 bits a channel. m, within: bool (N, H, W).
    iterations: of GrabCut. side, seed: see `grabcut_sides`. A mask comes back as it is if it or
    what is outside it has fewer than 5 pixels, or if nothing of it would be left.
    """
    if images.ndim != 4 or m.shape != within.shape or m.shape != images[:, 0].shape:
        raise ValueError(
            f"m, within: must be bool (N, H, W) of images (N, 3, H, W), not {tuple(m.shape)} and "
            f"{tuple(within.shape)} of {tuple(images.shape)}."
        )
    pixels = (images.detach().permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()
    found = (m & within).cpu().numpy()
    for mask, image, region in zip(found, pixels, within.cpu().numpy(), strict=True):
        if min(mask.sum(), (~mask).sum()) < LEAST:
            continue
        sides = np.where(region, cv2.GC_PR_BGD, cv2.GC_BGD).astype(np.uint8)
        sides[mask] = cv2.GC_PR_FGD
        cut = grabcut_sides(image, sides, iterations, side, seed) & region
        if cut.any():
            mask[:] = cut
    return torch.from_numpy(found).to(m.device)
