"""Masks without training: right where it can be right, tuned to the best, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu

from cdlib.baselines import GRIDS, daam_mask, grabcut, otsu_baseline, otsu_mask, tune
from cdlib.datasets import load_dataset
from cdlib.metrics import pooled_scores


def disc(size: int = 32) -> torch.Tensor:
    """(size, size) bool: a disc in the middle."""
    axis = torch.arange(size) - (size - 1) / 2
    return axis[:, None] ** 2 + axis[None] ** 2 < (size / 4) ** 2


def painted(front: tuple[float, ...], back: tuple[float, ...], noise: float = 0.0) -> torch.Tensor:
    """(1, 3, H, W): the disc in one colour on another."""
    front, back = (torch.tensor(colour)[:, None, None] for colour in (front, back))
    image = torch.where(disc(), front, back)
    grain = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return (image + noise * grain).clamp(0, 1)[None]


RED, GREEN, BLACK, WHITE = (0.9, 0.1, 0.1), (0.2, 0.6, 0.2), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


# ------------------------------------------------------------------------------------------ Otsu


@pytest.mark.parametrize("colours", [(BLACK, WHITE), (WHITE, BLACK)])
@pytest.mark.parametrize("of", ["grey", "frame"])
def test_otsu_finds_what_is_brighter_or_darker(colours, of):
    assert torch.equal(otsu_baseline(painted(*colours), of)[0], disc())


def test_otsu_of_grey_equals_skimage():
    image = painted((0.8, 0.7, 0.6), (0.3, 0.2, 0.4), noise=0.1)
    grey = torch.einsum("nchw,c->nhw", image, torch.tensor([0.299, 0.587, 0.114]))[0].numpy()
    wanted = grey.astype(np.float64) > threshold_otsu(grey.astype(np.float64))
    assert (otsu_baseline(image, "grey")[0].numpy() == wanted).all()


def test_otsu_by_default_is_the_mask_of_the_first_chapter():
    images = load_dataset(concept="bird", limit=3).images
    assert torch.equal(otsu_baseline(images), otsu_mask(images))


def test_blur_and_closing_help_against_grain():
    image = painted((0.7, 0.5, 0.5), (0.4, 0.5, 0.5), noise=0.15)
    iou = {
        how: pooled_scores(otsu_baseline(image, sigma=how, close=how > 0), disc()[None])["iou"]
        for how in (0.0, 1.0)
    }
    assert iou[1.0] > iou[0.0]


# --------------------------------------------------------------------------------------- GrabCut


@pytest.mark.parametrize("outside", ["background", "probably"])
def test_grabcut_finds_a_coloured_disc(outside):
    image = painted(RED, GREEN, noise=0.02)
    found = grabcut(image, 0.7, outside=outside)
    assert found.dtype == torch.bool and torch.equal(found[0], disc())


def test_grabcut_keeps_to_its_box_where_outside_is_background():
    image = torch.cat([painted(RED, GREEN, noise=0.02), torch.rand(1, 3, 32, 32)])
    found = grabcut(image, 0.5)
    beyond = torch.ones(32, 32, dtype=torch.bool)
    beyond[8:24, 8:24] = False
    assert not (found & beyond).any()


def test_grabcut_gives_an_image_the_same_mask_alone_and_among_others():
    images = load_dataset(concept="dog", limit=3).images
    together = grabcut(images)
    assert torch.equal(together, torch.cat([grabcut(image[None]) for image in images]))
    assert torch.equal(together, grabcut(images))


@pytest.mark.parametrize("share", [0.05, 0.99])
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_grabcut_bears_flat_and_small_images_and_extreme_boxes(share, value):
    for size in ((8, 8), (9, 21)):
        assert grabcut(torch.full((1, 3, *size), value), share).shape == (1, *size)


# ------------------------------------------------------------------------------------------ DAAM


def test_daam_cuts_at_a_share_of_the_maximum_or_of_the_range():
    maps = torch.tensor([[[0.2, 0.5], [0.6, 1.0]]])
    assert daam_mask(maps).tolist() == [[[False, True], [True, True]]]
    assert daam_mask(maps, of="range", threshold=0.55).tolist() == [[[False, False], [False, True]]]


def test_daam_interpolates_before_it_cuts():
    maps = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(maps[:, None], (16, 16), mode="bicubic")[:, 0]
    wanted = torch.stack([one > 0.4 * one.max() for one in large])
    assert torch.equal(daam_mask(maps, (16, 16)), wanted)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 100), st.floats(0, 0.9), st.integers(0, 2**31))
def test_daam_is_the_same_for_a_scaled_map_and_shrinks_as_the_share_grows(scale, threshold, seed):
    maps = torch.rand(1, 5, 6, generator=torch.Generator().manual_seed(seed)) + 0.01
    found = daam_mask(maps, threshold=threshold)
    tighter = daam_mask(maps, threshold=threshold + 0.05)
    assert (found | ~tighter).all() and found.any()
    near = (maps / maps.max() - threshold).abs() < 1e-5  # rounding may go either way there
    assert ((daam_mask(maps * scale, threshold=threshold) == found) | near).all()


def test_a_flat_map_has_no_object_by_its_range():
    assert not daam_mask(torch.full((1, 4, 4), 0.3), of="range").any()
    assert not daam_mask(torch.zeros(1, 4, 4)).any()


# ---------------------------------------------------------------------------------------- tuning


@pytest.fixture(scope="module")
def val():
    return load_dataset(concept="bird", split="val", limit=6)


@pytest.mark.parametrize("name", list(GRIDS))
def test_tuning_takes_the_best_of_all_that_is_tried(val, name):
    m_hat = F.avg_pool2d(val.masks[:, None].float(), 8)[:, 0] + 0.2
    rival = tune(name, val.images, val.masks, m_hat)
    assert len(rival.tried) == len(GRIDS[name]) and rival.iou == rival.tried["iou"].max()
    assert rival.settings in GRIDS[name]
    again = pooled_scores(rival.masks(val.images, m_hat), val.masks)["iou"]
    assert again == rival.iou >= rival.tried["iou"][0]
    with pytest.raises(ValueError, match="name='otsv'.*Did you mean"):
        tune("otsv", val.images, val.masks)


def test_of_equals_the_first_is_taken(val):
    grid = [{"threshold": 0.0}, {"threshold": 0.0, "of": "maximum"}]
    m_hat = torch.ones(6, 4, 4)
    assert tune("daam", val.images, val.masks, m_hat, grid).settings == grid[0]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: otsu_baseline(x, "gray"), "of='gray'.*Did you mean 'grey'"),
        (lambda x: otsu_baseline(x, sigma=-1), "sigma=-1"),
        (lambda x: otsu_baseline(x[0]), "images"),
        (lambda x: grabcut(x, 1.0), "share=1.0"),
        (lambda x: grabcut(x, iterations=0), "iterations=0"),
        (lambda x: grabcut(x, outside="sure"), "outside='sure'"),
        (lambda x: grabcut(x[:, :, :4]), "images: GrabCut needs sides of 8"),
        (lambda x: daam_mask(x), "m_hat"),
        (lambda x: daam_mask(x[0], threshold=2), "threshold=2"),
        (lambda x: daam_mask(x[0], of="min"), "of='min'"),
        (lambda x: tune("daam", x, x[:, 0] > 2), "m_hat: daam needs a map for each of 1"),
        (lambda x: tune("otsu", x, x[:, 0] > 2, grid=[]), "grid"),
    ],
)
def test_refusals(call, says):
    with pytest.raises(ValueError, match=says):
        call(torch.zeros(1, 3, 16, 16))
