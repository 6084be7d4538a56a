"""SSIM and boundary F: equal to torchmetrics and to plain loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchmetrics.functional.image import structural_similarity_index_measure

from cdlib.metrics import boundary_f, boundary_f_estimate, mean_estimate, ssim

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 3), st.integers(2, 12), st.integers(2, 12)))


def images(n: int = 3, size: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a = rng.random((n, 3, size, size))
    return a, (a + rng.normal(0, 0.2, a.shape)).clip(0, 1)


# ---------------------------------------------------------------------------------------- SSIM


def plain_ssim(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """Wang et al. (2004), Eq. 13, at each pixel of the mask and colour, by sums over a window."""
    axis = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    w = np.outer(axis, axis) / axis.sum() ** 2
    pad = ((0, 0), (5, 5), (5, 5))
    a, b = np.pad(a, pad, mode="symmetric"), np.pad(b, pad, mode="symmetric")
    values = []
    for y, x in zip(*np.nonzero(mask), strict=True):
        for p, q in zip(a[:, y : y + 11, x : x + 11], b[:, y : y + 11, x : x + 11], strict=True):
            mp, mq = (w * p).sum(), (w * q).sum()
            vp, vq = (w * (p - mp) ** 2).sum(), (w * (q - mq) ** 2).sum()
            cov = (w * (p - mp) * (q - mq)).sum()
            values.append(
                (2 * mp * mq + 0.01**2) * (2 * cov + 0.03**2)
                / ((mp**2 + mq**2 + 0.01**2) * (vp + vq + 0.03**2))
            )  # fmt: skip
    return float(np.mean(values))


def test_ssim_equals_torchmetrics():
    a, b = images()
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    _, each = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
    # torchmetrics' own mean keeps the five pixels along the border, where it mirrors
    theirs = each[..., 5:-5, 5:-5].mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(ssim(a, b), theirs, atol=1e-6)


def test_ssim_inside_a_mask_equals_plain_windows():
    a, b = images()
    mask = np.zeros((3, 16, 16), dtype=bool)
    mask[0, 3:9, 4:7], mask[1, 0, :3] = True, True
    ours = ssim(a, b, mask)
    for i in range(2):
        assert ours[i] == pytest.approx(plain_ssim(a[i], b[i], mask[i]), abs=1e-9)
    assert np.isnan(ours[2])
    inner = np.zeros((1, 16, 16), dtype=bool)
    inner[0, 5:-5, 5:-5] = True
    assert ssim(a[:1], b[:1], inner) == pytest.approx(ssim(a[:1], b[:1]))
    assert mean_estimate(ours).n == 2


def test_ssim_of_equal_images_is_one_and_noise_lowers_it():
    a, b = images()
    assert ssim(a, a) == pytest.approx(1)
    assert (ssim(a, b) < 1).all() and ssim(a, b) == pytest.approx(ssim(b, a))
    assert (ssim(a, (a + b) / 2) > ssim(a, b)).all()


@pytest.mark.parametrize(
    ("a", "b", "mask", "says"),
    [
        (np.zeros((1, 3, 16, 16)), np.zeros((1, 3, 16, 15)), None, "a, b: expected one shape"),
        (np.zeros((1, 3, 16, 10)), np.zeros((1, 3, 16, 10)), None, "sides of 11 pixels"),
        (np.zeros((1, 3, 16, 16)), np.zeros((1, 3, 16, 16)), np.ones((2, 16, 16), bool), "mask: s"),
        (np.zeros((1, 3, 16, 16)), np.zeros((1, 3, 16, 16)), np.ones((1, 16, 16)), "mask: exp"),
    ],
)
def test_ssim_names_what_does_not_fit(a, b, mask, says):
    with pytest.raises(ValueError, match=says):
        ssim(a, b, mask)


# ---------------------------------------------------------------------------------- boundary F


def plain_outline(mask: np.ndarray) -> list[tuple[int, int]]:
    h, w = mask.shape
    found = []
    for y in range(h):
        for x in range(w):
            after = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [(min(j, h - 1), min(i, w - 1)) for j, i in after]
            if any(mask[place] != mask[y, x] for place in inside):
                found.append((y, x))
    return found


def plain_boundary_f(pred: np.ndarray, truth: np.ndarray, tolerance: float) -> float:
    a, b = plain_outline(pred), plain_outline(truth)
    if not a or not b:
        return float(not a and not b)
    reach = np.ceil(tolerance * np.hypot(*pred.shape))
    distance = np.array([[np.hypot(y - v, x - u) for v, u in b] for y, x in a])
    precision = (distance.min(1) <= reach).mean()
    recall = (distance.min(0) <= reach).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(max_examples=60, deadline=None)
@given(MASKS, st.integers(0, 2**31), st.sampled_from([0, 0.008, 0.1, 0.2]))
def test_boundary_f_equals_plain_distances(truth, seed, tolerance):
    rng = np.random.default_rng(seed)
    pred = truth ^ (rng.random(truth.shape) < rng.random() / 2)
    ours = boundary_f(torch.from_numpy(pred), truth, tolerance)
    plain = [plain_boundary_f(p, t, tolerance) for p, t in zip(pred, truth, strict=True)]
    assert ours == pytest.approx(plain)
    assert boundary_f(truth, pred, tolerance) == pytest.approx(ours)
    assert (boundary_f(truth, truth, tolerance) == 1).all()
    assert (boundary_f(pred, truth, 0.3) >= ours - 1e-9).all() or tolerance > 0.3


def test_boundary_f_forgives_what_is_near_and_only_that():
    truth = np.zeros((1, 64, 64), dtype=bool)
    truth[0, 20:40, 20:40] = True
    assert boundary_f(np.roll(truth, 1, 2), truth)[0] == 1  # 0.8% of the diagonal is a pixel
    assert boundary_f(np.roll(truth, 1, 2), truth, tolerance=0)[0] < 1
    shifted = boundary_f(np.roll(truth, 4, 2), truth)[0]
    assert 0.3 < shifted < 0.7  # the two sides along the shift still meet
    assert boundary_f(np.roll(truth, 20, (1, 2)), truth)[0] < 0.1


def test_boundary_f_of_masks_without_outline():
    half = np.zeros((1, 8, 8), dtype=bool)
    half[0, :4] = True
    empty, full = np.zeros_like(half), np.ones_like(half)
    assert boundary_f(empty, half) == boundary_f(half, full) == 0
    assert boundary_f(empty, empty) == boundary_f(empty, full) == 1


def test_boundary_f_estimate_is_the_mean_over_images():
    rng = np.random.default_rng(0)
    truth = rng.random((20, 12, 12)) < 0.5
    pred = truth ^ (rng.random(truth.shape) < 0.1)
    estimate = boundary_f_estimate(pred, truth, 0)
    assert estimate.value == pytest.approx(boundary_f(pred, truth, 0).mean())
    assert estimate.ci95[0] < estimate.value < estimate.ci95[1] and estimate.n == 20


@pytest.mark.parametrize("tolerance", [-0.1, 1, float("nan"), True, "1"])
def test_boundary_f_names_a_bad_tolerance(tolerance):
    with pytest.raises(ValueError, match="tolerance: got"):
        boundary_f(np.ones((1, 4, 4), bool), np.ones((1, 4, 4), bool), tolerance)


def test_boundary_f_names_a_bad_mask():
    with pytest.raises(ValueError, match="pred: shape"):
        boundary_f(np.ones((1, 4, 4), bool), np.ones((1, 4, 5), bool))
