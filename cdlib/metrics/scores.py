"""Masks against masks: accuracy and IoU, pooled over all images or one by one (6.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .inputs import as_mask_pair, as_masks
from .intervals import Estimate, bootstrap_ci

SCORES = ("acc", "iou", "miou")


def confusion(pred: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """Pixels counted by image, (N, 4) int64: true positive, false positive, false negative, true
    negative. pred, truth: bool (N, H, W).
    """
    pred, truth = as_mask_pair(pred, truth)
    cells = (pred & truth, pred & ~truth, ~pred & truth, ~pred & ~truth)
    return np.stack([c.sum((1, 2)) for c in cells], axis=1).astype(np.int64)


def scores_from_confusion(counts: ArrayLike) -> dict[str, np.ndarray]:
    """acc, iou of the foreground, and miou, its mean with the background's, in 0..1.

    counts: (..., 4) as from `confusion`. Two masks that are both empty agree: IoU 1.
    """
    tp, fp, fn, tn = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    fg, bg = (_iou(hit, hit + fp + fn) for hit in (tp, tn))
    return {"acc": _iou(tp + tn, tp + fp + fn + tn), "iou": fg, "miou": (fg + bg) / 2}


def pooled_scores(pred: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """acc, iou, miou from one confusion matrix over all pixels of all images (section 6.3)."""
    counts = confusion(pred, truth).sum(0)
    return {name: float(v) for name, v in scores_from_confusion(counts).items()}


def per_image_scores(pred: ArrayLike, truth: ArrayLike) -> dict[str, np.ndarray]:
    """acc, iou, miou of each image, (N,) each."""
    return scores_from_confusion(confusion(pred, truth))


def best_grid_iou(truth: ArrayLike, grid: tuple[int, int]) -> float:
    """The highest pooled IoU that any masks on a grid of (h, w) cells can reach against `truth`.

    Pooled IoU is a ratio of sums over cells, so the best choice takes the cells with the largest
    share of foreground, over all images, down to some share. truth: bool (N, H, W).
    """
    truth = as_masks("truth", truth)
    n, height, width = truth.shape
    if height % grid[0] or width % grid[1]:
        raise ValueError(f"grid: {grid} does not divide masks of {height}x{width}")
    cells = truth.reshape(n, grid[0], height // grid[0], grid[1], width // grid[1]).sum((2, 4))
    hits = np.sort(cells, axis=None)[::-1]
    size = (height // grid[0]) * (width // grid[1])
    tp = hits.cumsum()
    return float(_iou(tp, truth.sum() + size * np.arange(1, len(hits) + 1) - tp).max())


def pooled_estimates(
    pred: ArrayLike, truth: ArrayLike, n_boot: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """`pooled_scores` with their 95% intervals over images."""
    return estimates_from_confusion(confusion(pred, truth), n_boot, seed)


def estimates_from_confusion(
    counts: ArrayLike, n_boot: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """`pooled_estimates` of what `confusion` has counted, (N, 4)."""
    counts = np.asarray(counts)
    point = scores_from_confusion(counts.sum(0))
    return {
        name: Estimate.around(
            point[name],
            bootstrap_ci(
                lambda draws, name=name: scores_from_confusion(draws @ counts)[name],
                len(counts),
                n_boot,
                seed,
            ),
            len(counts),
        )
        for name in SCORES
    }


def _iou(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.ones_like(part, dtype=np.float64), where=whole > 0)
