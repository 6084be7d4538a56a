"""What a step learns from: windows into images and into their masks at the same place, recoloured.

A step's batch depends on the seed and on the step's number, on nothing else, so that a training
which was stopped goes on as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

REACH = 16  # a window may reach out of its image by a 16th of its side, where the image is mirrored
# The most that `recoloured` does, either way: a mild colour jitter (Chen et al., 2020, appendix A)
# but for the hue, which goes all round, because what a thing is does not depend on its colour here.
HUE, SATURATION, CONTRAST, BRIGHTNESS = math.pi, 0.4, 0.3, 0.15


def draw_batch(
    images: Sequence[torch.Tensor],  # (3, H, W) each
    masks: Sequence[torch.Tensor],  # (H, W) each
    step: int,
    *,
    batch_size: int,
    size: Sequence[int],  # h, w
    recolour: float = 0.0,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, 3, h, w) and masks (B, h, w) of a step: random windows of `size`, half of them
    mirrored, in other colours.

    Images come in an order shuffled anew for each round through them. Both pixels and mask values
    are picked, never interpolated, so a mask keeps its values. recolour: how freely colours are
    changed, in [0, 1], see `recoloured`; 0 leaves them as they are.
    """
    numbers = np.random.default_rng((seed, 0, step))
    pairs = []
    for place in range(batch_size):
        turn, at = divmod(step * batch_size + place, len(images))
        k = int(_order(seed, turn, len(images))[at])
        rows, columns = (
            _window(side, length, numbers)
            for side, length in zip(size, images[k].shape[1:], strict=True)
        )
        if numbers.random() < 0.5:
            columns = columns.flip(0)
        pairs.append([one[..., rows[:, None], columns] for one in (images[k], masks[k])])
    x, y = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    x = recoloured(x.float(), np.random.default_rng((seed, 2, step)), recolour)
    return x, y.float()


def recoloured(
    images: torch.Tensor, numbers: np.random.Generator, strength: float = 1.0
) -> torch.Tensor:
    """Images (B, 3, h, w) in [0, 1] with colours changed at random, for each image anew.

    All hues are turned by one angle, of up to 180 degrees about the axis of greys, so grey stays
    grey; saturation is multiplied by 0.6 to 1.4, contrast about the image's mean by 0.7 to 1.3, and
    up to 0.15 is added to or taken from every value. strength: in [0, 1], what part of these
    ranges is drawn from, evenly; 0 gives the images as they are. What leaves [0, 1] is cut off.
    """
    if not strength:
        return images
    most = strength * np.array([[HUE], [SATURATION], [CONTRAST], [BRIGHTNESS]])
    drawn = numbers.uniform(-most, most, (4, len(images))).astype(np.float32)
    angle, *factors = torch.from_numpy(drawn)[..., None, None].to(images.device)
    saturation, contrast, brightness = factors
    grey = images.new_full((3, 3), 1 / 3)  # onto the axis of greys
    about = images.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # v to axis x v
    turn = angle.cos() * (torch.eye(3).to(images) - grey) + angle.sin() * about  # Rodrigues
    mixed = torch.einsum("bij,bjhw->bihw", grey + (1 + saturation) * turn, images)
    mean = mixed.mean((1, 2, 3), keepdim=True)
    return ((mixed - mean) * (1 + contrast[..., None]) + mean + brightness[..., None]).clamp(0, 1)


def _window(side: int, length: int, numbers: np.random.Generator) -> torch.Tensor:
    """`side` neighbouring places of 0 to length - 1, mirrored where they would go beyond."""
    reach = min(side // REACH, length - 1)
    first = int(numbers.integers(-reach, length - side + reach, endpoint=True))
    places = (torch.arange(side) + first).abs()
    return (length - 1) - ((length - 1) - places).abs()


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, n: int) -> np.ndarray:
    """In which order the n images are taken on a turn through them."""
    return np.random.default_rng((seed, 1, turn)).permutation(n)
