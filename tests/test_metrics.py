"""Metrics: equal to torchmetrics, scikit-learn and slow plain versions; intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, jaccard_score, roc_auc_score
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    multiclass_jaccard_index,
)
from torchmetrics.functional.image import peak_signal_noise_ratio

from cdlib import metrics
from cdlib.metrics import maps as score_maps

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 5), st.integers(2, 9), st.integers(2, 9)))


def blobs(n: int = 30, size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Score maps of 16x16 cells and the discs they blur, (n, 16, 16) and bool (n, size, size)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    cy, cx = rng.uniform(0.3, 0.7, (2, n, 1, 1))
    distance = np.hypot(y - cy, x - cx)
    masks = distance < rng.uniform(0.1, 0.3, (n, 1, 1))
    step = size // 16
    scores = np.exp(-3 * distance[:, ::step, ::step]) + rng.normal(0, 0.12, (n, 16, 16))
    return scores * rng.uniform(0.2, 2, (n, 1, 1)), masks


def predictions(n: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    scores, masks = blobs(n, seed=seed)
    return metrics.normalise_maps(scores).repeat(2, 1).repeat(2, 2) > 0.5, masks


def test_pooled_scores_equal_sklearn_and_torchmetrics():
    pred, truth = predictions()
    ours = metrics.pooled_scores(torch.from_numpy(pred), truth)
    p, t = pred.ravel(), truth.ravel()
    assert ours["acc"] == pytest.approx(accuracy_score(t, p))
    assert ours["iou"] == pytest.approx(jaccard_score(t, p))
    assert ours["miou"] == pytest.approx(jaccard_score(t, p, average="macro"))
    p, t = torch.from_numpy(p), torch.from_numpy(t)
    assert ours["acc"] == pytest.approx(binary_accuracy(p.int(), t.int()).item(), abs=1e-6)
    jaccard = multiclass_jaccard_index(p.int(), t.int(), num_classes=2).item()
    assert ours["miou"] == pytest.approx(jaccard, abs=1e-6)


def test_per_image_scores_equal_images_alone():
    pred, truth = predictions(4)
    ours = metrics.per_image_scores(pred, truth)
    for i in range(4):
        alone = metrics.pooled_scores(pred[i : i + 1], truth[i : i + 1])
        assert {k: v[i] for k, v in ours.items()} == pytest.approx(alone)


@settings(max_examples=60, deadline=None)
@given(MASKS, st.integers(0, 2**31))
def test_score_properties(truth, seed):
    pred = np.random.default_rng(seed).random(truth.shape) < 0.5
    ours = metrics.pooled_scores(pred, truth)
    assert all(0 <= v <= 1 for v in ours.values())
    assert ours == metrics.pooled_scores(truth, pred)  # symmetric in its two masks
    flipped = metrics.pooled_scores(~pred, ~truth)  # and, but for iou, in object and background
    assert flipped["acc"] == ours["acc"] and flipped["miou"] == pytest.approx(ours["miou"])
    assert set(metrics.pooled_scores(truth, truth).values()) == {1.0}
    assert metrics.pooled_scores(~truth, truth)["acc"] == 0
    assert (metrics.confusion(pred, truth).sum(1) == truth[0].size).all()


def plain_auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Chance that an object pixel outranks another, by comparing every pair."""
    fg, bg = scores[truth][:, None], scores[~truth][None]
    return ((fg > bg) + 0.5 * (fg == bg)).mean()


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_pooled_auc_equals_plain_pairs_and_torchmetrics(upsampling):
    scores, truth = blobs(6)
    up = torch.from_numpy(metrics.normalise_maps(scores))[None]
    up = F.interpolate(up, size=(32, 32), mode=upsampling)[0]
    how = {"upsampling": upsampling}
    ours = metrics.pixel_auc(torch.from_numpy(scores), torch.from_numpy(truth), **how)
    assert ours == pytest.approx(plain_auc(up.numpy(), truth), abs=1e-12)
    theirs = binary_auroc(up.flatten(), torch.from_numpy(truth).flatten().int()).item()
    assert ours == pytest.approx(theirs, abs=1e-6)
    raw = metrics.pixel_auc(scores, truth, normalise=False, **how)
    up = F.interpolate(torch.from_numpy(scores)[None], size=(32, 32), mode=upsampling)[0]
    assert raw == pytest.approx(roc_auc_score(truth.ravel(), up.ravel()))
    assert metrics.pixel_auc_estimate(scores, truth, n_boot=20, **how).value == ours
    assert raw < ours  # maps of different scale: the paper normalises instance-wise


def test_per_image_auc_leaves_out_images_of_one_class():
    scores, truth = blobs(4)
    truth[2] = False
    each = metrics.per_image_auc(scores, truth, "nearest")
    assert np.isnan(each).tolist() == [False, False, True, False]
    assert each[0] == pytest.approx(plain_auc(scores[0].repeat(2, 0).repeat(2, 1), truth[0]))
    mean = metrics.pixel_auc(scores, truth, average="image", upsampling="nearest")
    assert mean == pytest.approx(np.nanmean(each))
    up = F.interpolate(torch.from_numpy(scores)[None], size=(32, 32), mode="bilinear")[0]
    smooth = metrics.per_image_auc(scores, truth)
    np.testing.assert_allclose(smooth, metrics.per_image_auc(up, truth))
    assert metrics.pixel_auc(scores, truth, average="image") == pytest.approx(np.nanmean(smooth))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([np.exp, np.cbrt, lambda v: 5 * v - 3]))
def test_auc_sees_ranks_alone(seed, transform):
    scores, truth = blobs(3, seed=seed)
    how = {"normalise": False, "upsampling": "nearest"}  # what is interpolated has other ranks
    plain = metrics.pixel_auc(scores, truth, **how)
    assert metrics.pixel_auc(transform(scores), truth, **how) == pytest.approx(plain)
    assert metrics.pixel_auc(-scores, truth, **how) == pytest.approx(1 - plain)
    assert metrics.pixel_auc(truth.astype(float), truth) == 1


@pytest.mark.parametrize("size", [(20, 12), (16, 16), (40, 33)])
def test_upsampling_is_torchs_nearest(size):
    maps = np.random.default_rng(0).random((2, 16, 12))
    theirs = F.interpolate(torch.from_numpy(maps)[None], size=size, mode="nearest")[0]
    assert np.array_equal(score_maps._repeat_to(maps, size), theirs)


def test_best_threshold_equals_trying_all():
    scores, truth = blobs(5)
    scores = scores.round(1)  # many ties, to be taken or left together
    up = metrics.normalise_maps(scores).repeat(2, 1).repeat(2, 2)
    for metric in metrics.SCORES:
        tried = [metrics.pooled_scores(up >= t, truth)[metric] for t in np.unique(up)]
        threshold, value = metrics.best_threshold(scores, truth, metric)
        assert value == pytest.approx(max(tried))
        assert metrics.pooled_scores(up >= threshold, truth)[metric] == pytest.approx(value)


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(bool, (2, 4, 4)))
def test_best_grid_iou_equals_trying_all(truth):
    def blow_up(code: int) -> np.ndarray:
        bits = np.array([code >> i & 1 for i in range(8)], dtype=bool).reshape(2, 2, 2)
        return bits.repeat(2, 1).repeat(2, 2)

    # an empty truth is met by empty masks, which no rule would pick: leave that case aside
    truth[0, 0, 0] = True
    best = max(metrics.pooled_scores(blow_up(code), truth)["iou"] for code in range(256))
    assert metrics.best_grid_iou(truth, (2, 2)) == pytest.approx(best)
    assert metrics.best_grid_iou(truth, (4, 4)) == 1


def test_pooled_interval_equals_resampling_images():
    pred, truth = predictions(20)
    ours = metrics.pooled_estimates(pred, truth, n_boot=400)
    rng = np.random.default_rng(1)
    draws = rng.integers(0, 20, (400, 20))
    plain = [metrics.pooled_scores(pred[d], truth[d]) for d in draws]
    for name, estimate in ours.items():
        assert estimate.value == metrics.pooled_scores(pred, truth)[name] and estimate.n == 20
        low, high = np.quantile([p[name] for p in plain], [0.025, 0.975])
        width = high - low
        assert estimate.ci95 == pytest.approx((low, high), abs=0.25 * width)


def test_binned_auc_is_within_a_thousandth():
    scores, truth = blobs(40)
    scores = np.exp(4 * scores)  # heavy upper tail: even bins would fail
    for normalise in (True, False):
        maps = metrics.normalise_maps(scores) if normalise else scores
        fg, bg = score_maps._score_histograms(maps, truth, 1024)
        assert fg.sum() == truth.sum() and (fg + bg).sum() == truth.size
        binned = score_maps._auc_from_histograms(fg.sum(0), bg.sum(0))
        exact = metrics.pixel_auc(scores, truth, normalise, upsampling="nearest")
        assert abs(binned - exact) < 1e-3


def test_binned_auc_is_exact_where_values_are_few():
    scores, truth = blobs(10)
    scores = scores.round(1)
    fg, bg = score_maps._score_histograms(scores, truth, 1024)
    exact = metrics.pixel_auc(scores, truth, normalise=False, upsampling="nearest")
    assert score_maps._auc_from_histograms(fg.sum(0), bg.sum(0)) == pytest.approx(exact, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(8, 40), st.integers(0, 2**31))
def test_intervals_hold_the_point_estimate(n, seed):
    pred, truth = predictions(n, seed)
    scores, _ = blobs(n, seed=seed)
    found = [*metrics.pooled_estimates(pred, truth, 300).values()]
    found.append(metrics.pixel_auc_estimate(scores, truth, n_boot=300))
    found.append(metrics.mean_estimate(metrics.per_image_auc(scores, truth), 300))
    for estimate in found:
        low, high = estimate.ci95
        assert low - 1e-3 <= estimate.value <= high + 1e-3 and estimate.n == n
    again = metrics.pixel_auc_estimate(scores, truth, n_boot=300)
    assert again == found[-2]


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        low, high = metrics.mean_estimate(rng.normal(1.0, 2.0, 60), 400).ci95
        hits += low <= 1.0 <= high
    assert 0.90 <= hits / 300 <= 0.98


def test_mean_estimate_leaves_nan_out():
    assert metrics.mean_estimate([1.0, np.nan, 3.0]).value == 2 and metrics.mean_estimate([1.0]).n


def test_psnr_equals_torchmetrics():
    rng = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 3, 3, 8, 8, generator=rng)
    ours = metrics.psnr(a, b)
    for i in range(3):
        theirs = peak_signal_noise_ratio(a[i], b[i], data_range=1.0).item()
        assert ours[i] == pytest.approx(theirs, abs=1e-4)
    mask = torch.zeros(3, 8, 8, dtype=torch.bool)
    mask[0], mask[1, :4] = True, True
    inside = metrics.psnr(a, b, mask)
    assert inside[0] == pytest.approx(ours[0]) and np.isnan(inside[2])
    assert inside[1] == pytest.approx(metrics.psnr(a[1:2, :, :4], b[1:2, :, :4])[0])
    assert np.isinf(metrics.psnr(a, a)).all()


def test_bad_input_is_named():
    scores, truth = blobs(3)
    with pytest.raises(ValueError, match="pred: expected bool"):
        metrics.pooled_scores(scores, truth)
    with pytest.raises(ValueError, match="pred: shape"):
        metrics.pooled_scores(truth[:2], truth)
    with pytest.raises(ValueError, match="scores: 2 maps for 3 masks"):
        metrics.pixel_auc(scores[:2], truth)
    with pytest.raises(ValueError, match="scores: 256 of 768 values are NaN"):
        metrics.pixel_auc(np.where(np.arange(3)[:, None, None] == 1, np.nan, scores), truth)
    with pytest.raises(ValueError, match="masks: AUC needs pixels"):
        metrics.pixel_auc(scores, np.zeros_like(truth))
    with pytest.raises(ValueError, match="average: got 'mean'"):
        metrics.pixel_auc(scores, truth, average="mean")
    with pytest.raises(ValueError, match="upsampling: got 'cubic'"):
        metrics.pixel_auc(scores, truth, upsampling="cubic")
    with pytest.raises(ValueError, match="metric: got 'dice'"):
        metrics.best_threshold(scores, truth, "dice")
    with pytest.raises(ValueError, match=r"grid: \(5, 5\) does not divide"):
        metrics.best_grid_iou(truth, (5, 5))
    with pytest.raises(ValueError, match="level: got 95"):
        metrics.bootstrap_ci(lambda d: d[:, 0], 3, level=95)
    with pytest.raises(ValueError, match="values: expected one number"):
        metrics.mean_estimate([np.nan])
    with pytest.raises(ValueError, match="a, b: expected one shape"):
        metrics.psnr(scores, scores)
