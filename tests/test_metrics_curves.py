"""Curves, calibration and the centre crop: equal to scikit-learn, torchmetrics, Pillow, loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from sklearn.calibration import calibration_curve
from sklearn.metrics import fbeta_score
from torchmetrics.functional.classification import (
    binary_calibration_error,
    binary_precision_recall_curve,
)

from cdlib import metrics

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(2, 8), st.integers(2, 8)))


def probabilities(n: int = 12, size: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, size, size) in 0..1, and masks drawn so that they mean what they say."""
    rng = np.random.default_rng(seed)
    made = rng.beta(0.6, 1.2, (n, size, size))
    return made, rng.random(made.shape) < made


# ------------------------------------------------------------------------- precision, recall, F


def test_the_curve_equals_torchmetrics():
    scores, masks = probabilities(2, 8)
    thresholds, precision, recall = metrics.precision_recall_curve(scores, masks)
    theirs = binary_precision_recall_curve(
        torch.from_numpy(scores).ravel(), torch.from_numpy(masks).ravel().int()
    )
    np.testing.assert_allclose(precision, theirs[0][:-1], rtol=1e-6)
    np.testing.assert_allclose(recall, theirs[1][:-1], rtol=1e-6)
    np.testing.assert_allclose(thresholds, theirs[2], rtol=1e-6)


def test_max_f_equals_every_threshold_tried():
    scores, masks = probabilities(3, 6)
    scores = scores.round(1)
    tried = {
        level: fbeta_score(masks.ravel(), (scores >= level).ravel(), beta=np.sqrt(0.3))
        for level in np.unique(scores)
    }
    value, threshold = metrics.max_f_beta(torch.from_numpy(scores), masks)
    assert value == pytest.approx(max(tried.values()))
    assert tried[threshold] == pytest.approx(value)


def test_max_f_sees_order_alone_and_is_1_for_the_truth():
    scores, masks = probabilities(4, 8)
    value, _ = metrics.max_f_beta(scores, masks)
    assert metrics.max_f_beta(np.exp(3 * scores), masks)[0] == pytest.approx(value)
    assert metrics.max_f_beta(masks, masks)[0] == 1


def test_the_interval_of_max_f_holds_the_value_and_narrows_with_more_images():
    widths = []
    for n in (8, 128):
        made = metrics.max_f_beta_estimate(*probabilities(n), n_boot=200)
        assert made.ci95[0] <= made.value <= made.ci95[1] and made.n == n
        widths.append(made.ci95[1] - made.ci95[0])
    assert widths[1] < widths[0] / 2
    flat = metrics.max_f_beta_estimate(np.zeros((2, 2, 2)), np.ones((2, 2, 2), dtype=bool))
    assert flat.value == 1


# ----------------------------------------------------------------------------------- calibration


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_reliability_equals_sklearn_and_torchmetrics(bins):
    odds, masks = probabilities()
    ours = metrics.reliability(torch.from_numpy(odds**2), masks, bins)
    found, said = calibration_curve(masks.ravel(), (odds**2).ravel(), n_bins=bins)
    np.testing.assert_allclose(ours.found, found)
    np.testing.assert_allclose(ours.said, said)
    assert ours.weight.sum() == pytest.approx(1)
    theirs = binary_calibration_error(
        torch.from_numpy(odds**2).ravel(), torch.from_numpy(masks).ravel().int(), bins
    )
    assert ours.error.value == pytest.approx(theirs.item(), rel=1e-5)
    assert ours.error.ci95[0] <= ours.error.value <= ours.error.ci95[1]


def test_odds_that_mean_what_they_say_are_told_from_those_that_do_not():
    odds, masks = probabilities(64)
    honest, bold = metrics.reliability(odds, masks), metrics.reliability(odds > 0.5, masks)
    assert honest.error.value < 0.02 < 0.2 < bold.error.value
    assert bold.said.tolist() == [0, 1]  # empty bins are left out


@settings(max_examples=40, deadline=None)
@given(MASKS, st.integers(0, 2**31))
def test_properties_of_reliability(masks, seed):
    rng = np.random.default_rng(seed)
    odds = rng.random(masks.shape)
    ours = metrics.reliability(odds, masks, n_boot=20)
    for values in (ours.said, ours.found, ours.weight, np.array(ours.error.ci95)):
        assert ((values >= 0) & (values <= 1)).all()
    assert metrics.reliability(masks, masks, n_boot=20).error.value == 0
    order = rng.permutation(len(masks))
    shuffled = metrics.reliability(odds[order], masks[order], n_boot=20)
    assert shuffled.error.value == pytest.approx(ours.error.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s, m: metrics.max_f_beta(s, m[:, :4]), "scores: shape"),
        (lambda s, m: metrics.max_f_beta(s, m & False), "masks: recall needs pixels"),
        (lambda s, m: metrics.max_f_beta(s, m, beta2=0), "beta2=0"),
        (lambda s, m: metrics.reliability(s * 2, m), "probabilities: allowed is 0 to 1"),
        (lambda s, m: metrics.reliability(s, m, bins=0), "bins=0"),
        (lambda s, m: metrics.reliability(s, m.astype(float)), "masks: expected bool"),
    ],
)
def test_refusals(call, says):
    with pytest.raises(ValueError, match=says):
        call(*probabilities(2))


# ----------------------------------------------------------------------------------- centre crop


@pytest.mark.parametrize(("height", "width"), [(40, 25), (25, 40), (16, 33), (10, 10)])
def test_the_crop_equals_pillows_resize_cut_in_the_middle(height, width):
    side = 16
    image = np.random.default_rng(0).random((height, width), dtype=np.float32)
    short = min(height, width)
    size = (side * width // short, side * height // short)
    scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    top, left = (scaled.shape[0] - side) // 2, (scaled.shape[1] - side) // 2
    wanted = scaled[top : top + side, left : left + side]
    made = metrics.centre_crop(torch.from_numpy(image)[None, None].repeat(2, 3, 1, 1), side)
    assert made.shape == (2, 3, side, side)
    np.testing.assert_allclose(made[1, 2], wanted, atol=1e-5)


def test_masks_stay_bool_and_keep_their_area_and_their_place_under_the_image():
    axis = torch.arange(96) - 47.5
    disc = (axis[:, None] ** 2 + axis[None] ** 2 < 30**2)[None]
    small = metrics.centre_crop(disc, 32)
    assert small.dtype == torch.bool and small.shape == (1, 32, 32)
    assert small.float().mean().item() == pytest.approx(disc.float().mean().item(), rel=0.01)
    image = metrics.centre_crop(disc[:, None].float(), 32)
    assert torch.equal(image[:, 0] >= 0.5, small)


def test_a_square_of_the_right_size_is_left_alone():
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(metrics.centre_crop(image, 16), image)
    for bad in (image[0, 0], image[:0]):
        with pytest.raises(ValueError, match="batch"):
            metrics.centre_crop(bad)
    with pytest.raises(ValueError, match="side=0"):
        metrics.centre_crop(image, 0)
