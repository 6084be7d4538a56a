"""Images from nothing but a prompt, guided by the paper's two concepts (section 5.2, figure 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from cdlib.checks import whole_number
from cdlib.inpaint.denoising import (
    check_scale,
    check_steps,
    concept_prompts,
    denoise,
    last_state,
)
from cdlib.models import image_seeds, latent_factor

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def synthesise(
    pipe: StableDiffusionPipeline,
    n: int,
    *,
    y_f: str | None = None,
    y_b: str = "a photo of a background",
    s: float = 1.0,
    steps: int = 50,
    scheduler: str = "DDIMScheduler",
    size: int | tuple[int, int] | None = None,
    seed: int | Sequence[int] = 0,
    batch_size: int = 32,
) -> torch.Tensor:
    """n images, (n, 3, H, W) float32 in [0, 1], by eps = eps(y_b) + s [eps(y_f) - eps(y_b)].

    s = 1 is y_f alone and s = 0 y_b alone, one U-Net pass a step; other scales need two: above 1
    pushes to the object, below 0 to background. Without y_f there is nothing to guide to, and
    backgrounds are drawn by y_b.

    size: pixels of a side, or (H, W), in whole latent cells; None is what the model was made for.
    scheduler, seed, batch_size: as in `remove`. With the same seeds, images of different s start
    from the same noise.

    Raises ValueError for a scheduler, a size or numbers that do not fit.
    """
    n, batch_size = whole_number("n", n, 1), whole_number("batch_size", batch_size, 1)
    scale = check_scale("s", 0 if y_f is None and s == 1 else s, y_f)
    states = denoise(
        pipe,
        (pipe.unet.config.in_channels, *latent_size(pipe, size)),
        concept_prompts(pipe, y_b, y_f, scale),
        image_seeds(seed, n),
        steps=check_steps(pipe, steps),
        scheduler=scheduler,
        batch_size=batch_size,
    )
    return last_state(states).images


def latent_size(
    pipe: StableDiffusionPipeline, size: int | tuple[int, int] | None
) -> tuple[int, int]:
    """Latent cells of a height and a width in pixels."""
    factor = latent_factor(pipe)
    if size is None:
        native = pipe.unet.config.sample_size
        return (native, native) if isinstance(native, int) else tuple(native)
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sides) != 2 or any(whole_number("size", side, factor) % factor for side in sides):
        raise ValueError(f"size={size!r}: must be one or two multiples of {factor}.")
    return sides[0] // factor, sides[1] // factor
