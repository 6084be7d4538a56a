"""What needs no model: right where it can be right, the same as plain loops, and refusals."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cdlib.baselines import (
    crop_baseline,
    cv2_inpaint,
    frame_distance,
    largest_rectangles,
    otsu_mask,
)

GRIDS = hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)))


def disc(size: int = 32) -> torch.Tensor:
    """(size, size) bool: a disc in the middle."""
    axis = torch.arange(size) - (size - 1) / 2
    return axis[:, None] ** 2 + axis[None] ** 2 < (size / 4) ** 2


def painted(front: tuple[float, ...], back: tuple[float, ...]) -> torch.Tensor:
    """(3, H, W): the disc in one colour on another."""
    front, back = (torch.tensor(colour)[:, None, None] for colour in (front, back))
    return torch.where(disc(), front, back)


def test_a_coloured_disc_is_found_exactly_whether_it_is_darker_or_brighter():
    images = torch.stack(
        [painted((0.9, 0.1, 0.1), (0.2, 0.6, 0.2)), painted((0, 0, 0), (1.0, 1.0, 1.0))]
    )
    assert torch.equal(otsu_mask(images), disc().expand(2, -1, -1))


def test_distance_is_euclidean_from_the_mean_of_the_frame():
    image = painted((0.7, 0.2, 0.2), (0.1, 0.2, 0.2))
    image[:, 0] = 0.3  # one of the frame's rows
    on_frame = torch.ones(32, 32, dtype=torch.bool)
    on_frame[1:-1, 1:-1] = False
    mean = image[:, on_frame].mean(1)
    wanted = (image[:, 16, 16] - mean).norm()
    assert torch.allclose(frame_distance(image[None], width=1)[0, 16, 16], wanted)


def test_a_flat_image_has_no_object():
    assert not otsu_mask(torch.full((1, 3, 16, 16), 0.5)).any()


@pytest.mark.parametrize(
    ("images", "width", "says"),
    [
        (torch.zeros(3, 16, 16), 2, r"images: .*\(3, 16, 16\)"),
        (torch.zeros(1, 1, 16, 16), 2, "images"),
        (torch.zeros(1, 3, 16, 16), 0, "width=0"),
        (torch.zeros(1, 3, 16, 16), 9, "width=9"),
    ],
)
def test_what_is_no_image_is_refused(images, width, says):
    with pytest.raises(ValueError, match=says):
        frame_distance(images, width)


# ------------------------------------------------------------------------------- M_crop


def plain_largest(free: np.ndarray) -> tuple[int, int, int, int]:
    """Try every rectangle, in the order in which equals are preferred."""
    h, w = free.shape
    best = (0, 0, 0, 0)
    for rows in range(1, h + 1):
        for left in range(w):
            for top in range(h - rows + 1):
                for columns in range(1, w - left + 1):
                    whole = free[top : top + rows, left : left + columns].all()
                    if whole and rows * columns > best[2] * best[3]:
                        best = (top, left, rows, columns)
    return best


@settings(max_examples=60, deadline=None)
@given(GRIDS)
def test_largest_rectangles_equal_trying_all(free):
    found = largest_rectangles(torch.from_numpy(free))
    assert [tuple(one) for one in found.tolist()] == [plain_largest(one) for one in free]


@settings(max_examples=40, deadline=None)
@given(GRIDS, st.integers(1, 3), st.integers(0, 2**31))
def test_the_crop_is_the_rectangle_flipped_over_and_over(m_pre, cell, seed):
    mask = torch.from_numpy(m_pre)
    n, h, w = mask.shape
    images = torch.rand(n, 3, h * cell, w * cell, generator=torch.Generator().manual_seed(seed))
    out = crop_baseline(images, mask)
    for i, (top, left, rows, columns) in enumerate((largest_rectangles(~mask) * cell).tolist()):
        covered = np.kron(m_pre[i], np.ones((cell, cell), bool))
        assert torch.equal(out[i][:, ~covered], images[i][:, ~covered])
        if not rows:
            assert torch.equal(out[i], images[i])
            continue
        region = images[i].numpy()[:, top : top + rows, left : left + columns]
        after = [(top, h * cell - top - rows), (left, w * cell - left - columns)]
        flipped = np.pad(region, [(0, 0), *after], mode="symmetric")
        assert np.array_equal(out[i].numpy()[:, covered], flipped[:, covered])


def test_a_plain_background_hides_the_object_entirely():
    image = painted((0.9, 0.1, 0.1), (0.2, 0.6, 0.2))[None]
    m_pre = torch.zeros(1, 8, 8, dtype=torch.bool)
    m_pre[0, 1:7, 1:7] = True
    background = image[:, :, :1, :1].expand_as(image)
    assert torch.equal(crop_baseline(image, m_pre), background)


@pytest.mark.parametrize(
    ("m_pre", "says"),
    [
        (torch.ones(1, 4, 4), "m_pre: must be bool"),
        (torch.ones(2, 4, 4, dtype=torch.bool), r"m_pre: must be bool of shape \(1, h, w\)"),
        (torch.ones(1, 5, 5, dtype=torch.bool), "m_pre: 5x5 cells do not divide"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(m_pre, says):
    with pytest.raises(ValueError, match=says):
        crop_baseline(torch.zeros(1, 3, 16, 16), m_pre)


# ------------------------------------------------------------------------------- OpenCV


@pytest.mark.parametrize(("method", "flag"), [("telea", cv2.INPAINT_TELEA), ("ns", cv2.INPAINT_NS)])
def test_inpainting_is_opencvs(method, flag):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.stack([disc(), torch.zeros(32, 32, dtype=torch.bool)])
    out = cv2_inpaint(images, mask, method, radius=4)
    pixels = (images[0].permute(1, 2, 0) * 255).round().byte().numpy()
    theirs = cv2.inpaint(pixels, mask[0].byte().numpy(), 4, flag)
    theirs = torch.from_numpy(theirs).permute(2, 0, 1) / 255
    assert torch.equal(out[0][:, mask[0]], theirs[:, mask[0]])
    assert torch.equal(out[0][:, ~mask[0]], images[0][:, ~mask[0]])  # not even rounded
    assert torch.equal(out[1], images[1])


def test_inpainting_continues_a_plain_background():
    images = painted((0.9, 0.1, 0.1), (0.2, 0.6, 0.2))[None]
    out = cv2_inpaint(images, disc()[None])
    assert (out - images[:, :, :1, :1]).abs().max() < 5 / 255  # OpenCV rounds as it marches


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"images": torch.zeros(3, 16, 16)}, "images"),
        ({"mask": torch.zeros(1, 16, 16)}, "mask: must be bool"),
        ({"mask": torch.zeros(1, 4, 4, dtype=torch.bool)}, r"mask: .*\(1, 16, 16\)"),
        ({"method": "tela"}, "method='tela'.*'telea'"),
        ({"radius": 0}, "radius=0"),
        ({"radius": float("nan")}, "radius=nan"),
    ],
)
def test_what_opencv_cannot_use_is_refused(changed, says):
    good = {"images": torch.zeros(1, 3, 16, 16), "mask": torch.zeros(1, 16, 16, dtype=torch.bool)}
    with pytest.raises(ValueError, match=says):
        cv2_inpaint(**(good | changed))
