"""What a step of training sees: windows, flips and other colours."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from test_segmenter import pairs

from cdlib.segmenter import draw_batch, recoloured


@settings(max_examples=40, deadline=None)
@given(
    step=st.integers(0, 10_000),
    seed=st.integers(0, 2**31 - 1),
    height=st.integers(16, 50),
    width=st.integers(16, 50),
    size=st.tuples(st.integers(1, 16), st.integers(1, 16)),
)
def test_masks_go_where_their_images_go(step, seed, height, width, size):
    """The mask is the green channel: after any window and flip it still is."""
    images = torch.rand(5, 3, height, width, generator=torch.Generator().manual_seed(seed))
    x, y = draw_batch(images, images[:, 1], step, batch_size=7, size=size, seed=seed)
    assert x.shape == (7, 3, *size) and torch.equal(x[:, 1], y)
    again, _ = draw_batch(list(images), images[:, 1], step, batch_size=7, size=size, seed=seed)
    assert torch.equal(x, again)


def test_windows_move_and_are_mirrored():
    """Of a ramp, one draw in two runs backwards, and none starts beyond a 16th outside."""
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    firsts, backwards = set(), 0
    for step in range(60):
        x, _ = draw_batch(ramp, ramp[:, 0], step, batch_size=4, size=(32, 32))
        places = (x[:, 0, 0] * 31).round().int()
        backwards += int((places[:, 16] < places[:, 8]).sum())
        firsts |= {tuple(sorted(row[[0, -1]].tolist())) for row in places}
    assert 80 < backwards < 160
    assert firsts == {(0, 31), (1, 30), (2, 29)}  # at either end the places come back


def test_soft_masks_stay_what_they_are():
    images, masks = pairs()
    soft = 0.25 + 0.5 * masks.float()
    _, y = draw_batch(images, soft, 3, batch_size=8, size=(32, 32))
    assert set(y.unique().tolist()) == {0.25, 0.75}
    _, y = draw_batch(images, masks, 3, batch_size=8, size=(32, 32))
    assert y.dtype == torch.float32 and set(y.unique().tolist()) == {0.0, 1.0}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), strength=st.floats(0.05, 1))
def test_colours_are_turned_about_the_axis_of_greys(seed, strength):
    """Each image by SciPy's rotation, then a mix with its grey, then a line for contrast."""
    images = 0.5 + 0.1 * torch.rand(3, 3, 5, 4, generator=torch.Generator().manual_seed(seed))
    found = recoloured(images, np.random.default_rng(seed), strength)
    ends = strength * np.array([[np.pi], [0.4], [0.3], [0.15]])
    drawn = np.random.default_rng(seed).uniform(-ends, ends, (4, 3)).T
    for image, one, (angle, saturation, contrast, brightness) in zip(
        images.double().numpy(), found, drawn, strict=True
    ):
        turn = Rotation.from_rotvec(angle * np.ones(3) / np.sqrt(3)).as_matrix()
        turned = np.einsum("ij,jhw->ihw", turn, image)
        grey = turned.mean(0)
        mixed = grey + (1 + saturation) * (turned - grey)
        level = mixed.mean()
        expected = (level + (1 + contrast) * (mixed - level) + brightness).clip(0, 1)
        np.testing.assert_allclose(one, expected, atol=1e-5)


def test_recolouring_leaves_greys_grey_and_masks_alone():
    images, masks = pairs()
    grey = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    found = recoloured(grey, np.random.default_rng(0))
    assert not torch.allclose(found, grey) and (found >= 0).all() and (found <= 1).all()
    torch.testing.assert_close(found, found[:, :1].expand(-1, 3, -1, -1))
    assert recoloured(images, np.random.default_rng(0), 0) is images
    how = {"batch_size": 4, "size": (32, 32), "seed": 7}
    plain, other = (draw_batch(images, masks, 2, recolour=much, **how) for much in (0, 1))
    assert torch.equal(plain[1], other[1]) and not torch.allclose(plain[0], other[0])
    assert torch.equal(other[0], draw_batch(images, masks, 2, recolour=1, **how)[0])


def test_every_image_comes_once_a_round():
    images = torch.arange(1.0, 7.0)[:, None, None, None].expand(6, 3, 16, 16) / 6
    draws = [draw_batch(images, images[:, 0], k, batch_size=4, size=(16, 16)) for k in range(3)]
    seen = (torch.cat([y[:, 0, 0] for _, y in draws]) * 6).round().int().tolist()
    assert sorted(seen[:6]) == sorted(seen[6:]) == [*range(1, 7)] and seen[:6] != seen[6:]
