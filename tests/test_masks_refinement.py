"""The refined mask: the paper's code written out plainly, and what each option does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.color import deltaE_cie76, rgb2lab
from sklearn.mixture import GaussianMixture

from cdlib.masks import difference, dilate_mask, fill_and_close, refine, upsample_mask


def scene(n: int = 4, size: int = 32, seed: int = 0):
    """Images with a disc each, what removal made of them, coarse masks on 8x8, and the discs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    cy, cx = rng.uniform(0.3, 0.7, (2, n, 1, 1))
    discs = torch.from_numpy(np.hypot(y - cy, x - cx) < rng.uniform(0.15, 0.25, (n, 1, 1)))
    plate = torch.from_numpy(rng.random((n, 3, 1, 1)) * 0.4 + np.zeros((n, 3, size, size))).float()
    images = torch.where(discs[:, None], plate + 0.5, plate)
    noise = torch.from_numpy(rng.normal(0, 0.03, images.shape)).float()
    m_pre = F.max_pool2d(discs.float()[:, None], size // 8)[:, 0] > 0
    return images, (plate + noise).clamp(0, 1), m_pre, discs


def plain_refine(image, removed, m_pre) -> np.ndarray:
    """Section 5.3 for one image."""
    d = (image - removed).abs().mean(0).double().numpy()
    fit = GaussianMixture(2, random_state=0).fit(d.reshape(-1, 1))
    g = (d > fit.means_.mean()).astype(float)
    g[1:-1, 1:-1] = ndimage.uniform_filter(g, 3)[1:-1, 1:-1] >= 0.5
    up = F.interpolate(m_pre[None, None].float(), size=d.shape, mode="bilinear")[0, 0] > 0
    return up.numpy() & (g > 0)


def test_refined_masks_are_those_of_the_papers_code():
    images, removed, m_pre, discs = scene()
    ours = refine(images, removed, m_pre)
    assert ours.dtype == torch.bool and ours.shape == discs.shape
    plain = np.stack([plain_refine(*one) for one in zip(images, removed, m_pre, strict=True)])
    assert (ours.numpy() != plain).mean() < 1e-3  # a cut may move by a rounding
    assert (ours & discs).sum() / (ours | discs).sum() > 0.97
    coarse = upsample_mask(m_pre, (32, 32))
    assert (coarse & discs).sum() / (coarse | discs).sum() < 0.8  # so there was something to gain


def test_nothing_outside_m_pre_is_found():
    images, removed, m_pre, _ = scene()
    images[:, :, :4] = 1 - images[:, :, :4]  # differs, but no attention was there
    m_pre[:, 0] = False
    everywhere = refine(images, removed, torch.ones_like(m_pre))
    found = refine(images, removed, m_pre, upsampling="nearest")
    assert everywhere[:, :4].any() and not found[:, :4].any()
    assert torch.equal(found, everywhere & upsample_mask(m_pre, (32, 32)))


def test_an_image_that_did_not_change_has_no_object():
    images, _, m_pre, _ = scene()
    assert not refine(images, images, m_pre).any()


def test_the_reference_takes_the_images_place():
    images, removed, m_pre, _ = scene()
    other = images.flip(0)
    found = refine(images, removed, m_pre, reference=other)
    assert torch.equal(found, refine(other, removed, m_pre))
    assert not torch.equal(found, refine(images, removed, m_pre))


def test_dilation_and_postprocessing_are_those_of_the_masks():
    images, removed, m_pre, _ = scene()
    removed[:, :, 15:17, 15:17] = images[:, :, 15:17, 15:17]  # a hole, where nothing changed
    plain = refine(images, removed, m_pre)
    assert torch.equal(refine(images, removed, m_pre, postprocess=True), fill_and_close(plain))
    assert refine(images, removed, m_pre, postprocess=True).sum() > plain.sum()
    small = torch.zeros_like(m_pre)
    small[:, 4, 4] = True
    grown = refine(images, removed, small, dilate=2)
    assert torch.equal(grown, refine(images, removed, dilate_mask(small, 2)))
    raw = refine(images, removed, m_pre, majority=False)
    assert not torch.equal(raw, plain)


def test_padding_is_left_out():
    images, removed, m_pre, _ = scene()
    inner = refine(images, removed, m_pre, upsampling="nearest", majority=False)
    wide, over = (F.pad(batch, (0, 8, 0, 8)) for batch in (images, removed))
    wide[:, :, 32:] = 1  # padding that differs more than the object
    valid = torch.zeros(40, 40, dtype=torch.bool)
    valid[:32, :32] = True
    grid = F.pad(m_pre, (0, 2, 0, 2), value=True)
    options = {"upsampling": "nearest", "majority": False, "valid": valid}
    assert torch.equal(refine(wide, over, grid, **options), F.pad(inner, (0, 8, 0, 8)))
    assert not refine(wide, over, grid, postprocess=True, **options)[:, ~valid].any()


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(0, 3))
def test_dilation_equals_scipys(grid, cells):
    square = np.ones((2 * cells + 1, 2 * cells + 1), dtype=bool)
    expected = ndimage.binary_dilation(grid, square)
    mask = torch.from_numpy(grid)
    assert np.array_equal(dilate_mask(mask, cells).numpy(), expected)
    assert np.array_equal(dilate_mask(mask.expand(2, 3, -1, -1), cells)[1, 2].numpy(), expected)


def test_difference_is_the_mean_over_colours():
    a, b = torch.rand(2, 2, 3, 5, 4)
    expected = sum((a[:, c] - b[:, c]).abs() for c in range(3)) / 3
    torch.testing.assert_close(difference(a, b), expected)
    assert difference(a.half(), b.half()).dtype == torch.float32


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_the_distance_in_lab_is_skimages(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, 3, 3, 5, 4, generator=generator)
    found = difference(a, b, "lab")
    pairs = zip(a, b, strict=True)
    plain = [
        deltaE_cie76(*(rgb2lab(one.permute(1, 2, 0).double()) for one in pair)) for pair in pairs
    ]
    torch.testing.assert_close(
        found, torch.from_numpy(np.stack(plain)).float() / 100, atol=1e-4, rtol=0
    )
    assert found.dtype == torch.float32 and torch.equal(found, difference(b, a, "lab"))
    black, white = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    assert difference(black, white, "lab").item() == pytest.approx(1, abs=1e-4)


def test_lab_tells_an_object_from_its_shadow_better():
    ground = torch.tensor([0.5, 0.6, 0.3])[:, None, None].expand(3, 8, 8)
    shade, red = ground * 0.6, torch.tensor([0.7, 0.4, 0.3])[:, None, None].expand(3, 8, 8)
    ratio = {
        space: (
            difference(red[None], ground[None], space)
            / difference(shade[None], ground[None], space)
        ).mean()
        for space in ("rgb", "lab")
    }
    assert ratio["rgb"] < 1 < ratio["lab"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"space": "hsv"}, "space: got 'hsv', allowed are rgb, lab"),
        ({"images": torch.rand(3, 8, 8)}, "images: expected floats"),
        ({"removed": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, "removed: expected floats"),
        ({"removed": torch.rand(2, 3, 8, 4)}, "removed: shape"),
        ({"reference": torch.rand(1, 3, 8, 8)}, "removed: shape"),
        ({"removed": torch.full((2, 3, 8, 8), torch.nan)}, "NaN"),
        ({"m_pre": torch.ones(2, 4, 4)}, "m_pre: expected a bool tensor"),
        ({"m_pre": torch.ones(3, 4, 4, dtype=torch.bool)}, "m_pre: expected shape"),
        ({"m_pre": torch.ones(4, 4, dtype=torch.bool)}, "m_pre: expected shape"),
        ({"dilate": -1}, "dilate=-1"),
        ({"rule": "otzu"}, "rule: got 'otzu'"),
        ({"upsampling": "cubic"}, "mode: got 'cubic'"),
        ({"valid": torch.ones(4, 4, dtype=torch.bool)}, "valid: shape"),
    ],
)
def test_bad_input_is_named(changed, says):
    good = {
        "images": torch.rand(2, 3, 8, 8),
        "removed": torch.rand(2, 3, 8, 8),
        "m_pre": torch.ones(2, 4, 4, dtype=torch.bool),
    }
    with pytest.raises(ValueError, match=says):
        refine(**(good | changed))
