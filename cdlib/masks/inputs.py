"""What maps and masks must be; every refusal names the parameter."""

from __future__ import annotations

import numpy as np
import torch


def as_maps(name: str, maps: torch.Tensor | np.ndarray) -> torch.Tensor:
    maps = torch.as_tensor(maps).detach()
    if maps.ndim not in (2, 3) or maps.shape[-2] * maps.shape[-1] < 2:
        raise ValueError(
            f"{name}: expected shape (N, h, w) or (h, w) with two cells or more, "
            f"got {tuple(maps.shape)}"
        )
    require_finite(name, maps)
    return maps if maps.ndim == 3 else maps[None]


def as_valid(valid: torch.Tensor | np.ndarray | None, maps: torch.Tensor) -> torch.Tensor:
    if valid is None:
        return torch.ones_like(maps, dtype=torch.bool)
    valid = as_mask("valid", valid).to(maps.device)
    if tuple(valid.shape) not in (tuple(maps.shape), tuple(maps.shape[1:])):
        raise ValueError(
            f"valid: shape {tuple(valid.shape)} does not fit maps of shape {tuple(maps.shape)}"
        )
    valid = valid.expand(maps.shape)
    if (valid.sum((1, 2)) < 2).any():
        raise ValueError("valid: every map needs at least two valid cells")
    return valid


def as_mask(name: str, mask: torch.Tensor | np.ndarray) -> torch.Tensor:
    mask = torch.as_tensor(mask)
    if mask.dtype != torch.bool or mask.ndim < 2:
        raise ValueError(
            f"{name}: expected a bool tensor of shape (..., h, w), "
            f"got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    return mask


def require_finite(name: str, values: torch.Tensor) -> None:
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise ValueError(f"{name}: {bad} of {values.numel()} values are NaN or infinite")
