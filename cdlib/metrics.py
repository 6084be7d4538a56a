"""How good is a mask, a score map or an image: the paper's protocol, with intervals.

Scores are pooled over all pixels of all images, as in the paper (sections 6.3 and 6.4 of the method
description); per-image values stand beside them. Intervals come from resampling images. Everything
takes tensors or arrays of N maps, (N, h, w), and computes in NumPy; no model is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score

SCORES = ("acc", "iou", "miou")


class Estimate(NamedTuple):
    """A number over n images with its interval; `value` and `ci95` in the units of the number."""

    value: float
    ci95: tuple[float, float]
    n: int

    @classmethod
    def around(cls, value: float, ci95: tuple[float, float], n: int) -> Estimate:
        """With an interval that holds the value: of few images, draws may miss it by a rounding."""
        value = float(value)
        return cls(value, (min(ci95[0], value), max(ci95[1], value)), n)


# ---------------------------------------------------------------- masks against masks


def confusion(pred: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """Pixels counted by image, (N, 4) int64: true positive, false positive, false negative, true
    negative. pred, truth: bool (N, H, W).
    """
    pred, truth = _as_masks("pred", pred), _as_masks("truth", truth)
    if pred.shape != truth.shape:
        raise ValueError(f"pred: shape {pred.shape} differs from truth's {truth.shape}")
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
    truth = _as_masks("truth", truth)
    n, height, width = truth.shape
    if height % grid[0] or width % grid[1]:
        raise ValueError(f"grid: {grid} does not divide masks of {height}x{width}")
    cells = truth.reshape(n, grid[0], height // grid[0], grid[1], width // grid[1]).sum((2, 4))
    hits = np.sort(cells, axis=None)[::-1]
    size = (height // grid[0]) * (width // grid[1])
    tp = hits.cumsum()
    return float(_iou(tp, truth.sum() + size * np.arange(1, len(hits) + 1) - tp).max())


# ---------------------------------------------------------------- scores against masks


def normalise_maps(scores: ArrayLike) -> np.ndarray:
    """Bring each map to the range 0..1 (the paper's "normalized instance-wise"); constant: 0."""
    scores = _as_scores(scores)
    low = scores.min((1, 2), keepdims=True)
    span = scores.max((1, 2), keepdims=True) - low
    return np.divide(scores - low, span, out=np.zeros_like(scores), where=span > 0)


def pixel_auc(
    scores: ArrayLike, masks: ArrayLike, normalise: bool = True, average: str = "pooled"
) -> float:
    """Area under the ROC curve of pixels: does the map rank the object above the rest? (6.4)

    scores: (N, h, w) finite, brought to the masks' size by repeating cells. masks: bool (N, H, W).
    normalise: map by map to 0..1 first. average: "pooled" ranks all pixels of all images together;
    "image" is the mean of each image's own AUC over the images that have both classes.
    """
    maps, truth = _paired(scores, masks, normalise)
    if average == "pooled":
        _require_both_classes(truth)
        _, rank = np.unique(maps, return_inverse=True)
        return float(_auc_from_histograms(*_pixels_in(rank, truth, maps.shape)))
    if average == "image":
        return float(np.nanmean(per_image_auc(maps, truth)))
    raise ValueError(f"average: got {average!r}, allowed are pooled, image")


def per_image_auc(scores: ArrayLike, masks: ArrayLike) -> np.ndarray:
    """Pixel AUC of each image, (N,); NaN where an image is all object or has none."""
    maps, truth = _paired(scores, masks, normalise=False)
    _require_both_classes(truth)
    maps = _repeat_to(maps, truth.shape[1:])
    return np.array(
        [
            roc_auc_score(t.ravel(), m.ravel()) if 0 < t.sum() < t.size else np.nan
            for m, t in zip(maps, truth, strict=True)
        ]
    )


def best_threshold(
    scores: ArrayLike, masks: ArrayLike, metric: str = "iou", normalise: bool = True
) -> tuple[float, float]:
    """The one threshold for all images with the best pooled score, and that score.

    It looks at the truth: choose on validation images, or call the result an oracle. Foreground is
    what reaches the threshold. metric: "acc", "iou" or "miou"; the rest as in `pixel_auc`.
    """
    if metric not in SCORES:
        raise ValueError(f"metric: got {metric!r}, allowed are {', '.join(SCORES)}")
    maps, truth = _paired(scores, masks, normalise)
    levels, rank = np.unique(maps, return_inverse=True)
    fg, bg = (c[::-1].cumsum() for c in _pixels_in(rank, truth, maps.shape))  # from the top down
    counts = np.stack([fg, bg, fg[-1] - fg, bg[-1] - bg], axis=1)
    values = scores_from_confusion(counts)[metric]
    best = int(values.argmax())
    return float(levels[::-1][best]), float(values[best])


# ---------------------------------------------------------------- intervals over images


def bootstrap_ci(
    statistic: Callable[[np.ndarray], np.ndarray],
    n_images: int,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a statistic when the images are drawn again with replacement.

    statistic: from (B, N) float64, how often each image was drawn in each of B draws, to B values.
    It is handed all draws at once, so that a matrix product does the work. Draws in which the
    statistic is undefined (NaN) do not count.
    """
    if n_images < 1 or n_boot < 1:
        raise ValueError(f"n_images and n_boot: got {n_images} and {n_boot}, allowed is 1 or more")
    if not 0 < level < 1:
        raise ValueError(f"level: got {level}, allowed is between 0 and 1")
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n_boot)
    values = np.asarray(statistic(draws.astype(np.float64)))
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def pooled_estimates(
    pred: ArrayLike, truth: ArrayLike, n_boot: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """`pooled_scores` with their 95% intervals over images."""
    counts = confusion(pred, truth)
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


def mean_estimate(values: ArrayLike, n_boot: int = 1000, seed: int = 0) -> Estimate:
    """The mean of one value an image, with its 95% interval; NaN marks an image without one."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if values.ndim != 1 or not len(values):
        raise ValueError("values: expected one number an image, at least one of them not NaN")
    ci95 = bootstrap_ci(lambda draws: draws @ values / len(values), len(values), n_boot, seed)
    return Estimate.around(values.mean(), ci95, len(values))


def pixel_auc_estimate(
    scores: ArrayLike,
    masks: ArrayLike,
    normalise: bool = True,
    bins: int = 1024,
    n_boot: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Pooled `pixel_auc`, exact, with its 95% interval over images.

    The interval's draws rank pixels by bin instead of by value: each image becomes two histograms,
    and a draw is their weighted sum.
    """
    value = pixel_auc(scores, masks, normalise)
    maps, truth = _paired(scores, masks, normalise)
    fg, bg = _score_histograms(maps, truth, bins)
    ci95 = bootstrap_ci(lambda d: _auc_from_histograms(d @ fg, d @ bg), len(fg), n_boot, seed)
    return Estimate.around(value, ci95, len(fg))


def _score_histograms(maps: np.ndarray, truth: np.ndarray, bins: int):
    """How many object and other pixels of each image fall in each bin, two (N, bins) arrays.

    Bins hold about equally many cells: AUC sees ranks alone, and a few high values would
    otherwise leave most even bins empty.
    """
    edges = np.unique(np.quantile(maps, np.linspace(0, 1, bins + 1)[1:-1]))
    index = np.searchsorted(edges, maps, side="right") + bins * np.arange(len(maps))[:, None, None]
    both = _pixels_in(index, truth, maps.shape, bins * len(maps))
    return tuple(counts.reshape(-1, bins) for counts in both)


def _pixels_in(bin_of_cell: np.ndarray, truth: np.ndarray, shape: tuple[int, ...], bins: int = 0):
    """How many object and other pixels fall in each bin, two float64 arrays of `bins` or more.

    bin_of_cell: the bin of each cell of maps of `shape` (N, h, w). Pixels are counted by cell,
    since all in one cell share its value; Stable Diffusion has 64 pixels to a cell.
    """
    rows, cols = (  # (h, H) and (w, W): 1 where a pixel's row or column lies in a cell's
        (np.arange(m)[:, None] == np.arange(n) * m // n).astype(np.float64)
        for n, m in zip(truth.shape[1:], shape[1:], strict=True)
    )
    fg = np.stack([rows @ mask @ cols.T for mask in truth])  # (N, h, w)
    bg = np.outer(rows.sum(1), cols.sum(1)) - fg
    index = bin_of_cell.ravel()
    return tuple(np.bincount(index, counts.ravel(), bins) for counts in (fg, bg))


def _auc_from_histograms(fg: np.ndarray, bg: np.ndarray) -> np.ndarray:
    """The chance that an object pixel falls in a higher bin than another, ties counted half."""
    below = bg.cumsum(-1) - bg / 2
    with np.errstate(invalid="ignore"):  # a draw of one class alone has no AUC: 0 / 0, NaN
        return (fg * below).sum(-1) / (fg.sum(-1) * bg.sum(-1))


# ---------------------------------------------------------------- images against images


def psnr(a: ArrayLike, b: ArrayLike, mask: ArrayLike | None = None) -> np.ndarray:
    """Peak signal-to-noise ratio of each image in dB, (N,), inside a mask if one is given.

    a, b: (N, C, H, W) in 0..1. mask: bool (N, H, W). Equal images give inf, an empty mask NaN.
    """
    a, b = _to_numpy(a).astype(np.float64), _to_numpy(b).astype(np.float64)
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f"a, b: expected one shape (N, C, H, W), got {a.shape} and {b.shape}")
    error = ((a - b) ** 2).mean(1)  # (N, H, W)
    inside = np.ones(error.shape, dtype=bool) if mask is None else _as_masks("mask", mask)
    if inside.shape != error.shape:
        raise ValueError(f"mask: shape {inside.shape} does not fit images of {a.shape}")
    with np.errstate(invalid="ignore", divide="ignore"):
        return -10 * np.log10((error * inside).sum((1, 2)) / inside.sum((1, 2)))


# ---------------------------------------------------------------- inputs


def _iou(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.ones_like(part, dtype=np.float64), where=whole > 0)


def _repeat_to(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest upsampling of (N, h, w) to (N, H, W), as torch's "nearest"."""
    rows, cols = (np.arange(n) * m // n for n, m in zip(size, maps.shape[1:], strict=True))
    return maps[:, rows[:, None], cols]


def _paired(scores: ArrayLike, masks: ArrayLike, normalise: bool):
    maps, truth = _as_scores(scores), _as_masks("masks", masks)
    if len(maps) != len(truth):
        raise ValueError(f"scores: {len(maps)} maps for {len(truth)} masks")
    return normalise_maps(maps) if normalise else maps, truth


def _require_both_classes(truth: np.ndarray) -> None:
    if truth.all() or not truth.any():
        raise ValueError("masks: AUC needs pixels of the object and of the rest, got one kind only")


def _as_scores(scores: ArrayLike) -> np.ndarray:
    scores = _to_numpy(scores).astype(np.float64)
    if scores.ndim != 3 or not scores.size:
        raise ValueError(f"scores: expected shape (N, h, w), got {scores.shape}")
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise ValueError(f"scores: {bad} of {scores.size} values are NaN or infinite")
    return scores


def _as_masks(name: str, masks: ArrayLike) -> np.ndarray:
    masks = _to_numpy(masks)
    if masks.dtype != bool or masks.ndim != 3 or not masks.size:
        raise ValueError(
            f"{name}: expected bool of shape (N, H, W), got {masks.dtype} of {masks.shape}"
        )
    return masks


def _to_numpy(values: ArrayLike) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # NumPy has none
    return np.asarray(values)
