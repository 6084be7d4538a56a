"""What images must be."""

from __future__ import annotations

import torch


def check_images(images: torch.Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"images: must be (N, 3, H, W) with N > 0, not {tuple(images.shape)}.")
