"""Every method's masks of the same images, and how good they are.

    rivals = tuned_rivals(made)                            # on the validation split
    predictions = method_masks(made, "test", nets, rivals)
    scored = {name: score_trainings(masks, truth) for name, masks in predictions.items()}
    scored["unet_d_s"].estimates["iou"]                    # an Estimate, with its interval

A method is a list of masks, one for each of its trainings; what is not trained has a list of one.
Its score is the mean over trainings. Its interval says what other images could have given, and the
scores of its trainings say what other seeds do give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from cdlib.baselines import Rival, crop_baseline, tune
from cdlib.checks import one_of
from cdlib.masks import dilate_mask, upsample_mask
from cdlib.metrics import (
    SCORES,
    Estimate,
    bootstrap_ci,
    boundary_f,
    box_iou,
    confusion,
    mean_estimate,
    per_image_scores,
    scores_from_confusion,
)
from cdlib.outlines import polish_mask, sharpen
from cdlib.pieces import attended_pieces
from cdlib.stages.chain import Distillation

if TYPE_CHECKING:
    from cdlib.segmenter import Segmenter

# Names, as in results.json, to words. In the order of what they know: nothing, attention, attention
# and m', colours beside them, a network that learned from such masks, one that learned from true
# ones. "By colour" and "by attention" are what the paper does not do, see `cdlib.outlines` and
# `cdlib.pieces`.
METHODS = {
    "otsu": "Otsu",
    "grabcut": "GrabCut",
    "daam": "attention, as DAAM cuts it",
    "m_pre": "M_pre",
    "m_crop": "M_crop",
    "m_refined": "M",
    "m_pre_coloured": "M_pre by colour",
    "m_coloured": "M by colour",
    "m_attended": "M by colour and attention",
    "unet_m_pre": "U-Net on M_pre",
    "unet_d_s": "U-Net on D_s",
    "unet_d_s_synthetic": "U-Net on D_s + D'_s",
    "unet_coloured": "U-Net on D_s + D'_s by colour",
    "unet_attended": "U-Net on D_s by colour and attention",
    "unet_supervised": "U-Net on true masks",
}
RIVALS = ("otsu", "grabcut", "daam")  # they have something to be tuned, see `tuned_rivals`
PREFIX = "unet_"  # before the name of a training set, see `training_sets`
THRESHOLD = 0.5  # a probability from here on is object: the paper's, never tuned


class Scored(NamedTuple):
    """How good a method is.

    estimates: score to estimate, means over trainings: acc, iou and miou pooled over pixels, and
    means over images of their own IoU ("image_iou"), boundary F ("boundary_f") and the IoU of the
    tight boxes ("box_iou"). trainings: score to a value for each training. ious: (N,), each
    image's IoU, a mean over trainings.
    """

    estimates: dict[str, Estimate]
    trainings: dict[str, list[float]]
    ious: np.ndarray


def score_trainings(
    predictions: Sequence[torch.Tensor],  # (N, H, W) each, bool or probabilities
    truth: torch.Tensor,  # (N, H, W) bool
    *,
    seed: int = 0,
) -> Scored:
    """What one method's masks are worth, cut at THRESHOLD where they are probabilities."""
    masks = _as_masks(predictions)
    counts = _counts(masks, truth)  # (S, N, 4)
    by_image = {
        "image_iou": [per_image_scores(mask, truth)["iou"] for mask in masks],
        "boundary_f": [boundary_f(mask, truth) for mask in masks],
        "box_iou": [box_iou(mask, truth) for mask in masks],
    }
    estimates = {score: _pooled(counts, score, seed) for score in SCORES}
    trainings = {score: scores_from_confusion(counts.sum(1))[score].tolist() for score in SCORES}
    for score, values in by_image.items():
        estimates[score] = mean_estimate(np.mean(values, axis=0), seed=seed)
        trainings[score] = np.mean(values, axis=1).tolist()
    return Scored(estimates, trainings, np.mean(by_image["image_iou"], axis=0))


def gain(
    better: Sequence[torch.Tensor],
    base: Sequence[torch.Tensor],
    truth: torch.Tensor,
    *,
    seed: int = 0,
) -> Estimate:
    """How much higher one method's pooled IoU is than another's, in points of 100.

    Both are scored on the same images, so both are drawn again together: the interval is that of
    the difference. Means over trainings, as in `score_trainings`.
    """
    return _compare(better, base, truth, lambda high, low: 100 * (high - low), seed)


def ratio(
    part: Sequence[torch.Tensor],
    whole: Sequence[torch.Tensor],
    truth: torch.Tensor,
    *,
    seed: int = 0,
) -> Estimate | None:
    """One method's pooled IoU as a share of another's, as in `gain`; None if the other's is 0."""
    if not _pooled(_counts(_as_masks(whole), truth), "iou", seed).value:
        return None
    return _compare(part, whole, truth, _share, seed)


def _share(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    return np.divide(high, low, out=np.full_like(high, np.nan), where=low > 0)


def _compare(better, base, truth, how, seed: int) -> Estimate:
    pair = [_counts(_as_masks(masks), truth) for masks in (better, base)]

    def statistic(draws: np.ndarray) -> np.ndarray:
        return how(*(_mean_of_trainings(counts, "iou", draws) for counts in pair))

    n = len(truth)
    value = statistic(np.ones((1, n)))[0]
    return Estimate.around(value, bootstrap_ci(statistic, n, seed=seed), n)


def _pooled(counts: np.ndarray, score: str, seed: int) -> Estimate:
    n = counts.shape[1]
    value = _mean_of_trainings(counts, score, np.ones((1, n)))[0]
    interval = bootstrap_ci(lambda draws: _mean_of_trainings(counts, score, draws), n, seed=seed)
    return Estimate.around(value, interval, n)


def _mean_of_trainings(counts: np.ndarray, score: str, draws: np.ndarray) -> np.ndarray:
    """counts: (S, N, 4). draws: (B, N), how often each image counts. Gives (B,)."""
    return scores_from_confusion(draws @ counts)[score].mean(0)


def _counts(masks: Sequence[torch.Tensor], truth: torch.Tensor) -> np.ndarray:
    return np.stack([confusion(mask, truth) for mask in masks]).astype(np.float64)


def _as_masks(predictions: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    if not len(predictions):
        raise ValueError("predictions: give at least one, (N, H, W).")
    return [one if one.dtype == torch.bool else one >= THRESHOLD for one in predictions]


# -------------------------------------------------------------------------------- whose masks


def tuned_rivals(made: Distillation) -> dict[str, Rival]:
    """What needs no network and has settings: each with those that are best on validation images,
    by their true masks, which the method itself never sees."""
    val = made.labels("val")
    return {name: tune(name, val.data.images, val.data.masks, val.m_hat) for name in RIVALS}


def method_masks(
    made: Distillation,
    split: str,
    nets: Mapping[str, Sequence[Segmenter]],
    rivals: Mapping[str, Rival],
) -> dict[str, list[torch.Tensor]]:
    """Every method's masks, or probabilities, of the images of a split; in the order of METHODS.

    nets: as from `trained_nets`, a training set's name to its networks. rivals: as from
    `tuned_rivals`.
    """
    labels = made.labels(split)
    images, size = labels.data.images, tuple(labels.data.images.shape[2:])
    found = {name: [rival.masks(images, labels.m_hat)] for name, rival in rivals.items()}
    found["m_pre"] = [upsample_mask(labels.m_pre, size)]
    found["m_crop"] = [m_crop(images, labels.m_pre, **made.refinement)]
    found["m_refined"] = [labels.m_refined]
    found["m_pre_coloured"] = [m_pre_coloured(images, labels.m_pre, made.p.dilate, made.p.seed)]
    coloured = made.but(polish="grabcut").labels(split).m_refined
    found["m_coloured"] = [coloured]
    found["m_attended"] = [attended_pieces(coloured, labels.m_hat)]
    for name, trained in nets.items():
        found[PREFIX + name] = [net.predict(images) for net in trained]
    return {name: found[name] for name in METHODS if name in found}


def m_crop(
    images: torch.Tensor, m_pre: torch.Tensor, dilate: int = 0, **refinement
) -> torch.Tensor:
    """The refined mask with the paper's simple inpainting in place of the model's, (N, H, W)."""
    covered = crop_baseline(images, dilate_mask(m_pre, dilate))
    return sharpen(images, covered, m_pre, dilate=dilate, **refinement)


def m_pre_coloured(
    images: torch.Tensor, m_pre: torch.Tensor, dilate: int = 0, seed: int = 0
) -> torch.Tensor:
    """GrabCut from M_pre in the region of a removal, with nothing removed; bool (N, H, W)."""
    size = tuple(images.shape[2:])
    region = upsample_mask(dilate_mask(m_pre, dilate), size, "bilinear-any")
    return polish_mask(images, upsample_mask(m_pre, size), region, seed=seed)


# ------------------------------------------------------------------------- what they depend on


def by_size(
    shares: np.ndarray,  # (N,) of each image, that its object covers
    values: np.ndarray,  # (N,) scores
    groups: int = 3,
    seed: int = 0,
) -> list[tuple[float, Estimate]]:
    """Images in order of their objects' size in `groups` of equally many: for each its mean share
    and the mean of its scores. Fewer groups than images, or as many as there are images."""
    order = np.argsort(shares, kind="stable")
    parts = [part for part in np.array_split(order, groups) if len(part)]
    return [(float(shares[k].mean()), mean_estimate(values[k], seed=seed)) for k in parts]


def by_difficulty(
    made: Distillation,
    levels: Sequence[float],
    predict: Mapping[str, Callable[[torch.Tensor], Sequence[torch.Tensor]]],
) -> dict[str, list[Estimate]]:
    """Pooled IoU in scenes of other difficulties: name to an estimate for each level.

    predict: name to a function from images (N, 3, H, W) to a method's masks, one a training. The
    scenes are the test split's, as many as it has, drawn at each level; nothing is trained anew.
    """
    found: dict[str, list[Estimate]] = {name: [] for name in predict}
    for level in levels:
        scenes = made.but(difficulty=level).data("test")
        for name, masks_of in predict.items():
            scored = score_trainings(masks_of(scenes.images), scenes.masks, seed=made.p.seed)
            found[name].append(scored.estimates["iou"])
    return found


# ------------------------------------------------------------------------------ for the records


def result_name(method: str) -> str:
    """The name of a method's results, {c} for the concept: "baseline.otsu.{c}", "unet_d_s.{c}".

    M_pre, M_crop and M have their own names from the chapters that made them; here they are
    measured again beside all others, as "evaluation.{c}.m_pre" and so on.
    """
    one_of("method", method, METHODS)
    if method.startswith(PREFIX):
        return f"{method}.{{c}}"
    return f"baseline.{method}.{{c}}" if method in RIVALS else f"evaluation.{{c}}.{method}"
