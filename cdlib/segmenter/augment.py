"""What a step learns from: windows into images, and into their masks at the same place.

A step's batch depends on the seed and on the step's number, on nothing else, so that a training
which was stopped goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

REACH = 16  # a window may reach out of its image by a 16th of its side, where the image is mirrored


def draw_batch(
    images: Sequence[torch.Tensor],  # (3, H, W) each
    masks: Sequence[torch.Tensor],  # (H, W) each
    step: int,
    *,
    batch_size: int,
    size: Sequence[int],  # h, w
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, 3, h, w) and masks (B, h, w) of a step: random windows of `size`, half of them
    mirrored.

    Images come in an order shuffled anew for each round through them. Both pixels and mask values
    are picked, never interpolated, so a mask keeps its values.
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
    return x.float(), y.float()


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
