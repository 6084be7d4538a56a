"""What all sources give: examples of one concept, one by one or stacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Example:
    """One image with what is known about it.

    image: (3, H, W) float32 in [0, 1].
    mask: (H, W) bool, the concept's visible pixels; None where nobody drew them.
    boxes: half-open pixel boxes (x0, y0, x1, y1), one for each object; None where unknown.
    plate: (3, H, W), the same scene without its objects; None outside the pocket world.
    valid: (H, W) bool, False on the canvas beside the image; None where the image fills it.
    """

    image: torch.Tensor
    mask: torch.Tensor | None
    boxes: tuple[Box, ...] | None
    name: str
    split: str
    plate: torch.Tensor | None = None
    valid: torch.Tensor | None = None


class Dataset(Sequence[Example]):
    """Examples of one concept, one by one or stacked; a slice of it is a Dataset too."""

    def __init__(self, examples: Sequence[Example], concept: str, split: str) -> None:
        self.examples = tuple(examples)
        self.concept = concept
        self.split = split

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int | slice) -> Example | Dataset:
        if isinstance(index, slice):
            return Dataset(self.examples[index], self.concept, self.split)
        return self.examples[index]

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def __repr__(self) -> str:
        return f"Dataset({len(self)} images, concept={self.concept!r}, split={self.split!r})"

    @property
    def names(self) -> list[str]:
        return [example.name for example in self.examples]

    @cached_property
    def images(self) -> torch.Tensor:
        """(N, 3, H, W) float32 in [0, 1]."""
        return self._stack("image")

    @cached_property
    def masks(self) -> torch.Tensor:
        """(N, H, W) bool. ValueError if an image has no mask."""
        return self._stack("mask")

    @cached_property
    def plates(self) -> torch.Tensor:
        """(N, 3, H, W) float32 in [0, 1]. ValueError outside the pocket world."""
        return self._stack("plate")

    @cached_property
    def valid(self) -> torch.Tensor:
        """(N, H, W) bool: True where an image is, False on the canvas beside it."""
        full = torch.ones(self.images.shape[2:], dtype=torch.bool)
        return torch.stack([full if e.valid is None else e.valid for e in self.examples])

    def _stack(self, field: str) -> torch.Tensor:
        without = [e.name for e in self.examples if getattr(e, field) is None]
        if without or not self.examples:
            example = f", for example {without[0]}" if without else ""
            raise ValueError(f"{self!r}: {len(without)} images have no {field}{example}.")
        return torch.stack([getattr(e, field) for e in self.examples])


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(H, W, 3) bytes to (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)
