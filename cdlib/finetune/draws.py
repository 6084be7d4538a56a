"""What a step learns from: images encoded once, and draws that know where they stand in the run.

A draw depends on the seed, the step and its place in the step's batch, on nothing else. So neither
the number of processes, nor how a batch is split into passes, nor a kill and a new start changes
what is learned, and a checkpoint's step number is all that there is to say of its randomness and
of its place in the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from cdlib.masks import sample_rectangle

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


@dataclass(frozen=True)
class Examples:
    """Posteriors of the latents and M_pre of N images, on the CPU; flipped copies come behind.

    means, deviations: (N or 2 N, C, h, w) float32, scaled as the U-Net expects its latents.
    m_pre: (N or 2 N, h, w) bool, True where the object is. Row N + i is image i, flipped.
    """

    means: torch.Tensor
    deviations: torch.Tensor
    m_pre: torch.Tensor
    n: int


@dataclass(frozen=True)
class Draws:
    """B things to learn: (z0, eps, t), whether y_f or y_b, and where the loss counts.

    z0, eps: (B, C, h, w) float32. t: (B,) int64. foreground: (B,) bool. region: (B, h, w) bool.
    """

    z0: torch.Tensor
    eps: torch.Tensor
    t: torch.Tensor
    foreground: torch.Tensor
    region: torch.Tensor


@torch.no_grad()
def encode_examples(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    m_pre: torch.Tensor,  # (N, h, w) bool
    flip: bool = True,
    batch_size: int = 16,
) -> Examples:
    """Run the autoencoder over the images, and over their mirror images if `flip`."""
    means, deviations = [], []
    for view in (images, images.flip(-1)) if flip else (images,):
        for batch in view.split(batch_size):
            batch = batch.to(pipe.device, pipe.vae.dtype)
            posterior = pipe.vae.encode(batch * 2 - 1).latent_dist
            means.append(posterior.mean.float().cpu())
            deviations.append(posterior.std.float().cpu())
    scale = pipe.vae.config.scaling_factor
    m_pre = m_pre.cpu()
    masks = torch.cat([m_pre, m_pre.flip(-1)]) if flip else m_pre
    return Examples(scale * torch.cat(means), scale * torch.cat(deviations), masks, len(images))


def draw(
    examples: Examples,
    step: int,
    places: Sequence[int],
    *,
    batch_size: int,
    n_timesteps: int,
    p: float = 0.5,
    rectangles: int = 1,
    seed: int = 0,
) -> Draws:
    """What stands at `places` (of 0 to batch_size - 1) in the batch of a step (section 4.1).

    Images come in an order shuffled anew for each round through them. The autoencoder's posterior
    is sampled afresh at every draw. With probability p the task is (y_f, whole latent), otherwise
    (y_b, a region from `sample_rectangle`).
    """
    rows = [
        _draw_one(examples, step, place, batch_size, n_timesteps, p, rectangles, seed)
        for place in places
    ]
    z0, eps, t, foreground, region = zip(*rows, strict=True)
    return Draws(
        torch.stack(z0),
        torch.stack(eps),
        torch.tensor(t),
        torch.tensor(foreground),
        torch.stack(region),
    )


def _draw_one(
    examples: Examples,
    step: int,
    place: int,
    batch_size: int,
    n_timesteps: int,
    p: float,
    rectangles: int,
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor, int, bool, torch.Tensor]:
    numbers = np.random.default_rng((seed, 0, step, place))
    turn, at = divmod(step * batch_size + place, examples.n)
    row = int(_order(seed, turn, examples.n)[at])
    if len(examples.means) > examples.n and numbers.random() < 0.5:
        row += examples.n
    foreground = bool(numbers.random() < p)
    # Place k of B draws from the k-th of B equal stretches of time: over the batch the law is
    # uniform, as in the paper, and the loss varies less from step to step.
    t = min(int((place + numbers.random()) / batch_size * n_timesteps), n_timesteps - 1)
    shape = examples.means.shape[1:]
    sample, eps = torch.from_numpy(numbers.standard_normal((2, *shape), dtype=np.float32))
    z0 = examples.means[row] + examples.deviations[row] * sample
    if foreground:
        region = torch.ones(shape[1:], dtype=torch.bool)
    else:
        generator = torch.Generator().manual_seed(int(numbers.integers(2**62)))
        region = sample_rectangle(examples.m_pre[row], generator, n=rectangles)
    return z0, eps, t, foreground, region


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, n: int) -> np.ndarray:
    """In which order the n images are taken on a turn through them."""
    return np.random.default_rng((seed, 1, turn)).permutation(n)
