"""Score maps against masks: the area under the ROC curve of pixels (6.4)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score

from .inputs import as_masks, as_scores
from .intervals import Estimate, bootstrap_ci
from .scores import SCORES, scores_from_confusion

UPSAMPLING = ("bilinear", "nearest")


def normalise_maps(scores: ArrayLike) -> np.ndarray:
    """Bring each map to the range 0..1 (the paper's "normalized instance-wise"); constant: 0."""
    scores = as_scores(scores)
    low = scores.min((1, 2), keepdims=True)
    span = scores.max((1, 2), keepdims=True) - low
    return np.divide(scores - low, span, out=np.zeros_like(scores), where=span > 0)


def pixel_auc(
    scores: ArrayLike,
    masks: ArrayLike,
    normalise: bool = True,
    average: str = "pooled",
    upsampling: str = "bilinear",
) -> float:
    """Area under the ROC curve of pixels: does the map rank the object above the rest? (6.4)

    scores: (N, h, w) finite. masks: bool (N, H, W). normalise: map by map to 0..1 first.
    average: "pooled" ranks all pixels of all images together; "image" is the mean of each image's
        own AUC over the images that have both classes.
    upsampling: how maps come to the masks' size, "bilinear" as in the authors' later code (6.4), or
        "nearest", which repeats cells. The paper does not say at which size it was measured.
    """
    maps, truth = _paired(scores, masks, normalise, upsampling)
    if average == "pooled":
        _require_both_classes(truth)
        _, rank = np.unique(maps, return_inverse=True)
        return float(_auc_from_histograms(*_pixels_in(rank, truth, maps.shape)))
    if average == "image":
        return float(np.nanmean(per_image_auc(maps, truth, upsampling)))
    raise ValueError(f"average: got {average!r}, allowed are pooled, image")


def per_image_auc(scores: ArrayLike, masks: ArrayLike, upsampling: str = "bilinear") -> np.ndarray:
    """Pixel AUC of each image, (N,); NaN where an image is all object or has none.

    upsampling: as in `pixel_auc`.
    """
    maps, truth = _paired(scores, masks, normalise=False, upsampling=upsampling)
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


def pixel_auc_estimate(
    scores: ArrayLike,
    masks: ArrayLike,
    normalise: bool = True,
    upsampling: str = "bilinear",
    bins: int = 1024,
    n_boot: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Pooled `pixel_auc`, exact, with its 95% interval over images.

    upsampling: as in `pixel_auc`.
    The interval's draws rank pixels by bin instead of by value: each image becomes two histograms,
    and a draw is their weighted sum.
    """
    value = pixel_auc(scores, masks, normalise, upsampling=upsampling)
    maps, truth = _paired(scores, masks, normalise, upsampling)
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


def _repeat_to(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest upsampling of (N, h, w) to (N, H, W), as torch's "nearest"."""
    rows, cols = (np.arange(n) * m // n for n, m in zip(size, maps.shape[1:], strict=True))
    return maps[:, rows[:, None], cols]


def _paired(scores: ArrayLike, masks: ArrayLike, normalise: bool, upsampling: str = "nearest"):
    """Maps and masks that fit; cells are not repeated here, one by one they count their pixels."""
    maps, truth = as_scores(scores), as_masks("masks", masks)
    if len(maps) != len(truth):
        raise ValueError(f"scores: {len(maps)} maps for {len(truth)} masks")
    if upsampling not in UPSAMPLING:
        raise ValueError(f"upsampling: got {upsampling!r}, allowed are {', '.join(UPSAMPLING)}")
    maps = normalise_maps(maps) if normalise else maps
    if upsampling == "bilinear" and maps.shape != truth.shape:
        planes = torch.from_numpy(maps)[:, None]
        maps = F.interpolate(planes, truth.shape[1:], mode="bilinear", align_corners=False)
        maps = maps[:, 0].numpy()
    return maps, truth


def _require_both_classes(truth: np.ndarray) -> None:
    if truth.all() or not truth.any():
        raise ValueError("masks: AUC needs pixels of the object and of the rest, got one kind only")
