"""What needs no model: segmentation by colour alone, to show how much of the task that solves."""

from __future__ import annotations

import torch

from cdlib.masks import thresholds


def frame_distance(images: torch.Tensor, width: int = 2) -> torch.Tensor:
    """How far each pixel's colour is from the mean colour of the image's frame: (N, H, W).

    The frame is mostly background, so what is far from it may be the object. images: (N, 3, H, W)
    in [0, 1]; width: of the frame, in pixels. Distances are Euclidean in RGB, in [0, sqrt(3)].
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images: must be (N, 3, H, W), not {tuple(images.shape)}.")
    if not 1 <= width <= min(images.shape[2:]) // 2:
        raise ValueError(f"width={width!r}: allowed is 1 to half of the image's side.")
    on_frame = torch.ones(images.shape[2:], dtype=torch.bool, device=images.device)
    on_frame[width:-width, width:-width] = False
    mean = images[:, :, on_frame].mean(-1)
    return (images - mean[:, :, None, None]).norm(dim=1)


def otsu_mask(images: torch.Tensor, width: int = 2) -> torch.Tensor:
    """Objects by colour alone: `frame_distance` cut at Otsu's threshold (1979), bool (N, H, W)."""
    distance = frame_distance(images, width)
    return distance > thresholds(distance, "otsu").threshold[:, None, None]
