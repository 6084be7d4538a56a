"""Masks: equal to trusted implementations, and true to the paper's rules on anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from cdlib import masks
from cdlib.masks import binarise

GRIDS = hnp.arrays(bool, st.tuples(st.integers(3, 24), st.integers(3, 24)))


def bimodal(n: int, cells: int = 256, seed: int = 0) -> np.ndarray:
    """Random maps with a quarter of the cells in a wider upper mode, (n, cells)."""
    rng = np.random.default_rng(seed)
    upper = rng.random((n, cells)) < 0.25
    return np.where(upper, rng.normal(3, 0.6, (n, cells)), rng.normal(1, 0.3, (n, cells)))


def plain_em(x: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two-component EM written out, from a first guess, with scikit-learn's stop rule."""
    resp = np.stack([~upper, upper]).astype(float)
    likelihoods = [-np.inf]
    while True:
        n = resp.sum(1)
        mean = resp @ x / n
        var = (resp * (x - mean[:, None]) ** 2).sum(1) / n
        weight = n / len(x)
        if len(likelihoods) > 2 and abs(likelihoods[-1] - likelihoods[-2]) < 1e-3:
            return mean, var, weight
        density = np.exp(-((x - mean[:, None]) ** 2) / (2 * var[:, None]))
        density *= (weight / np.sqrt(2 * np.pi * var))[:, None]
        likelihoods.append(np.log(density.sum(0)).mean())
        resp = density / density.sum(0)


def test_gmm_equals_sklearn_on_raw_maps():
    maps = bimodal(40)
    means, variances, weights = masks.fit_two_gaussians(maps)
    for i, row in enumerate(maps):
        fit = GaussianMixture(2, random_state=0).fit(row[:, None])
        order = np.argsort(fit.means_[:, 0])
        np.testing.assert_allclose(means[i], fit.means_[order, 0], rtol=1e-4)
        np.testing.assert_allclose(variances[i], fit.covariances_[order, 0, 0], rtol=1e-3)
        np.testing.assert_allclose(weights[i], fit.weights_[order], rtol=1e-3)


def best_split(x: np.ndarray) -> np.ndarray:
    """Which values are in the upper half of the best split in two: 2-means by trying all."""
    s = np.sort(x)
    cost = [s[:i].var() * i + s[i:].var() * (len(s) - i) for i in range(1, len(s))]
    return x > s[int(np.argmin(cost))]


def test_gmm_equals_plain_em():
    maps = bimodal(10, seed=1)
    found = masks.fit_two_gaussians(maps)
    for i, row in enumerate(maps):
        unit = ((row - row.mean()) / row.std())[:, None]
        start = KMeans(2, n_init=1, random_state=0).fit(unit)
        upper = start.labels_ == start.cluster_centers_.argmax()
        for ours, plain in zip(found, plain_em(row, upper), strict=True):
            np.testing.assert_allclose(ours[i], plain, rtol=1e-4)
        # k-means may end a cell or two off the best split; the threshold hardly feels it
        means, _, _ = plain_em(row, best_split(row))
        np.testing.assert_allclose(found[0][i].mean(), means.mean(), rtol=2e-3)


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(1e-6, 1e6), shift=st.floats(-10, 10))
def test_rules_follow_scale_and_shift(scale, shift):
    # the paper's sum over steps and layers, and the mean used here, must cut alike
    maps = torch.from_numpy(bimodal(2)).reshape(2, 16, 16)
    for rule in masks.RULES:
        base = masks.thresholds(maps, rule).threshold
        moved = masks.thresholds((maps + shift) * scale, rule).threshold
        torch.testing.assert_close(moved / scale - shift, base, rtol=1e-4, atol=1e-4)


def test_gmm_rule_cuts_midway_then_filters():
    maps = torch.from_numpy(bimodal(5)).reshape(5, 16, 16)
    cut = masks.thresholds(maps)
    torch.testing.assert_close(cut.threshold, cut.means.mean(1))
    expected = masks.majority_filter(maps > cut.threshold[:, None, None])
    assert torch.equal(masks.preliminary_mask(maps), expected)
    assert torch.equal(masks.preliminary_mask(maps[2]), expected[2])
    assert torch.equal(masks.preliminary_mask(maps.float().numpy()), expected)


def test_posterior_equals_sklearn_between_the_tails():
    for row in bimodal(20, seed=2):
        fit = GaussianMixture(2, random_state=0).fit(row[:, None])
        upper = fit.predict(row[:, None]) == fit.means_[:, 0].argmax()
        cut = masks.thresholds(row.reshape(16, 16), "posterior").threshold.numpy()[0]
        # the wide upper mode also claims the far lower tail in a plain argmax; a cut cannot
        sound = row > fit.means_.min()
        assert ((row > cut) == upper)[sound].mean() > 0.995


def test_posterior_without_a_crossing_goes_to_one_side():
    def cut(means, variances, weights):
        rows = (torch.tensor([x], dtype=torch.float64) for x in (means, variances, weights))
        return binarise._posterior_cut(*rows).item()

    assert cut((0.0, 0.1), (1.0, 0.9), (0.99, 0.01)) == np.inf
    assert cut((0.0, 0.1), (0.9, 1.0), (0.01, 0.99)) == -np.inf
    assert cut((0.0, 2.0), (1.0, 1.0), (0.5, 0.5)) == pytest.approx(1.0)
    assert cut((0.0, 0.0), (1.0, 1.0), (0.6, 0.4)) == np.inf


def test_other_rules():
    maps = torch.from_numpy(bimodal(3)).reshape(3, 16, 16)
    tenth = masks.preliminary_mask(maps, "percentile", percentile=90, majority=False)
    assert tenth.sum((1, 2)).tolist() == [26, 26, 26]
    otsu = masks.thresholds(maps, "otsu")
    assert otsu.means is None and ((otsu.threshold > 1.2) & (otsu.threshold < 2.8)).all()


@pytest.mark.parametrize("rule", masks.RULES)
def test_constant_map_is_all_background(rule):
    assert not masks.preliminary_mask(torch.full((2, 16, 16), 0.1), rule).any()


def test_only_valid_cells_enter_the_fit():
    inner = torch.from_numpy(bimodal(1)).reshape(16, 16)
    canvas = torch.full((2, 24, 20), -50.0, dtype=torch.float64)
    canvas[:, :16, :16] = inner
    valid = torch.zeros(24, 20, dtype=torch.bool)
    valid[:16, :16] = True
    alone, padded = masks.thresholds(inner), masks.thresholds(canvas, valid=valid)
    torch.testing.assert_close(padded.threshold, alone.threshold.expand(2), rtol=1e-9, atol=0)
    assert not masks.preliminary_mask(canvas, valid=valid)[:, ~valid].any()


def test_bad_input_is_named():
    good = torch.rand(2, 8, 8)
    with pytest.raises(ValueError, match="m_hat: 1 of 128 values are NaN"):
        bad = good.clone()
        bad[1, 2, 3] = torch.nan
        masks.preliminary_mask(bad)
    with pytest.raises(ValueError, match="rule: got 'gnn', allowed are gmm"):
        masks.preliminary_mask(good, "gnn")
    with pytest.raises(ValueError, match="m_hat: expected shape"):
        masks.preliminary_mask(good[None])
    with pytest.raises(ValueError, match="percentile: got 101"):
        masks.preliminary_mask(good, "percentile", percentile=101)
    with pytest.raises(ValueError, match="valid: shape"):
        masks.preliminary_mask(good, valid=torch.ones(8, 7, dtype=torch.bool))
    with pytest.raises(ValueError, match="two valid cells"):
        masks.preliminary_mask(good, valid=torch.zeros(8, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="mask: expected a bool tensor"):
        masks.majority_filter(good)
    with pytest.raises(ValueError, match="mode: got 'cubic'"):
        masks.upsample_mask(good > 0.5, (16, 16), "cubic")
    with pytest.raises(ValueError, match="foreground: expected shape"):
        masks.sample_rectangle(good > 0.5, torch.Generator())


@settings(max_examples=50, deadline=None)
@given(GRIDS)
def test_majority_filter_equals_plain_mean(grid):
    expected = grid.astype(float)
    expected[1:-1, 1:-1] = ndimage.uniform_filter(grid.astype(float), 3)[1:-1, 1:-1] >= 0.5
    assert np.array_equal(masks.majority_filter(torch.from_numpy(grid)).numpy(), expected > 0)


@settings(max_examples=50, deadline=None)
@given(GRIDS)
def test_fill_and_close_only_adds(grid):
    out = masks.fill_and_close(torch.from_numpy(grid)).numpy()
    assert (out | ~grid).all()
    assert np.array_equal(ndimage.binary_fill_holes(out), out)


def test_fill_and_close_equals_scipy_away_from_the_border():
    grid = torch.zeros(2, 12, 12, dtype=torch.bool)
    grid[0, 3:9, 3:9] = True
    grid[0, 5, 5] = False
    grid[1, :10, :10] = True
    inner = grid[0].numpy()
    expected = ndimage.binary_fill_holes(ndimage.binary_closing(inner))
    out = masks.fill_and_close(grid)
    assert np.array_equal(out[0].numpy(), expected)
    assert out[1].sum() == 100  # SciPy's own closing would leave 81


def test_upsampling():
    mask = torch.zeros(64, dtype=torch.bool)
    mask[20:40] = True
    mask = mask.expand(64, 64).clone()
    nearest = masks.upsample_mask(mask, (512, 512))[0].nonzero()
    dilated = masks.upsample_mask(mask[None], (512, 512), "bilinear-any")[0, 0].nonzero()
    assert (nearest.min(), nearest.max()) == (160, 319)
    assert (dilated.min(), dilated.max()) == (156, 323)  # as measured on the paper's code


def paper_rectangle(fg: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """The 64x64 sampler of section 3.4 as a plain loop: region, and if a box was accepted."""
    ys, xs = np.nonzero(~fg)
    for _ in range(100):
        i, j = rng.integers(len(ys), size=2)
        (x0, x1), (y0, y1) = sorted((xs[i], xs[j])), sorted((ys[i], ys[j]))
        w, h = x1 - x0, y1 - y0
        if w <= 10 or h <= 10 or w * h < 256 or w * h > 1024 or (w > 32 and h > 32):
            continue
        region = np.zeros_like(fg)
        region[y0 : y1 + 1, x0 : x1 + 1] = True
        region &= ~fg
        if region.sum() / (w * h) >= 2 / 3:
            return region, True
    return ~fg, False


@pytest.mark.parametrize(
    ("side", "fallback", "area"), [(16, 0, 570), (32, 0, 498), (44, 0.055, 384)]
)
def test_rectangle_figures_of_the_paper(side, fallback, area):
    fg = torch.zeros(64, 64, dtype=torch.bool)
    lo = 32 - side // 2
    fg[lo : lo + side, lo : lo + side] = True
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    ours = [masks.sample_rectangle(fg, generator) for _ in range(2000)]
    plain = [paper_rectangle(fg.numpy(), rng) for _ in range(500)]
    fell = np.array([torch.equal(r, ~fg) for r in ours])
    assert abs(fell.mean() - fallback) < 0.015
    cells = np.array([int(r.sum()) for r in ours])[~fell].mean()
    assert abs(cells / area - 1) < 0.04
    assert abs(cells / np.mean([r.sum() for r, accepted in plain if accepted]) - 1) < 0.06


@settings(max_examples=150, deadline=None)
@given(
    side=st.sampled_from([8, 16, 32, 64]),
    density=st.floats(0, 1),
    blob=st.tuples(*[st.floats(0, 1)] * 4),
    seed=st.integers(0, 2**31),
)
def test_rectangle_properties(side, density, blob, seed):
    """Foreground is a block plus, at times, scattered cells."""
    rng = np.random.default_rng(seed)
    fg = rng.random((side, side)) < density**4
    (y0, y1), (x0, x1) = (sorted(int(v * side) for v in pair) for pair in (blob[:2], blob[2:]))
    fg[y0:y1, x0:x1] = True
    fg = torch.from_numpy(fg)
    region = masks.sample_rectangle(fg, torch.Generator().manual_seed(seed))
    assert torch.equal(region, masks.sample_rectangle(fg, torch.Generator().manual_seed(seed)))
    assert region.dtype == torch.bool and region.shape == fg.shape
    assert not (region & fg).any()
    if (~fg).sum() <= 1:
        assert not region.any()
    elif not torch.equal(region, ~fg):
        y, x = region.nonzero().unbind(1)
        scale = 64 / side
        # foreground may hide an edge of the box, so its extent is bounded from above alone
        h = (int(y.max() - y.min()) + 1) * scale - 1
        w = (int(x.max() - x.min()) + 1) * scale - 1
        assert not (h > 32 and w > 32) and h * w <= 1024
        assert region.sum() * scale**2 >= 2 / 3 * 256


def test_rectangle_fallback_and_empty():
    generator = torch.Generator().manual_seed(0)
    strip = torch.ones(64, 64, dtype=torch.bool)
    strip[:, :5] = False
    assert torch.equal(masks.sample_rectangle(strip, generator), ~strip)
    strip[:, :5] = True
    strip[3, 3] = False
    assert not masks.sample_rectangle(strip, generator).any()
    assert not masks.sample_rectangle(torch.ones(16, 16, dtype=torch.bool), generator).any()


def test_several_rectangles_are_a_union():
    fg = torch.zeros(32, 32, dtype=torch.bool)
    together = masks.sample_rectangle(fg, torch.Generator().manual_seed(3), n=3)
    generator = torch.Generator().manual_seed(3)
    one_by_one = [masks.sample_rectangle(fg, generator) for _ in range(3)]
    assert torch.equal(together, one_by_one[0] | one_by_one[1] | one_by_one[2])
