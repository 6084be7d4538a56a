"""Masks as boxes: the paper's score where nobody drew the object's outline (6.4).

Its code for it does not run. The reading here is that of the authors' later work: the tight box
around all that is predicted, against the true box, as areas of pixels, one image after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .inputs import as_masks, to_numpy
from .intervals import Estimate, mean_estimate
from .scores import per_image_scores

Box = tuple[int, int, int, int]
READINGS = ("box", "mask")


def boxes_of_masks(masks: ArrayLike) -> np.ndarray:
    """The tight box around each mask, (N, 4) int64: x0, y0, x1, y1, half-open; empty: all 0.

    masks: bool (N, H, W).
    """
    masks = as_masks("masks", masks)
    edges = []
    for along in (masks.any(1), masks.any(2)):  # columns (N, W), rows (N, H)
        first, last = along.argmax(1), along.shape[1] - along[:, ::-1].argmax(1)
        edges += [first, np.where(along.any(1), last, 0)]
    x0, x1, y0, y1 = edges
    return np.stack([x0, y0, x1, y1], axis=1).astype(np.int64)


def fill_boxes(boxes: ArrayLike | Sequence[Sequence[Box]], size: tuple[int, int]) -> np.ndarray:
    """Boxes as masks, bool (N, H, W): True inside any box of an image.

    boxes: (N, 4), or for each of N images a sequence of its boxes, which may be empty. Half-open,
    in pixels: x0, y0, x1, y1. What reaches out of the image is cut off. size: (H, W).
    """
    height, width = size
    y, x = np.arange(height)[:, None], np.arange(width)
    filled = np.zeros((len(boxes), height, width), dtype=bool)
    for i, of_image in enumerate(boxes):
        for box in np.asarray(of_image, dtype=np.float64).reshape(-1, 4):
            x0, y0, x1, y1 = box
            if not np.isfinite(box).all() or x1 < x0 or y1 < y0:
                raise ValueError(
                    f"boxes: image {i} has {tuple(box.tolist())}, allowed is x0 <= x1, y0 <= y1"
                )
            filled[i] |= (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
    return filled


def box_iou(
    pred: ArrayLike, truth: ArrayLike | Sequence[Sequence[Box]], of: str = "box"
) -> np.ndarray:
    """IoU of what is predicted with the true boxes, of each image, (N,) in 0..1.

    pred: bool (N, H, W). truth: boxes as in `fill_boxes`, several of an image counting as the area
    that they cover, or masks, bool (N, H, W), which are taken by their tight boxes.
    of: "box", of the tight box around all predicted pixels; "mask", of these pixels themselves,
    which can reach 1 only where the object fills its box. Nothing predicted where nothing is: 1.
    """
    pred = as_masks("pred", pred)
    if of not in READINGS:
        raise ValueError(f"of: got {of!r}, allowed are {', '.join(READINGS)}")
    if len(truth) != len(pred):
        raise ValueError(f"truth: {len(truth)} images, pred has {len(pred)}")
    size = pred.shape[1:]
    if np.ndim(truth[0]) == 2 and to_numpy(truth[0]).dtype == bool:
        truth = as_masks("truth", truth)
        if truth.shape != pred.shape:
            raise ValueError(f"truth: shape {truth.shape} differs from pred's {pred.shape}")
        truth = boxes_of_masks(truth)
    found = pred if of == "mask" else fill_boxes(boxes_of_masks(pred), size)
    return per_image_scores(found, fill_boxes(truth, size))["iou"]


def box_iou_estimate(
    pred: ArrayLike,
    truth: ArrayLike | Sequence[Sequence[Box]],
    of: str = "box",
    n_boot: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The mean of `box_iou`, with its 95% interval over images."""
    return mean_estimate(box_iou(pred, truth, of), n_boot, seed)
