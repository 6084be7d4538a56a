"""Tensors or arrays in, NumPy out; every refusal names the parameter."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike


def as_scores(scores: ArrayLike) -> np.ndarray:
    scores = to_numpy(scores).astype(np.float64)
    if scores.ndim != 3 or not scores.size:
        raise ValueError(f"scores: expected shape (N, h, w), got {scores.shape}")
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise ValueError(f"scores: {bad} of {scores.size} values are NaN or infinite")
    return scores


def as_masks(name: str, masks: ArrayLike) -> np.ndarray:
    masks = to_numpy(masks)
    if masks.dtype != bool or masks.ndim != 3 or not masks.size:
        raise ValueError(
            f"{name}: expected bool of shape (N, H, W), got {masks.dtype} of {masks.shape}"
        )
    return masks


def as_mask_pair(pred: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    pred, truth = as_masks("pred", pred), as_masks("truth", truth)
    if pred.shape != truth.shape:
        raise ValueError(f"pred: shape {pred.shape} differs from truth's {truth.shape}")
    return pred, truth


def to_numpy(values: ArrayLike) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # NumPy has none
    return np.asarray(values)
