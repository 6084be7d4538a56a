"""What is it that maps and masks get right or wrong: sweeps, words for curves, and their failures.

Everything takes finished maps (N, h, w) and masks (N, H, W) and runs no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy import ndimage
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from cdlib import paper
from cdlib.masks import preliminary_mask, upsample_mask
from cdlib.metrics import (
    Estimate,
    bootstrap_ci,
    confusion,
    mean_estimate,
    normalise_maps,
    pixel_auc,
    pixel_auc_estimate,
    pooled_estimates,
    scores_from_confusion,
)

# The paper's numbers on CUB-200-2011 by the names that the first chapters know, see `cdlib.paper`.
PAPER = {"bird": {"auc": paper.AUC["bird"], **paper.TABLE_2["m_pre"].scores}}
PAPER_M_CROP = paper.TABLE_2["m_crop"].scores
PAPER_REFINED = paper.TABLE_2["m_refined"].scores
PAPER_CHEST_AUC = paper.CHEST_AUC
PAPER_FID = paper.FID_BY_GUIDANCE
# What was asked of removal and refinement before they were measured, for each concept c: a
# result's name to its words and the bound that it should keep.
REMOVAL_TARGETS = {
    "m_refined.{c}.gain": ("IoU of M above that of M_pre, points", 15.0, "least"),
    "removal.{c}.gain.m": ("PSNR of m' above that of m, dB", 3.0, "least"),
    "removal.{c}.gain.m_crop": ("PSNR of m' above that of M_crop, dB", 0.0, "least"),
    "removal.{c}.gain.cv2": ("PSNR of m' above that of cv2, dB", 0.0, "least"),
    "removal.{c}.leakage.m_prime": ("leakage with m'", 0.1, "most"),
}


def score_maps(
    m_hat: torch.Tensor,  # (N, h, w)
    masks: torch.Tensor,  # (N, H, W) bool
    rule: str = "gmm",
    seed: int = 0,
) -> dict[str, Estimate]:
    """The auc of M_hat, and acc, iou and miou of its M_pre at the masks' size, with intervals."""
    m_pre = upsample_mask(preliminary_mask(m_hat, rule, seed=seed), tuple(masks.shape[1:]))
    auc = pixel_auc_estimate(m_hat, masks, seed=seed)
    return {"auc": auc, **pooled_estimates(m_pre, masks, seed=seed)}


def auc_against_t0(
    by_timestep: torch.Tensor,  # (N, T, h, w), timesteps rising
    masks: torch.Tensor,  # (N, H, W) bool
    seed: int = 0,
) -> pd.DataFrame:
    """Pooled pixel AUC of M_hat averaged over the T_0 least noisy timesteps (the paper's figure 3).

    One row for each T_0 from 1 to T: t0, auc, and low and high, its 95% interval over images.
    """
    count = torch.arange(1, by_timestep.shape[1] + 1)
    running = by_timestep.double().cumsum(1) / count[:, None, None]
    found = [pixel_auc_estimate(running[:, k], masks, seed=seed) for k in range(len(count))]
    low, high = zip(*(auc.ci95 for auc in found), strict=True)
    aucs = [auc.value for auc in found]
    return pd.DataFrame({"t0": count.numpy(), "auc": aucs, "low": low, "high": high})


def auc_grid(
    detail: torch.Tensor,  # (N, L, T, h, w)
    masks: torch.Tensor,  # (N, H, W) bool
    moments: Sequence[int],
) -> np.ndarray:
    """Pooled pixel AUC of every layer's map at every moment (index along T), (L, moments)."""
    layers = range(detail.shape[1])
    return np.array([[pixel_auc(detail[:, k, m], masks) for m in moments] for k in layers])


def describe_curve(curve: pd.DataFrame) -> str:
    """How `auc_against_t0` runs, in words: where it is best, and what comes before and after."""
    best = curve.loc[curve.auc.idxmax()]
    first, last = curve.iloc[0], curve.iloc[-1]
    if len(curve) == 1:
        return f"has a single point, {first.auc:.3f}"
    if best.t0 == last.t0:
        return (
            f"rises from {first.auc:.3f} at T₀ = {first.t0:.0f} to {last.auc:.3f} at "
            f"T₀ = {last.t0:.0f}, where all timesteps are averaged, and has no fall to show"
        )
    end = f"{last.auc:.3f} at T₀ = {last.t0:.0f}, where all timesteps are averaged"
    if best.t0 == first.t0:
        return f"is highest at T₀ = 1, with {best.auc:.3f}, and falls to {end}"
    return (
        f"rises from {first.auc:.3f} at T₀ = {first.t0:.0f} to {best.auc:.3f} at "
        f"T₀ = {best.t0:.0f} and falls to {end}"
    )


def plateau(curve: pd.DataFrame) -> tuple[int, int]:
    """The smallest and the largest T_0 whose AUC lies within the interval of the best one's."""
    inside = curve.t0[curve.auc >= curve.low[curve.auc.idxmax()]]
    return int(inside.min()), int(inside.max())


def object_pixels_found(acc: float, iou: float) -> float:
    """The share of all pixels that a mask rightly calls object, from its pooled scores.

    Wrong pixels are 1 - acc, and the union is s and the wrong ones: iou = s / (s + 1 - acc).
    """
    return iou * (1 - acc) / (1 - iou)


# --------------------------------------------------------------------- what makes an image hard


def object_share(masks: ArrayLike) -> np.ndarray:
    """The share of each image that its object covers, (N,) in 0..1."""
    return np.asarray(masks).mean((1, 2))


def mean_inside(values: ArrayLike, masks: ArrayLike) -> np.ndarray:
    """The mean of a map inside each image's mask, (N,); NaN where the mask is empty."""
    values, masks = np.asarray(values), np.asarray(masks)
    pairs = zip(values, masks, strict=True)
    return np.array([one[mask].mean() if mask.any() else np.nan for one, mask in pairs])


def colour_contrast(images: ArrayLike, masks: ArrayLike, margin: int) -> np.ndarray:
    """How far the object's mean colour is from that of the `margin` pixels around it, (N,).

    images: (N, 3, H, W) in [0, 1]. The distance is Euclidean in RGB, 0 (the same) to 1.73; NaN
    where the object is not seen or leaves no surroundings.
    """
    images, masks = np.asarray(images), np.asarray(masks)
    found = []
    for image, mask in zip(images, masks, strict=True):
        around = ndimage.binary_dilation(mask, iterations=margin) & ~mask
        both = mask.any() and around.any()
        distance = image[:, mask].mean(1) - image[:, around].mean(1) if both else [np.nan]
        found.append(np.linalg.norm(distance))
    return np.array(found)


def thin_parts(masks: ArrayLike, width: int) -> np.ndarray:
    """The pixels of each mask that no square of `width` pixels inside it covers: legs, tails."""
    masks = np.asarray(masks)
    square = np.ones((1, width, width), dtype=bool)
    return masks & ~ndimage.binary_opening(masks, square)


def rank_correlation(x: ArrayLike, y: ArrayLike, seed: int = 0) -> Estimate | None:
    """Spearman's rank correlation, -1 to 1, with its interval; None where it is not defined.

    Pairs with a NaN are left out; fewer than three pairs, or a constant side, define nothing.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    known = ~(np.isnan(x) | np.isnan(y))
    if known.sum() < 3 or np.ptp(x[known]) == 0 or np.ptp(y[known]) == 0:
        return None
    a, b = rankdata(x[known]), rankdata(y[known])

    def correlate(draws: np.ndarray) -> np.ndarray:
        weight = draws / draws.sum(1, keepdims=True)  # (B, N)
        mean_a, mean_b = weight @ a, weight @ b
        covariance = weight @ (a * b) - mean_a * mean_b
        spread = (weight @ a**2 - mean_a**2) * (weight @ b**2 - mean_b**2)
        with np.errstate(invalid="ignore", divide="ignore"):  # one image drawn N times: 0 / 0
            return (covariance / np.sqrt(spread)).clip(-1, 1)

    value, n = correlate(np.ones((1, len(a))))[0], len(a)
    return Estimate.around(value, bootstrap_ci(correlate, n, seed=seed), n)


def recall(pred: ArrayLike, part: ArrayLike, n_boot: int = 1000, seed: int = 0) -> Estimate:
    """The share of the pixels of `part` that the masks `pred` hold, pooled, with its interval."""
    pred, part = np.asarray(pred), np.asarray(part)
    if not part.any():
        raise ValueError("part: all of its masks are empty, so there is nothing to recall.")
    return share_of(pred & part, part, n_boot, seed)


def recall_per_image(pred: ArrayLike, part: ArrayLike) -> np.ndarray:
    """The same for each image on its own, (N,); NaN where its `part` is empty."""
    hit, _, missed, _ = confusion(pred, part).T.astype(float)
    return np.divide(hit, hit + missed, out=np.full(len(hit), np.nan), where=hit + missed > 0)


def leakage(m_hat: ArrayLike, masks: ArrayLike, others: ArrayLike) -> Estimate | None:
    """Does a word's map also glow on objects that it does not name? An AUC, averaged over images.

    For every image with other objects: the chance that one of their pixels has a higher value than
    a pixel of the background. 0.5 says that the word tells them from the background no better than
    chance. None if no image has other objects. m_hat: (N, h, w); masks, others: bool (N, H, W).
    """
    maps, masks, others = normalise_maps(m_hat), np.asarray(masks), np.asarray(others)
    rows, columns = (n // m for n, m in zip(masks.shape[1:], maps.shape[1:], strict=True))
    values = []
    for one, mask, other in zip(maps, masks, others, strict=True):
        if other.any():
            scores = np.repeat(np.repeat(one, rows, 0), columns, 1)[~mask]
            values.append(roc_auc_score(other[~mask], scores))
    return mean_estimate(values) if values else None


# ---------------------------------------------------------------- what changes from stage to stage


def pooled_gain(
    better: ArrayLike, base: ArrayLike, truth: ArrayLike, score: str = "iou", seed: int = 0
) -> Estimate:
    """How much higher the pooled score of one set of masks is than another's, in points of 100.

    Both are scored on the same images, so both are drawn again together: the interval is that of
    the difference, and tighter than the two scores' own suggest. Masks: bool (N, H, W).
    """
    counts = [confusion(masks, truth) for masks in (better, base)]

    def gain(draws: np.ndarray) -> np.ndarray:
        high, low = (scores_from_confusion(draws @ one)[score] for one in counts)
        return 100 * (high - low)

    n = len(counts[0])
    return Estimate.around(gain(np.ones((1, n)))[0], bootstrap_ci(gain, n, seed=seed), n)


def mean_gain(better: ArrayLike, base: ArrayLike, seed: int = 0) -> Estimate:
    """The mean, over images, of how much higher one value is than another of the same image."""
    return mean_estimate(np.asarray(better) - np.asarray(base), seed=seed)


def entry_estimate(entry: Mapping | None) -> Estimate | None:
    """An entry of results.json, or of a record, as the estimate that it was; None stays None."""
    return entry and Estimate(entry["value"], tuple(entry["ci95"]), entry["n"])


def describe_gain(gain: Estimate, unit: str, up: str = "above", down: str = "below") -> str:
    """A difference in words: its size, its direction and interval, or that it is not certain."""
    low, high = gain.ci95
    if gain.value == low == high == 0:
        return "no difference at all"
    inside = f"95% interval {low:+.1f} to {high:+.1f}"
    side = up if gain.value >= 0 else down
    text = f"{abs(gain.value):.1f} {unit} {side}"
    if low <= 0 <= high:
        return f"{text}, though the {inside} holds 0, so that this run cannot tell them apart"
    return f"{text} ({inside})"


def apart(one: Estimate, other: Estimate) -> int:
    """1 if the first of two means is the higher one, -1 if the lower, 0 if this cannot be told.

    For means of different images: the gap's own 95% interval is what either interval adds to it.
    """
    gap, (a, b), (c, d) = one.value - other.value, one.ci95, other.ci95
    below = np.hypot(one.value - a, d - other.value)
    above = np.hypot(b - one.value, other.value - c)
    return int(gap > below) - int(-gap > above)


def error_kinds(
    mask: ArrayLike,
    region: ArrayLike,
    truth: ArrayLike,
    changes: ArrayLike,
    others: ArrayLike,
    visible: float = 0.05,
) -> dict[str, np.ndarray]:
    """Every wrong pixel of refined masks by what made it wrong; bool (N, H, W) by kind.

    mask: M. region: what it was cut within, M_pre widened, at the image's size. changes:
    |image - clean plate|, (N, H, W), what a perfect removal would change; less than `visible` of it
    counts as nothing. others: pixels of objects of other names. Missed pixels are those that the
    region has lost, those that look like what is behind them, and those that the removal gave back
    the object's look. Pixels too many lie on other objects, in shadows and along rims, or where
    background was painted as another one.
    """
    mask, region, truth, others = (np.asarray(m, dtype=bool) for m in (mask, region, truth, others))
    visible_there = np.asarray(changes) >= visible
    missed, extra = truth & ~mask, mask & ~truth
    lost = missed & ~region
    in_region = missed & region
    return {
        "missed: outside the region": lost,
        "missed: camouflaged": in_region & ~visible_there,
        "missed: painted alike": in_region & visible_there,
        "extra: another object": extra & others,
        "extra: shadow or rim": extra & ~others & visible_there,
        "extra: painted anew": extra & ~others & ~visible_there,
    }


def share_of(part: ArrayLike, whole: ArrayLike, n_boot: int = 1000, seed: int = 0) -> Estimate:
    """How many pixels `part` has for each pixel of `whole`, pooled over images, with its interval.

    bool (N, H, W) each; part need not lie inside whole. ValueError if whole is empty.
    """
    counts = np.stack([np.asarray(m).sum((1, 2)) for m in (part, whole)], axis=1).astype(float)
    if not counts[:, 1].any():
        raise ValueError("whole: all of its masks are empty, so there is nothing to share.")

    def ratio(draws: np.ndarray) -> np.ndarray:
        hit, all_of_it = (draws @ counts).T
        return np.divide(hit, all_of_it, out=np.full(len(hit), np.nan), where=all_of_it > 0)

    value = counts[:, 0].sum() / counts[:, 1].sum()
    return Estimate.around(value, bootstrap_ci(ratio, len(counts), n_boot, seed), len(counts))
