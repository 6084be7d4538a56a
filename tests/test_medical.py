"""The radiograph domain: mixtures of any number of modes, words, regions, AUC, what is left."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from tiny import pocket_shaped

from cdlib import masks
from cdlib.attention import token_attention
from cdlib.datasets import load_dataset
from cdlib.figures import medical as draw
from cdlib.metrics import Estimate
from cdlib.params import check_parameters
from cdlib.stages import medical
from cdlib.store import Store

pytestmark = pytest.mark.usefixtures("closed_figures")


def three_levels(n: int = 4, side: int = 32, share: float = 0.02, seed: int = 0) -> torch.Tensor:
    """Maps of three groups of values, 0, 1 and 2: a third, most of the rest, and `share`."""
    rng = np.random.default_rng(seed)
    values = np.ones((n, side * side))
    values[:, : side * side // 3] = 0
    values[:, -int(share * side * side) :] = 2
    return torch.from_numpy(values + 0.1 * rng.normal(size=values.shape)).reshape(n, side, side)


@pytest.fixture(scope="module")
def data():
    return load_dataset("pocket", "mass", "test", limit=4)


# ---------------------------------------------------------------------------------- mixtures


def test_two_modes_are_the_papers_rule():
    maps = torch.rand(5, 12, 12, generator=torch.Generator().manual_seed(0)) ** 3
    for majority in (True, False):
        two = masks.mixture_mask(maps, 2, majority=majority)
        assert torch.equal(two, masks.preliminary_mask(maps, "gmm", majority=majority))
    fit, known = masks.fit_mixture(maps, 2), masks.thresholds(maps, "gmm")
    assert torch.equal(fit.threshold, known.threshold)
    assert torch.equal(fit.means, known.means) and torch.equal(fit.variances, known.variances)


def test_modes_equal_sklearns_on_raw_values():
    maps = three_levels()
    fit = masks.fit_mixture(maps, 3)
    for k, one in enumerate(maps.reshape(len(maps), -1, 1).numpy()):
        known = GaussianMixture(3, random_state=0).fit(one)
        order = np.argsort(known.means_[:, 0])
        np.testing.assert_allclose(fit.means[k], known.means_[order, 0], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(fit.weights[k], known.weights_[order], rtol=1e-3)


def test_a_third_mode_finds_what_two_swallow():
    maps = three_levels()
    truth = torch.zeros(maps.shape, dtype=torch.bool).flatten(1)
    truth[:, -int(0.02 * 32 * 32) :] = True
    truth = truth.reshape(maps.shape)
    two, three = (masks.mixture_mask(maps, k, majority=False) for k in (2, 3))
    assert two.float().mean() > 0.6  # all that is not air
    assert torch.equal(three, truth)


def test_the_criterion_tells_how_many_groups_there_are():
    three = three_levels(share=0.2)
    assert (masks.fit_mixture(three, 3).bic < masks.fit_mixture(three, 2).bic).all()
    two = (three > 0.5).double() + 0.1 * torch.randn(three.shape, dtype=torch.float64)
    assert (masks.fit_mixture(two, 2).bic < masks.fit_mixture(two, 3).bic).float().mean() >= 0.5


def test_only_valid_cells_are_fitted_and_kept():
    maps, valid = three_levels(2), torch.ones(32, 32, dtype=torch.bool)
    valid[:16] = False
    spoilt = torch.where(valid, maps, torch.full_like(maps, 50.0))
    found = masks.mixture_mask(spoilt, 3, valid)
    assert not found[:, :16].any()
    fit = masks.fit_mixture(spoilt, 3, valid)
    assert torch.equal(fit.means, masks.fit_mixture(maps, 3, valid).means)


def test_a_constant_map_has_no_object():
    flat = torch.full((2, 8, 8), 0.3)
    assert not masks.mixture_mask(flat, 3).any() and masks.mixture_mask(flat[0], 3).shape == (8, 8)
    fit = masks.fit_mixture(flat, 3)
    assert torch.isnan(fit.bic).all() and fit.weights.tolist() == [[1, 0, 0]] * 2
    assert masks.fit_mixture(torch.zeros(0, 8, 8), 3).means.shape == (0, 3)


@pytest.mark.parametrize("components", [1, 9, 2.0, "3", True])
def test_wrong_number_of_modes_is_refused(components):
    with pytest.raises(ValueError, match="components"):
        masks.fit_mixture(torch.rand(1, 8, 8), components)


def test_more_modes_than_cells_are_refused():
    with pytest.raises(ValueError, match="components=5"):
        masks.fit_mixture(torch.rand(1, 2, 2), 5)


# ----------------------------------------------------------------------------------- the AUC


def test_auc_is_each_pictures_own_on_interpolated_maps(data):
    m_hat = torch.rand(len(data), 16, 16, generator=torch.Generator().manual_seed(1))
    boxes = medical.box_masks(data)
    for truth in (data.masks, boxes):
        plain = []
        for one, mask in zip(m_hat, truth, strict=True):
            scaled = ((one - one.min()) / (one.max() - one.min()))[None, None]
            big = torch.nn.functional.interpolate(scaled, size=(64, 64), mode="bilinear")
            plain.append(roc_auc_score(mask.flatten().numpy(), big.flatten().numpy()))
        found = medical.chest_auc(m_hat, truth)
        assert np.allclose(medical.image_aucs(m_hat, truth), plain, atol=1e-6)
        assert np.isclose(found.value, np.mean(plain), atol=1e-6) and found.n == len(data)


def test_boxes_hold_their_masks_tightly(data):
    boxes = medical.box_masks(data)
    assert (boxes & data.masks).sum() == data.masks.sum()
    for box, mask in zip(boxes, data.masks, strict=True):
        assert torch.equal(box.any(0), mask.any(0)) and torch.equal(box.any(1), mask.any(1))


def test_a_picture_without_boxes_is_named(data):
    from dataclasses import replace

    from cdlib.datasets import Dataset

    without = Dataset([replace(data[0], boxes=None)], "mass", "test")
    with pytest.raises(ValueError, match="has no boxes"):
        medical.box_masks(without)


# --------------------------------------------------------------------------------- the words


def test_words_are_scored_by_their_own_maps(data, tmp_path):
    pipe, store = pocket_shaped(), Store(tmp_path)
    few, prompt = data[:2], "a photo of a bird"
    how = {"t0": 2, "steps": 3, "seed": 4}
    table = medical.word_scores(pipe, few, [prompt, "a dog"], store=store, **how)
    assert set(zip(table.prompt, table.word, strict=True)) == {
        *((prompt, word) for word in ("a", "photo", "of", "bird")),
        *(("a dog", word) for word in ("a", "dog")),
    }
    assert table.auc.is_monotonic_decreasing
    maps = token_attention(pipe, few.images, prompt, **how)
    row = table[(table.prompt == prompt) & (table.word == "bird")].iloc[0]
    assert row.auc == medical.chest_auc(maps[:, 5], few.masks).value  # start, a, photo, of, a, bird
    twice = table[(table.prompt == prompt) & (table.word == "a")].iloc[0]
    assert np.isclose(twice.share, float(maps[:, [1, 4]].sum(1).mean()))


def test_prompts_name_the_finding():
    assert medical.finding_prompts("mass")[0] == "final report examination chest mass"
    assert all("effusion" in prompt for prompt in medical.finding_prompts("effusion"))


def test_masks_by_modes_and_filter():
    maps = three_levels(2, 16)
    found = medical.cut_masks(maps, (64, 64), seed=1)
    assert list(found) == [(2, True), (2, False), (3, True), (3, False)]
    for (k, majority), mask in found.items():
        plain = masks.mixture_mask(maps, k, majority=majority, seed=1)
        assert torch.equal(mask, masks.upsample_mask(plain, (64, 64)))


def test_radiographs_cut_by_their_modes(tmp_path, monkeypatch):
    p = check_parameters({"preset": "quick", "n_images": 2, "finding": "effusion"}, "08_medical")
    made = medical.Radiographs(
        SimpleNamespace(**vars(p)), y_f="a photo", word="photo", components=3, store=Store(tmp_path)
    )
    made.pipe = pocket_shaped()
    maps = three_levels(2, 16)
    monkeypatch.setattr(made, "attention", lambda images: maps)
    data, m_hat, m_pre = made.coarse("test")
    assert data.concept == "effusion" and len(data) == 2 and m_hat is maps
    assert torch.equal(m_pre, masks.mixture_mask(maps, 3, seed=p.seed))
    assert made.y_b == medical.NO_FINDING
    made.components = 2
    assert torch.equal(made.coarse("test")[2], masks.preliminary_mask(maps, p.rule, seed=p.seed))
    with pytest.raises(ValueError, match="painter"):
        medical.Radiographs(p, y_f="a photo", word="photo", painter="m2")
    made.majority = False
    bare = masks.mixture_mask(maps, 2, majority=False, seed=p.seed)
    assert torch.equal(made.coarse("test")[2], bare)


@pytest.mark.parametrize("painter", ["m", "m_prime"])
def test_radiographs_are_painted_by_whom_was_asked(painter, data, tmp_path):
    p = check_parameters({"preset": "quick", "removal_steps": 1, "resample": 1}, "08_medical")
    made = medical.Radiographs(
        p, y_f="a photo", word="photo", painter=painter, store=Store(tmp_path)
    )
    made.y_b = "a photo of the beach"  # the tiny model's vocabulary has no radiographs
    made.pipe, made.m_prime = pocket_shaped(), pocket_shaped(seed=1)
    few, m_pre = data.images[:2], torch.rand(2, 16, 16) < 0.3
    removed, refined = made.sharpen(few, m_pre)
    by = made.pipe if painter == "m" else made.m_prime
    assert torch.equal(removed, made.remove(by, few, m_pre))
    plain = masks.refine(few, removed, m_pre, dilate=p.dilate, seed=p.seed)
    assert torch.equal(refined, plain)


# ------------------------------------------------------------------- regions, and what is left


@pytest.mark.parametrize("finding", ["mass", "effusion"])
def test_a_chest_is_divided_without_remainder(finding):
    data = load_dataset("pocket", finding, "test", limit=12)
    regions = medical.chest_regions(data.plates, data.masks)
    assert tuple(regions) == medical.REGIONS
    assert (sum(mask.astype(int) for mask in regions.values()) == 1).all()
    grey = data.plates.mean(1).numpy()
    level = {name: grey[mask].mean() for name, mask in regions.items()}
    assert level["outside"] < level["lungs"] < level["body"]
    assert (regions["lungs"].mean((1, 2)) > 0.1).all()
    assert not regions["lungs"][:, [0, -1]].any() and regions["outside"][:, 0, 0].all()


def test_a_mass_lies_in_the_lungs():
    data = load_dataset("pocket", "mass", "test", limit=12)
    nothing = torch.zeros_like(data.masks)
    lungs = medical.chest_regions(data.plates, nothing)["lungs"]
    assert (lungs & data.masks.numpy()).sum() > 0.6 * data.masks.sum()


def test_findings_of_another_shape_are_refused(data):
    with pytest.raises(ValueError, match="findings"):
        medical.chest_regions(data.plates, data.masks[:, :32])


def test_what_is_left_of_a_finding(data):
    left = medical.finding_left
    x, plate, truth = data.images, data.plates, data.masks
    assert np.allclose(left(x, x, plate, truth), 1)
    assert np.allclose(left(x, plate, plate, truth), 0)
    assert np.allclose(left(x, 0.3 * x + 0.7 * plate, plate, truth), 0.3, atol=1e-5)
    assert (left(x, 2 * plate - x, plate, truth) < 0).all()
    outside = torch.where(truth[:, None], plate, torch.rand_like(x))
    assert np.allclose(left(x, outside, plate, truth), 0)
    assert np.isnan(left(x, x, plate, torch.zeros_like(truth))).all()


# ------------------------------------------------------------------------------------ figures


def test_figures_hold_for_empty_masks_and_flat_maps(data):
    nothing = torch.zeros_like(data.masks)
    regions = medical.chest_regions(data.plates, nothing)
    draw.chests(data.images, regions, ["none"] * len(data))
    draw.maps_and_boxes(data.images, torch.zeros(4, 16, 16), nothing, [()] * 4)
    flat = np.zeros((64, 64))
    fit = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    parts = {name: mask[0] for name, mask in regions.items()}
    draw.modes([flat], [parts], [{"2 modes": (fit, 0.0)}], ["one"]).canvas.draw()
    one = Estimate(0.5, (0.4, 0.6), 4)
    draw.auc_strips({"mass": np.array([np.nan, 0.5])}, {"mass": one}).canvas.draw()
    draw.region_cover({"2 modes": {"lungs": one}, "3 modes": {"lungs": one}})
    rows = {"map": torch.rand(4, 16, 16), "mask": nothing}
    assert len(draw.mask_rows(data.images, rows, nothing).axes) == 12
