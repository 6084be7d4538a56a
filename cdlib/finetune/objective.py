"""The loss of concept distillation (section 4.1 of the method): learn y_f everywhere, y_b in parts.

    z_t = sqrt(abar_t) z0 + sqrt(1 - abar_t) eps          the whole latent is noised
    L   = mean over batch, channels, cells of  ( W (eps_theta(z_t, t, y) - eps) )^2

W is 1 everywhere under the foreground prompt, and 1 inside a rectangle of background under the
background prompt. The U-Net gets no mask and no clean surroundings: all the mask does is to keep
the object from being learned as background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cdlib.finetune.draws import Draws
from cdlib.models import noise_latents

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

NOISES = ("whole", "rectangle")


def noised(pipe: StableDiffusionPipeline, draws: Draws, noise: str = "whole") -> torch.Tensor:
    """What the U-Net is shown, (B, C, h, w).

    noise: "whole" noises all of the latent, as the paper's code does and its author confirms;
        "rectangle" only the region to learn, as the paper's Figure 2 draws it.
    """
    z_t = noise_latents(pipe, draws.z0, draws.t, draws.eps)
    return z_t if noise == "whole" else torch.where(draws.region[:, None], z_t, draws.z0)


def target(pipe: StableDiffusionPipeline, draws: Draws) -> torch.Tensor:
    """What the U-Net should answer, (B, C, h, w): eps, or v for a model that predicts v.

    The loss compares what the model says, not the eps that follows from it. eps errs by
    sqrt(abar_t) times what v errs by (Salimans and Ho, 2022, appendix D), so measured in eps, the
    noisiest timesteps would weigh next to nothing, and they decide what is in the picture.
    """
    if pipe.scheduler.config.prediction_type == "epsilon":
        return draws.eps
    return noise_latents(pipe, draws.eps, draws.t, -draws.z0)  # v swaps the roles of z0 and eps


def masked_square(
    difference: torch.Tensor,  # (B, C, h, w)
    region: torch.Tensor,  # (B, h, w) bool
    normalise: bool = False,
) -> torch.Tensor:
    """Mean square of W * difference for each of the batch, (B,).

    The mean is over all elements, so that a rectangle weighs as much as it is large (in the
    paper's code 6 to 25% of a whole image). `normalise` divides by the region's size instead, and
    every draw weighs the same. An empty region gives 0 either way.
    """
    square = (region[:, None] * difference).square()
    if not normalise:
        return square.mean((1, 2, 3))
    return square.mean(1).sum((1, 2)) / region.sum((1, 2)).clamp_min(1)
