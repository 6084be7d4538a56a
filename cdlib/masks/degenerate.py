"""Masks that nobody should learn from: empty, tiny, everywhere, or in pieces (section 5.5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from ..checks import real_number
from .inputs import as_mask

# In the order in which they are asked, so that a mask has one reason.
REASONS = ("empty", "too small", "too large", "touches every edge", "in pieces")
KEPT = "kept"


def degenerate(
    masks: torch.Tensor,  # (N, H, W) bool
    least: float = 0.01,
    most: float = 0.6,
    piece: float = 0.5,
) -> list[str]:
    """Why each mask should be left out, one of `REASONS`, or "" for one to keep.

    Nothing but the mask is looked at: no image and no truth.

    least, most: shares of the image that a mask has at least, and at most. piece: the share of it
    that lies in its largest connected piece (diagonals connect) at least; a mask that is scattered
    over the image marks nothing in particular.

    Raises ValueError for masks or bounds that do not fit.
    """
    if as_mask("masks", masks).ndim != 3:
        raise ValueError(f"masks: expected shape (N, H, W), got {tuple(masks.shape)}")
    least, most = real_number("least", least, 0, 1), real_number("most", most, 0, 1)
    if least > most:
        raise ValueError(f"least={least:g}: must be at most most={most:g}.")
    piece = real_number("piece", piece, 0, 1)
    return [_reason(mask, least, most, piece) for mask in masks.cpu().numpy()]


def reason_counts(reasons: Sequence[str]) -> dict[str, int]:
    """How many masks are kept, and how many are left out for each of `REASONS`."""
    found = Counter(reasons)
    if unknown := found.keys() - {"", *REASONS}:
        raise ValueError(f"reasons: {min(unknown)!r} is not one of {', '.join(REASONS)}.")
    return {KEPT: found[""], **{reason: found[reason] for reason in REASONS}}


def _reason(mask: np.ndarray, least: float, most: float, piece: float) -> str:
    share = mask.mean()
    if share == 0:
        return "empty"
    if share < least:
        return "too small"
    if share > most:
        return "too large"
    if all(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])):
        return "touches every edge"
    pieces, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    largest = np.bincount(pieces[mask]).max()
    return "in pieces" if largest < piece * mask.sum() else ""
