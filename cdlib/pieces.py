"""Whose pieces: of a mask in pieces, those that the word attends to (after `cdlib.outlines`).

What a scene holds besides the object can come into a mask: attention to "bird" also falls on a fish
beside it, and nothing later asks what a thing is called. But it falls on the bird more strongly,
and where the two do not touch, the mask has a piece for each. The paper does not do this.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from cdlib.checks import real_number
from cdlib.masks.inputs import as_maps, as_mask

LEAST = 0.8  # chosen once for all concepts, by the true masks of validation scenes
DIAGONALS = np.ones((3, 3))  # connect


def attended_pieces(
    masks: torch.Tensor,  # (N, H, W) bool
    m_hat: torch.Tensor,  # (N, h, w), of the same images
    least: float = LEAST,
) -> torch.Tensor:
    """The pieces of each mask that the word attends to as strongly as to the strongest, or nearly.

    A piece is what hangs together, diagonals too. How strongly it is attended to is the maximum of
    M_hat in it, above the median of the whole map, with M_hat brought to the masks' size by
    bilinear interpolation. The maximum and not the mean: a leg is attended to less than a head.

    least: of that of the strongest piece, in [0, 1]; 0 keeps pieces no less attended to than most
        of the image, 1 the strongest alone. That one is always kept.

    Gives bool (N, H, W). Raises ValueError for masks, maps or a share that do not fit.
    """
    masks, m_hat = as_mask("masks", masks), as_maps("m_hat", m_hat)
    if masks.ndim != 3 or len(masks) != len(m_hat):
        raise ValueError(
            f"masks: must be (N, H, W) with N = {len(m_hat)}, a mask for each of m_hat's maps, "
            f"not {tuple(masks.shape)}."
        )
    least = real_number("least", least, 0, 1)
    size = tuple(masks.shape[1:])
    maps = F.interpolate(m_hat[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]
    above = (maps - maps.flatten(1).median(1).values[:, None, None]).cpu().numpy()
    kept = [_kept(mask, a, least) for mask, a in zip(masks.cpu().numpy(), above, strict=True)]
    return torch.from_numpy(np.stack(kept)).to(masks.device) if kept else masks.clone()


def _kept(mask: np.ndarray, attention: np.ndarray, least: float) -> np.ndarray:
    pieces, n = ndimage.label(mask, structure=DIAGONALS)
    if n < 2:
        return mask
    numbers = np.arange(1, n + 1)
    strength = ndimage.maximum(attention, pieces, numbers)
    strongest = strength.max()
    return np.isin(pieces, numbers[(strength >= least * strongest) | (strength == strongest)])
