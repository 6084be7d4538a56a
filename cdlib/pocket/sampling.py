"""Drawing images from a pipeline, one seed an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import StableDiffusionPipeline


def draw(
    pipe: StableDiffusionPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    steps: int = 50,
    guidance: float = 4.0,
    batch_size: int = 32,
) -> torch.Tensor:
    """(N, 3, H, W) images in [0, 1], one for each prompt and seed, by diffusers' own pipeline.

    `guidance` is the classifier-free guidance scale (Ho and Salimans, 2022); 1 is none. An image
    depends on its prompt and seed, not on what is drawn beside it.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"seeds: {len(seeds)} given for {len(prompts)} prompts; give one each.")
    images = []
    for first in range(0, len(prompts), batch_size):
        batch = slice(first, first + batch_size)
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds[batch]]
        images.append(
            pipe(
                list(prompts[batch]),
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=generators,
                output_type="pt",
            ).images.float().cpu()
        )  # fmt: skip
    return torch.cat(images)
