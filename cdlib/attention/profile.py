"""M_hat taken apart by layer and by timestep, all from one pass over the images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import StableDiffusionPipeline

from cdlib.attention.concept import concept_attention
from cdlib.checks import whole_number
from cdlib.models import image_seeds

CHUNK = 32  # images whose maps of all layers and timesteps are in memory at once


def attention_profile(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    prompt: str,
    word: str | Sequence[str],
    t0: int = 40,
    steps: int = 50,
    n: int = 1,
    *,
    seed: int = 0,
    n_detail: int = 24,
) -> dict[str, torch.Tensor]:
    """Concept attention over all `steps` timesteps (T) and layers (L); float32 tensors by name.

    "m_hat" (N, h, w): what `concept_attention` gives, the mean over layers and the t0 least noisy
    timesteps. "by_timestep" (N, T, h, w): the mean over layers. "by_layer" (N, L, h, w): the mean
    over the t0 least noisy timesteps. "detail" (K, L, T, h, w): nothing averaged, of the first
    K = min(N, n_detail) images alone, since all of it would be gigabytes for a large model.
    Timesteps rise, layers come in the U-Net's order.
    """
    whole_number("t0", t0, 1, steps)
    whole_number("n_detail", n_detail, 1)
    seeds = image_seeds(seed, len(images))
    by_timestep, by_layer, detail = [], [], []
    for first in range(0, len(images), CHUNK):
        some = slice(first, first + CHUNK)
        maps = concept_attention(
            pipe,
            images[some],
            prompt,
            word,
            t0=steps,
            steps=steps,
            n=n,
            keep=("layers", "timesteps"),
            seed=seeds[some],
        )  # (CHUNK, L, T, h, w)
        by_timestep.append(maps.mean(1))
        by_layer.append(maps[:, :, :t0].mean(2))
        detail.append(maps[: max(n_detail - first, 0)])
    all_timesteps = torch.cat(by_timestep)
    return {
        "m_hat": all_timesteps[:, :t0].mean(1),
        "by_timestep": all_timesteps,
        "by_layer": torch.cat(by_layer),
        "detail": torch.cat(detail),
    }
