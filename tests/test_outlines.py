"""Outlines by colour: GrabCut started from a mask, within a region."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdlib.masks import dilate_mask, refine, upsample_mask
from cdlib.outlines import grabcut_sides, polish_mask, sharpen


def disc(size: int = 48, radius: float = 12.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A red disc on green, both a little noisy: (1, 3, size, size) and its mask (1, size, size)."""
    axis = torch.arange(size) - (size - 1) / 2
    mask = axis[:, None] ** 2 + axis[None] ** 2 <= radius**2
    colours = torch.tensor([[0.2, 0.6, 0.2], [0.8, 0.2, 0.2]])
    noise = torch.randn(size, size, 3, generator=torch.Generator().manual_seed(seed)) * 0.04
    return (colours[mask.long()] + noise).clamp(0, 1).permute(2, 0, 1)[None], mask[None]


def iou(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_rough_mask_finds_the_outline():
    image, truth = disc()
    rough = truth.clone()
    rough[:, :20] = False  # its upper part is missing
    # and there is too much at one side
    rough |= dilate_mask(truth, 4) & ~truth & (torch.arange(48) > 30)
    found = polish_mask(image, rough, dilate_mask(truth, 6))
    assert iou(rough, truth) < 0.75 and iou(found, truth) > 0.97


def test_it_is_opencv_s_grabcut_from_four_sides():
    image, truth = disc(seed=3)
    rough, region = dilate_mask(truth, 2), dilate_mask(truth, 5)
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    sides = np.full(truth.shape[1:], cv2.GC_BGD, np.uint8)
    sides[region[0].numpy()] = cv2.GC_PR_BGD
    sides[rough[0].numpy()] = cv2.GC_PR_FGD
    cv2.setRNGSeed(7)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(pixels, sides, None, *models, 2, cv2.GC_INIT_WITH_MASK)
    found = polish_mask(image, rough, region, iterations=2, side=0, seed=7)
    assert (found[0].numpy() == np.isin(sides, (cv2.GC_FGD, cv2.GC_PR_FGD))).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 11), st.integers(0, 4))
def test_nothing_lies_outside_the_region_and_each_image_is_alone(seed, radius, by):
    pairs = zip(disc(32, radius, seed), disc(32, radius, seed + 1), strict=True)
    images, truth = (torch.cat(pair) for pair in pairs)
    start = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(seed)) < 0.5
    region = dilate_mask(truth, by)
    found = polish_mask(images, start, region, side=64)
    assert not (found & ~region).any() and found.dtype == torch.bool
    for k in (1, 0):
        alone = polish_mask(images[k : k + 1], start[k : k + 1], region[k : k + 1], side=64)
        assert torch.equal(alone[0], found[k])


@pytest.mark.parametrize("pixels", [0, 4])
def test_what_is_too_small_to_have_colours_stays(pixels):
    image, _ = disc()
    few = torch.zeros(1, 48, 48, dtype=torch.bool)
    few.view(-1)[1000 : 1000 + pixels] = True
    assert torch.equal(polish_mask(image, few, torch.ones_like(few)), few)
    everything = torch.ones_like(few)
    assert torch.equal(polish_mask(image, everything, everything), everything)


def test_a_mask_of_the_background_s_colour_is_not_lost():
    image, truth = disc()
    start = torch.zeros_like(truth)
    start[:, 2:5, 2:5] = True  # a corner that is like all the rest of the background
    found = polish_mask(image, start, start)
    assert found.any() and not (found & ~start).any()


@pytest.mark.parametrize(("side", "factor"), [(0, 1), (48, 1), (49, 2), (96, 2), (100, 3)])
def test_images_are_enlarged_by_a_whole_factor(side, factor, monkeypatch):
    seen = []
    real = cv2.grabCut
    monkeypatch.setattr(
        cv2, "grabCut", lambda image, *rest: seen.append(image.shape) or real(image, *rest)
    )
    image, truth = disc()
    pixels = (image[0].permute(1, 2, 0) * 255).byte().numpy()
    sides = np.where(truth[0].numpy(), cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    before = sides.copy()
    found = grabcut_sides(pixels, sides, 1, side)
    assert seen == [(48 * factor, 48 * factor, 3)]
    assert found.shape == (48, 48) and found.dtype == bool and (sides == before).all()


def test_sharpen_polishes_within_the_region_or_leaves_the_cut():
    image, truth = disc(64, 17)
    plate = torch.tensor([0.2, 0.6, 0.2])[:, None, None].expand(3, 64, 64)[None].clone()
    plate[:, :, :30] = image[:, :, :30]  # half of the object was painted again
    m_pre = truth[:, ::4, ::4]
    cut = refine(image, plate, m_pre, dilate=1)
    assert torch.equal(cut, sharpen(image, plate, m_pre, dilate=1))
    polished = sharpen(image, plate, m_pre, dilate=1, polish="grabcut")
    region = upsample_mask(dilate_mask(m_pre, 1), (64, 64), "bilinear-any")
    assert torch.equal(polished, polish_mask(image, cut, region))
    assert iou(cut, truth) < 0.6 and iou(polished, truth) > 0.95


def test_slips_are_told():
    image, truth = disc()
    with pytest.raises(ValueError, match="polish='crf': allowed are none, grabcut"):
        sharpen(image, image, truth, polish="crf")
    with pytest.raises(ValueError, match=r"m, within: must be bool \(N, H, W\) of images"):
        polish_mask(image, truth, truth[:, 1:])
