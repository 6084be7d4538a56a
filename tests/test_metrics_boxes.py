"""Boxes: equal to MONAI's and to plain loops; what must hold of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data.box_utils import box_iou as monai_box_iou

from cdlib import metrics

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)))


def plain_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    y, x = np.nonzero(mask)
    return (x.min(), y.min(), x.max() + 1, y.max() + 1) if len(x) else (0, 0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_boxes_are_tight_and_stay_what_they_are_when_filled(masks):
    boxes = metrics.boxes_of_masks(masks)
    assert boxes.tolist() == [list(plain_box(mask)) for mask in masks]
    filled = metrics.fill_boxes(boxes, masks.shape[1:])
    assert (filled | ~masks).all()  # they cover the mask
    assert (metrics.boxes_of_masks(filled) == boxes).all()


@settings(max_examples=60, deadline=None)
@given(MASKS, st.integers(0, 2**31))
def test_properties_of_box_iou(truth, seed):
    pred = np.random.default_rng(seed).random(truth.shape) < 0.3
    iou = metrics.box_iou(pred, truth)
    assert ((iou >= 0) & (iou <= 1)).all()
    np.testing.assert_array_equal(iou, metrics.box_iou(truth, pred))
    np.testing.assert_array_equal(iou, metrics.box_iou(pred, metrics.boxes_of_masks(truth)))
    np.testing.assert_array_equal(iou, metrics.box_iou(pred[:, ::-1], truth[:, ::-1]))
    assert (metrics.box_iou(truth, truth) == 1).all()
    filled = metrics.fill_boxes(metrics.boxes_of_masks(truth), truth.shape[1:])
    assert (metrics.box_iou(filled, truth, of="mask") == 1).all()


def test_box_iou_equals_monai():
    rng = np.random.default_rng(0)
    pred, truth = rng.random((2, 20, 12, 16)) < 0.02
    pred[:, 3, 4], truth[:, 5, 6] = True, True  # none is empty
    boxes = [torch.from_numpy(metrics.boxes_of_masks(m)).float() for m in (pred, truth)]
    wanted = monai_box_iou(*boxes).diagonal().numpy()
    np.testing.assert_allclose(metrics.box_iou(torch.from_numpy(pred), truth), wanted, rtol=1e-6)


def test_a_mask_is_held_against_a_box_by_its_pixels():
    disc = torch.zeros(1, 10, 10, dtype=torch.bool)
    disc[0, 2:6, 2:6] = True
    disc[0, 2, 2] = False  # 15 of its box's 16 pixels
    boxes = [((2, 2, 6, 6),)]
    assert metrics.box_iou(disc, boxes).tolist() == [1]
    assert metrics.box_iou(disc, boxes, of="mask").tolist() == [15 / 16]


def test_several_boxes_count_as_the_area_they_cover():
    pred = np.zeros((2, 4, 8), dtype=bool)
    pred[0, :2, :4] = True
    pred[1, :, :2] = True
    boxes = [((0, 0, 2, 2), (1, 0, 4, 2), (7, 3, 20, 9)), ()]  # overlapping, reaching out; none
    assert metrics.box_iou(pred, boxes).tolist() == [8 / 9, 0]
    estimate = metrics.box_iou_estimate(pred, boxes)
    assert estimate.value == 4 / 9 and estimate.n == 2
    assert estimate.ci95[0] <= 4 / 9 <= estimate.ci95[1]


@pytest.mark.parametrize(
    ("truth", "of", "says"),
    [
        (np.zeros((2, 4, 4), dtype=bool), "area", "of: got 'area', allowed are box, mask"),
        (np.zeros((1, 4, 4), dtype=bool), "box", "truth: 1 images, pred has 2"),
        (np.zeros((2, 4, 5), dtype=bool), "box", "truth: shape"),
        ([(0, 0, 1, 1), (3, 0, 1, 1)], "box", r"boxes: image 1 has \(3.0, 0.0, 1.0, 1.0\)"),
    ],
)
def test_refusals(truth, of, says):
    with pytest.raises(ValueError, match=says):
        metrics.box_iou(np.zeros((2, 4, 4), dtype=bool), truth, of)
