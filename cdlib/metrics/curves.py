"""What a threshold hides: precision against recall, the best F, and whether odds mean odds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_curve as sklearn_curve

from cdlib.checks import real_number, whole_number

from .inputs import as_masks, as_scores
from .intervals import Estimate, bootstrap_ci

LEVELS = 255  # thresholds of the usual maxF: those of a map of 8 bits


class Reliability(NamedTuple):
    """Pixels by how likely they were said to be object, in bins of equal width that are not empty.

    said: the mean probability in a bin, found: the share that is object, weight: the bin's share of
    all pixels; (B,) each, in 0..1. error: the expected calibration error with its 95% interval.
    """

    said: np.ndarray
    found: np.ndarray
    weight: np.ndarray
    error: Estimate


def precision_recall_curve(
    scores: ArrayLike, masks: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall of pixels at every threshold that tells them apart, by scikit-learn.

    Pooled over all images. scores: (N, H, W) finite, masks: bool of the same shape with some
    foreground. Returns thresholds, rising, precision, recall; object is what reaches a threshold.
    """
    scores, truth = _paired(scores, masks)
    if not truth.any():
        raise ValueError("masks: recall needs pixels of the object, got none")
    precision, recall, thresholds = sklearn_curve(truth.ravel(), scores.ravel())
    return thresholds, precision[:-1], recall[:-1]  # the last pair has no threshold


def max_f_beta(scores: ArrayLike, masks: ArrayLike, beta2: float = 0.3) -> tuple[float, float]:
    """The highest F of any one threshold for all images, and that threshold.

    F = (1 + beta2) P R / (beta2 P + R), pooled; a beta2 of 0.3 has precision count for more
    (Achanta et al., 2009). It looks at the truth: what a map could give, not what it gives.
    scores, masks: as in `precision_recall_curve`.
    """
    thresholds, precision, recall = precision_recall_curve(scores, masks)
    f = _f_beta(precision, recall, real_number("beta2", beta2, 0, above=True))
    best = int(f.argmax())
    return float(f[best]), float(thresholds[best])


def max_f_beta_estimate(
    scores: ArrayLike,
    masks: ArrayLike,
    beta2: float = 0.3,
    n_boot: int = 1000,
    seed: int = 0,
) -> Estimate:
    """`max_f_beta` with its 95% interval over images, whose draws each choose their threshold.

    The draws choose among the 255 even steps of the scores' range: each image becomes two
    histograms, and a draw is their weighted sum.
    """
    value, _ = max_f_beta(scores, masks, beta2)
    scores, truth = _paired(scores, masks)
    span = np.ptp(scores) or 1.0
    level = np.floor((scores - scores.min()) / span * LEVELS).astype(np.int64)
    fg, bg = (_by_image(level, LEVELS + 1, mask) for mask in (truth, ~truth))
    fg, bg = (counts[:, ::-1].cumsum(1) for counts in (fg, bg))  # what reaches each level

    def statistic(draws: np.ndarray) -> np.ndarray:
        hits, others = draws @ fg, draws @ bg
        with np.errstate(invalid="ignore"):  # nothing reaches the level, or a draw has no object
            f = _f_beta(hits / (hits + others), hits / hits[:, -1:], beta2)
        return np.where(hits[:, -1] > 0, f.max(1), np.nan)

    return Estimate.around(value, bootstrap_ci(statistic, len(fg), n_boot, seed), len(fg))


def reliability(
    probabilities: ArrayLike, masks: ArrayLike, bins: int = 10, n_boot: int = 1000, seed: int = 0
) -> Reliability:
    """Of the pixels said to be object with probability p, is a share p object?

    The error is the mean over pixels of |found - said| of their bin (Naeini et al., 2015; Guo et
    al., 2017), 0 for probabilities that mean what they say. Few images make it too high.
    probabilities: (N, H, W) in 0..1, masks: bool of the same shape. A bin has its upper edge.
    """
    probabilities, truth = _paired(probabilities, masks)
    low, high = probabilities.min(), probabilities.max()
    if low < 0 or high > 1:
        raise ValueError(f"probabilities: allowed is 0 to 1, got {low:g} to {high:g}")
    bins = whole_number("bins", bins, 1)
    index = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probabilities)
    said, found, pixels = (
        _by_image(index, bins, weights) for weights in (probabilities, truth, np.ones_like(truth))
    )

    def statistic(draws: np.ndarray) -> np.ndarray:
        return np.abs(draws @ (found - said)).sum(1) / (draws @ pixels).sum(1)

    n = len(truth)
    value = statistic(np.ones((1, n)))[0]
    error = Estimate.around(value, bootstrap_ci(statistic, n, n_boot, seed), n)
    said, found, pixels = (sums.sum(0) for sums in (said, found, pixels))
    held = pixels > 0
    said, found = (sums[held] / pixels[held] for sums in (said, found))
    return Reliability(said, found, pixels[held] / pixels.sum(), error)


def _f_beta(precision: np.ndarray, recall: np.ndarray, beta2: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        f = (1 + beta2) * precision * recall / (beta2 * precision + recall)
    return np.nan_to_num(f, nan=0.0)  # where both are 0


def _by_image(index: np.ndarray, bins: int, weights: np.ndarray) -> np.ndarray:
    """Sums of weights by image and bin, (N, bins) float64."""
    return np.stack(
        [
            np.bincount(i.ravel(), w.ravel(), bins)
            for i, w in zip(index, weights.astype(np.float64), strict=True)
        ]
    )


def _paired(scores: ArrayLike, masks: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = as_scores(scores), as_masks("masks", masks)
    if scores.shape != truth.shape:
        raise ValueError(f"scores: shape {scores.shape} differs from that of masks {truth.shape}")
    return scores, truth
