"""Attention maps by layer, with neighbouring timesteps averaged: M_hat taken apart for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from cdlib.attention import concept_attention
from cdlib.stages.keys import model_fingerprint, tensor_fingerprint
from cdlib.store import Store

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def binned_attention(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    prompt: str,
    word: str,
    groups: Sequence[Sequence[int]],
    n: int,
    seeds: Sequence[int],
    progress: bool = False,
    store: Store | None = None,
) -> torch.Tensor:
    """The word's maps, (N, layers, groups, h, w) float64; made once, then kept in the store.

    groups: of timesteps, rising. n, seeds: noise draws, and a seed for each image, as in
    `concept_attention`. The mean over layers and groups, each group counting as often as it has
    timesteps, is M_hat.
    """
    timesteps = [t for group in groups for t in group]

    def make() -> dict[str, torch.Tensor]:
        maps = concept_attention(
            pipe, images, prompt, word, timesteps=timesteps, n=n,
            keep=("layers", "timesteps"), seed=seeds, progress=progress,
        )  # fmt: skip
        parts = maps.double().split([len(group) for group in groups], dim=2)
        return {"maps": torch.stack([part.mean(2) for part in parts], dim=2)}

    kept = (store or Store()).get(
        "binned_attention",
        make,
        params={
            "prompt": prompt, "word": word, "groups": [list(group) for group in groups],
            "n": n, "seeds": list(seeds),
        },
        inputs=[model_fingerprint(pipe), tensor_fingerprint(images)],
        code=[binned_attention, concept_attention],
        device=pipe.device,
    )  # fmt: skip
    return kept["maps"]
