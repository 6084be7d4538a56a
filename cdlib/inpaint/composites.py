"""Objects cut out of one picture and laid on another, with a feathered edge (section 5.5)."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from cdlib.checks import real_number


def composite(
    foregrounds: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    masks: torch.Tensor,  # (N, H, W) bool, True on the object
    backgrounds: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    feather: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the masks cover, on the backgrounds: images (N, 3, H, W) and soft masks (N, H, W).

    Both are float32 in [0, 1]. A composite is soft * foreground + (1 - soft) * background, see
    `feathered`; so `soft > 0.5` is the mask again. N may be 0.

    Raises ValueError for images, masks or a feather that do not fit.
    """
    for name, images in (("foregrounds", foregrounds), ("backgrounds", backgrounds)):
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(
                f"{name}: must be floats of shape (N, 3, H, W), "
                f"not {images.dtype} of {tuple(images.shape)}."
            )
    if backgrounds.shape != foregrounds.shape:
        raise ValueError(
            f"backgrounds: must be {tuple(foregrounds.shape)} as the foregrounds, "
            f"not {tuple(backgrounds.shape)}."
        )
    expected = (len(foregrounds), *foregrounds.shape[2:])
    if masks.dtype != torch.bool or tuple(masks.shape) != expected:
        raise ValueError(
            f"masks: must be bool of shape {expected}, not {masks.dtype} of {tuple(masks.shape)}."
        )
    soft = feathered(masks, feather).to(foregrounds.device)
    images = torch.lerp(backgrounds.float(), foregrounds.float(), soft[:, None])
    return images.clamp(0, 1), soft


def feathered(masks: torch.Tensor, feather: float = 1.0) -> torch.Tensor:
    """Masks (N, H, W) bool to float32 in [0, 1] that fade at the outline instead of ending there.

    A linear ramp, from 0 at `feather` pixels outside the outline to 1 as far inside: with 1 the
    last pixel inside has three quarters, the first outside one quarter. With 0 nothing fades.
    """
    feather = real_number("feather", feather, 0)
    if masks.dtype != torch.bool or masks.ndim != 3:
        raise ValueError(
            f"masks: must be bool of shape (N, H, W), not {masks.dtype} of {tuple(masks.shape)}."
        )
    if feather == 0 or not len(masks):
        return masks.float()
    soft = [0.5 + _height(mask) / (2 * feather) for mask in masks.cpu().numpy()]
    return torch.from_numpy(np.stack(soft)).float().clamp(0, 1).to(masks.device)


def _height(mask: np.ndarray) -> np.ndarray:
    """Pixels between a pixel's centre and the outline, negative outside; (H, W)."""
    if mask.all() or not mask.any():
        return np.where(mask, np.inf, -np.inf)  # there is no outline
    inside, outside = (ndimage.distance_transform_edt(one) for one in (mask, ~mask))
    return np.where(mask, inside - 0.5, 0.5 - outside)
