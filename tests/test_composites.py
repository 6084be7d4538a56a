"""An object on another background: its edge, and what is left alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdlib.inpaint import composite, feathered


def pictures(n: int = 3, size: int = 12, seed: int = 0):
    made = torch.Generator().manual_seed(seed)
    two = torch.rand(2, n, 3, size, size, generator=made)
    return two[0], torch.rand(n, size, size, generator=made) < 0.5, two[1]


def disc(size: int = 21, radius: float = 6.0) -> torch.Tensor:
    at = torch.arange(size) - size // 2
    return (at[:, None] ** 2 + at[None] ** 2 <= radius**2)[None]


def test_a_hard_edge_takes_each_pixel_from_one_picture():
    front, masks, behind = pictures()
    images, soft = composite(front, masks, behind, feather=0)
    assert torch.equal(soft, masks.float())
    assert torch.equal(images, torch.where(masks[:, None], front, behind))


def test_a_feathered_edge_fades_over_the_pixels_asked_for():
    row = torch.zeros(1, 9, 13, dtype=torch.bool)
    row[:, :, :7] = True  # the outline lies between columns 6 and 7
    assert feathered(row, 1)[0, 4, 5:9].tolist() == [1.0, 0.75, 0.25, 0.0]
    assert feathered(row, 2)[0, 4, 4:10].tolist() == [1.0, 0.875, 0.625, 0.375, 0.125, 0.0]
    assert torch.equal(feathered(row, 0.5), row.float())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, 1.0, 2.5, 40.0]))
def test_a_soft_mask_cut_at_one_half_is_the_mask(seed, feather):
    front, masks, behind = pictures(seed=seed)
    images, soft = composite(front, masks, behind, feather)
    assert torch.equal(soft > 0.5, masks)
    assert soft.min() >= 0 and soft.max() <= 1
    low, high = torch.minimum(front, behind), torch.maximum(front, behind)
    assert (images >= low - 1e-6).all() and (images <= high + 1e-6).all()


def test_far_from_the_outline_nothing_is_mixed():
    mask = disc()
    front, behind = torch.zeros(1, 3, 21, 21), torch.ones(1, 3, 21, 21)
    images, soft = composite(front, mask, behind, feather=2)
    assert images[0, :, 10, 10].eq(0).all() and images[0, :, 0, 0].eq(1).all()
    assert torch.allclose(images[:, 0], 1 - soft)
    fades = (soft > 0) & (soft < 1)
    assert fades.any() and not fades[0, 8:13, 8:13].any()


def test_masks_without_an_outline_and_no_masks_at_all():
    front, _, behind = pictures()
    masks = torch.zeros(3, 12, 12, dtype=torch.bool)
    masks[1] = True
    images, soft = composite(front, masks, behind, feather=3)
    assert torch.equal(images[0], behind[0]) and torch.equal(images[1], front[1])
    assert soft.isfinite().all()
    images, soft = composite(front[:0], masks[:0], behind[:0])
    assert images.shape == (0, 3, 12, 12) and soft.shape == (0, 12, 12)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"foregrounds": torch.zeros(3, 12, 12)}, "foregrounds"),
        ({"backgrounds": torch.zeros(3, 3, 8, 8)}, "backgrounds.*as the foregrounds"),
        ({"backgrounds": torch.zeros(3, 3, 12, 12, dtype=torch.uint8)}, "backgrounds.*uint8"),
        ({"masks": torch.zeros(3, 12, 12)}, "masks.*bool"),
        ({"masks": torch.zeros(2, 12, 12, dtype=torch.bool)}, r"masks.*\(3, 12, 12\)"),
        ({"feather": -1}, "feather=-1"),
        ({"feather": float("nan")}, "feather"),
    ],
)
def test_what_does_not_fit_is_refused(change, says):
    front, masks, behind = pictures()
    given = {"foregrounds": front, "masks": masks, "backgrounds": behind, **change}
    with pytest.raises(ValueError, match=says):
        composite(**given)
