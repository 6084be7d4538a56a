"""Segmentation by colour alone: right where colour tells, refused where the input is no image."""

from __future__ import annotations

import pytest
import torch

from cdlib.baselines import frame_distance, otsu_mask


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
