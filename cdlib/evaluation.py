"""Whose masks are how good: one row a method, in the paper's columns and some beside them.

evaluate(net, data)                                            # a segmenter
evaluate({"M": m_refined, "U-Net": net, "Otsu": otsu_mask(data.images)}, data, crop=128)

`errors_by_distance` says where they are wrong: along the outline, or far from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from scipy import ndimage

from cdlib.checks import real_number, whole_number
from cdlib.metrics import (
    SCORES,
    Estimate,
    boundary_f_estimate,
    box_iou_estimate,
    centre_crop,
    confusion,
    estimates_from_confusion,
    max_f_beta_estimate,
    mean_estimate,
    pixel_auc_estimate,
    scores_from_confusion,
)

if TYPE_CHECKING:
    from cdlib.datasets import Dataset

COLUMNS = (*SCORES, "image_iou", "image_miou", "boundary_f", "box_iou", "max_f", "auc")
ENDS = (1.0, 4.0)  # pixels: at the outline, near it, far from it


class Segmenter(Protocol):
    """Whatever makes masks or probabilities (N, H, W) from images (N, 3, H, W) in [0, 1]."""

    def predict(self, images: torch.Tensor) -> torch.Tensor: ...


def evaluate(
    predictor: Segmenter | torch.Tensor | Mapping[str, Segmenter | torch.Tensor],
    data: Dataset,
    *,
    threshold: float = 0.5,
    crop: int | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Scores of one or more methods on images whose true masks are known.

    predictor: a segmenter, or what one has predicted: bool masks or floats in [0, 1], (N, H, W);
        maps of fewer cells are brought to the images' size by repeating them. Or several, by name.
    data: images with masks, from `load_dataset`. threshold: a probability from here on is object;
        the paper's 0.5 is not to be tuned on these images.
    crop: the side of the square that is scored, from the middle of each image scaled down to it
        (the paper: 128), see `centre_crop`; a segmenter then sees the square alone. None scores
        images whole; what lies beside them on their canvas does not count.

    One row a method, one column a score, in 0..1, and the ends of its 95% interval over images in
    `_low` and `_high` beside it; `n` images:
    - acc, iou, miou: pooled over all pixels of all images, as in the paper (section 6.3);
    - image_iou, image_miou: means over images;
    - boundary_f: do outlines agree, a mean over images;
    - box_iou: of tight boxes around masks, a mean over images (section 6.4);
    - max_f, auc: of probabilities, whatever the threshold: the best F with beta^2 = 0.3, and the
      area under the ROC curve, over all pixels. NaN for masks that are bool, and for whole images
      that do not fill their canvas.
    """
    threshold = real_number("threshold", threshold, 0, 1)
    methods = predictor if isinstance(predictor, Mapping) else {"prediction": predictor}
    if not methods:
        raise ValueError("predictor: there is no method in it.")
    if crop is not None:
        whole_number("crop", crop, 1)
    inside = data.valid
    images, truth = data.images, data.masks
    if crop is not None:
        images, truth = (_cropped(batch, inside, crop) for batch in (images, truth))
    rows = {}
    for name, method in methods.items():
        made = _predictions(name, method, images, data, crop)
        beside = inside.new_zeros(truth.shape) if crop is not None else ~inside
        found = _scores(made, truth, beside, threshold, n_boot, seed)
        rows[name] = {key: value for score in COLUMNS for key, value in _cells(score, found)}
        rows[name]["n"] = len(truth)
    return pd.DataFrame.from_dict(rows, orient="index")


def _predictions(
    name: str,
    method: Segmenter | torch.Tensor,
    images: torch.Tensor,
    data: Dataset,
    crop: int | None,
) -> torch.Tensor:
    """Bool or float (N, H, W), of the size of the images that are scored."""
    ready = torch.as_tensor(method) if isinstance(method, (torch.Tensor, np.ndarray)) else None
    if ready is None and not callable(getattr(method, "predict", None)):
        raise ValueError(
            f"predictor[{name!r}]: must be masks (N, H, W) or have a method predict(images), "
            f"not {type(method).__name__}."
        )
    made = (method.predict(images) if ready is None else ready).detach().cpu()
    if made.ndim != 3 or len(made) != len(images) or 0 in made.shape:
        raise ValueError(
            f"predictor[{name!r}]: expected ({len(images)}, H, W), got {tuple(made.shape)}."
        )
    if made.dtype != torch.bool and not (
        made.is_floating_point() and made.min() >= 0 and made.max() <= 1
    ):
        raise ValueError(
            f"predictor[{name!r}]: must be bool or floats in [0, 1], not {made.dtype} "
            f"from {made.min():g} to {made.max():g}."
        )
    if made.shape[1:] == images.shape[2:]:
        return made
    made = _repeated(made, tuple(data.images.shape[2:]))
    return made if crop is None else _cropped(made, data.valid, crop)


def _repeated(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(maps[:, None].float(), size, mode="nearest")[:, 0].to(maps.dtype)


def _cropped(batch: torch.Tensor, inside: torch.Tensor, side: int) -> torch.Tensor:
    """The middle of each image, without what lies beside it on the canvas."""
    squares = []
    for one, valid in zip(batch, inside, strict=True):
        rows, columns = valid.any(1), valid.any(0)
        squares.append(centre_crop(one[..., rows, :][..., columns][None], side))
    return torch.cat(squares)


def _scores(
    made: torch.Tensor,
    truth: torch.Tensor,
    beside: torch.Tensor,  # (N, H, W) bool: pixels that are no image
    threshold: float,
    n_boot: int,
    seed: int,
) -> dict[str, Estimate]:
    how = {"n_boot": n_boot, "seed": seed}
    pred = (made if made.dtype == torch.bool else made >= threshold) & ~beside
    counts = confusion(pred, truth)
    counts[:, 3] -= beside.sum((1, 2)).numpy()  # there both masks are empty, rightly so
    found = estimates_from_confusion(counts, **how)
    each = scores_from_confusion(counts)
    found |= {f"image_{score}": mean_estimate(each[score], **how) for score in ("iou", "miou")}
    found["boundary_f"] = boundary_f_estimate(pred, truth, **how)
    found["box_iou"] = box_iou_estimate(pred, truth, **how)
    ranked = made.dtype != torch.bool and not beside.any() and truth.any() and not truth.all()
    if ranked:
        found["max_f"] = max_f_beta_estimate(made, truth, **how)
        found["auc"] = pixel_auc_estimate(made, truth, normalise=False, **how)
    return found


def _cells(score: str, found: Mapping[str, Estimate]) -> list[tuple[str, float]]:
    value, (low, high) = found[score][:2] if score in found else (np.nan, (np.nan, np.nan))
    return [(score, value), (f"{score}_low", low), (f"{score}_high", high)]


def errors_by_distance(
    masks: ArrayLike,  # (N, H, W) bool
    truth: ArrayLike,  # (N, H, W) bool
    ends: Sequence[float] = ENDS,
) -> dict[str, np.ndarray]:
    """Wrong pixels by how far they are from where they would be right, as shares of the object's.

    "missed": object that is not in the mask, by its distance from the nearest pixel of background.
    "added": background that is, by its distance from the nearest pixel of the object; in an image
    without an object all of it is farthest. Each has a share for distances up to ends[0], above
    that up to ends[1], and so on, and one for all beyond; float64 (len(ends) + 1,), 1 being as many
    pixels as the objects of all images have. Distances are Euclidean, between pixels' centres, so
    that 1 is the pixels right at the outline.

    Raises ValueError for other than two equal shapes (N, H, W), ends that do not rise from above 0,
    and truth without any object.
    """
    masks, truth = np.asarray(masks, dtype=bool), np.asarray(truth, dtype=bool)
    if masks.shape != truth.shape or truth.ndim != 3:
        raise ValueError(f"masks: shape {masks.shape}; must be (N, H, W), as truth {truth.shape}.")
    if not len(ends) or np.any(np.diff([0, *ends]) <= 0):
        raise ValueError(f"ends={ends!r}: must be distances above 0, each above the one before.")
    if not truth.any():
        raise ValueError("truth: holds no object to take shares of.")
    missed, added = (np.zeros(len(ends) + 1) for _ in range(2))
    for mask, inside in zip(masks, truth, strict=True):
        missed += _by_distance(inside & ~mask, inside, ends)
        added += _by_distance(mask & ~inside, ~inside, ends)
    return {"missed": missed / truth.sum(), "added": added / truth.sum()}


def _by_distance(wrong: np.ndarray, region: np.ndarray, ends: Sequence[float]) -> np.ndarray:
    """How many wrong pixels there are at each distance from what is outside the region."""
    if region.all():  # there is nothing outside
        distances = np.full(region.shape, np.inf)
    else:
        distances = ndimage.distance_transform_edt(region)
    places = np.searchsorted(ends, distances[wrong], side="left")
    return np.bincount(places, minlength=len(ends) + 1)
