"""M_hat, where a model sees a concept in real images (the paper's section 3.1, Eq. 3 and 4).

    M_hat = mean over t in T, layers l, heads h of  up( softmax(Q K^T / sqrt(d)) [:, k] )
    z_t   = sqrt(abar_t) z0 + sqrt(1 - abar_t) eps_t,   eps_t independent for every t

No sampling trajectory, then: one U-Net pass for each of the t0 least noisy timesteps of the DDIM
grid. The paper writes a sum, its code takes the mean; only the scale differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from numbers import Real
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

from cdlib.attention.capture import capture_attention
from cdlib.attention.layers import select_layers
from cdlib.checks import one_of, whole_number
from cdlib.models import (
    check_images,
    clean_latents,
    ddim_timesteps,
    encode_images,
    encode_prompts,
    image_seeds,
    noise_latents,
    per_image_noise,
    predict_eps,
    prompt_tokens,
    token_positions,
)

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def concept_attention(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    prompt: str,
    word: str | Sequence[str],
    t0: int = 40,
    steps: int = 50,
    n: int = 1,
    *,
    layers: Sequence[str] | str | None = None,
    timesteps: Sequence[int] | None = None,
    keep: Sequence[str] = (),
    normalise: str | None = None,
    guidance: float | None = None,
    seed: int | Sequence[int] = 0,
    batch_size: int = 32,
    progress: bool = False,
) -> torch.Tensor:
    """M_hat of a word of the prompt in real images: (N, h, w) float32 on the CPU.

    The pieces of a word are added, and so are several words (the paper: human, arms and legs).

    t0, steps: average over the `t0` least noisy of `steps` DDIM timesteps (1, 21, ..., 781).
    n: noise draws for each timestep.
    layers: names from `cross_attention_layers`; None is all of them, as in the paper.
    timesteps: the model's own timesteps instead of t0 and steps.
    keep: "layers" and "timesteps" are averaged over unless named here; the result is then
        (N, [layers,] [timesteps,] h, w), layers in the U-Net's order, timesteps rising, so that a
        running mean along them gives M_hat for t0 = 1, 2, ...
    normalise: "minmax" maps every map to [0, 1] on its own, as the paper does before its AUC.
    guidance: None noises the image anew for each timestep, as the paper does; no guidance could
        change these passes. A scale instead follows one trajectory for each draw: the latent,
        noised once to the noisiest timestep, is denoised by DDIM under classifier-free guidance of
        that scale, and the conditional half's maps are taken on the way. Twice the cost.
    seed: one number for the run, or one for each image. An image's map depends on its own seed
        alone, not on its companions or on batch_size (how many passes run at once).

    Inside `torch.autocast("cpu", torch.bfloat16)` a recent CPU takes half the time, at the cost of
    a few hundredths of a map's spread.

    Raises ValueError for any argument that the model or the images do not have.
    """
    words = [word] if isinstance(word, str) else list(word)
    if not words:
        raise ValueError("word=[]: give at least one word of the prompt.")
    positions = sorted({k for w in words for k in token_positions(pipe, prompt, w)})
    if normalise is not None:
        one_of("normalise", normalise, ["minmax"])
    if timesteps is None:
        timesteps = least_noisy(pipe, t0, steps)
    maps = _mean_maps(
        pipe,
        images,
        prompt,
        [positions],
        timesteps,
        n=n,
        layers=layers,
        keep=keep,
        guidance=guidance,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    ).squeeze(1)
    return _stretch(maps) if normalise == "minmax" else maps


def token_attention(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    prompt: str,
    t0: int = 40,
    steps: int = 50,
    n: int = 1,
    *,
    layers: Sequence[str] | str | None = None,
    seed: int | Sequence[int] = 0,
    batch_size: int = 32,
    progress: bool = False,
) -> torch.Tensor:
    """The same for all tokens of the prompt at once: (N, tokens, h, w).

    Token k is `prompt_tokens(pipe, prompt)[k]`, start and end marks included; the padding behind
    them has attention too, so the maps do not add up to one.
    """
    positions = [[k] for k in range(len(prompt_tokens(pipe, prompt)))]
    return _mean_maps(
        pipe,
        images,
        prompt,
        positions,
        least_noisy(pipe, t0, steps),
        n=n,
        layers=layers,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )


def least_noisy(pipe: StableDiffusionPipeline, t0: int = 40, steps: int = 50) -> list[int]:
    """The timesteps of M_hat, rising: [1, 21, ..., 781] for 40 of 50."""
    grid = ddim_timesteps(pipe, steps)[::-1]
    return grid[: whole_number("t0", t0, 1, steps)]


def _mean_maps(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,
    prompt: str,
    positions: list[list[int]],
    timesteps: Sequence[int],
    *,
    n: int,
    layers: Sequence[str] | str | None,
    keep: Sequence[str] = (),
    guidance: float | None = None,
    seed: int | Sequence[int],
    batch_size: int,
    progress: bool,
) -> torch.Tensor:
    """(N, groups of positions, [layers,] [timesteps,] h, w): all that is above, and the checks."""
    check_images(pipe, images)
    timesteps = _check_timesteps(pipe, timesteps)
    n, batch_size = whole_number("n", n, 1), whole_number("batch_size", batch_size, 1)
    kept = {one_of("keep", axis, ["layers", "timesteps"]) for axis in keep}
    if guidance is not None and not (isinstance(guidance, Real) and math.isfinite(guidance)):
        raise ValueError(f"guidance={guidance!r}: must be None or a finite number.")
    names = list(select_layers(pipe, layers))
    seeds = image_seeds(seed, len(images))
    y = encode_prompts(pipe, prompt)
    z0 = encode_images(pipe, images, seeds).float()
    if guidance is None:
        passes = _independent_passes(pipe, z0, y, timesteps, n, seeds, batch_size)
    else:
        passes = _guided_passes(pipe, z0, y, timesteps, n, seeds, batch_size, float(guidance))

    keep_layers, keep_timesteps = "layers" in kept, "timesteps" in kept
    per_image = len(timesteps) if keep_timesteps else 1
    shape = (len(positions), len(names) if keep_layers else 1, *z0.shape[-2:])
    total = z0.new_zeros(len(images) * per_image, *shape)
    capturing = capture_attention(
        pipe,
        positions=positions,
        layers=names,
        keep_layers=keep_layers,
        guided=guidance is not None,
    )
    bar = tqdm(total=len(images) * len(timesteps) * n, disable=not progress, unit="pass")
    with torch.no_grad(), bar, capturing as capture:
        for rows, moments in passes:  # every step of this loop runs the U-Net once
            maps = capture.maps if keep_layers else capture.maps.unsqueeze(2)
            if keep_timesteps:
                rows = [row * per_image + moment for row, moment in zip(rows, moments, strict=True)]
            total.index_add_(0, torch.tensor(rows, device=total.device), maps)
            capture.reset()
            bar.update(len(rows))
    total /= n * len(timesteps) // per_image
    total = total.unflatten(0, (len(images), per_image)).movedim(1, 3).cpu()
    # (N, groups, layers, timesteps, h, w), where an axis that was averaged over has length 1.
    total = total if keep_timesteps else total.squeeze(3)
    return total if keep_layers else total.squeeze(2)


def _independent_passes(
    pipe: StableDiffusionPipeline,
    z0: torch.Tensor,
    y: torch.Tensor,
    timesteps: Sequence[int],
    n: int,
    seeds: Sequence[int],
    batch_size: int,
) -> Iterator[tuple[list[int], list[int]]]:
    """Run the U-Net on every image at every timestep; yield each pass's images and timesteps.

    Pairs of image and timestep are batched together, so that one image fills a batch as well as
    many do. Noise belongs to (image, timestep, draw), whatever else is asked for.
    """
    jobs = list(product(range(len(z0)), range(len(timesteps)), range(n)))
    for first in range(0, len(jobs), batch_size):
        rows, moments, draws = map(list, zip(*jobs[first : first + batch_size], strict=True))
        t = torch.tensor([timesteps[moment] for moment in moments])
        eps = torch.cat(
            [
                per_image_noise(z0.shape[1:], [seeds[row]], f"forward t={step} draw={draw}")
                for row, step, draw in zip(rows, t.tolist(), draws, strict=True)
            ]
        )
        z_t = noise_latents(pipe, z0[rows], t, eps.to(z0.device)).to(pipe.unet.dtype)
        pipe.unet(z_t, t.to(z_t.device), encoder_hidden_states=y.expand(len(rows), -1, -1))
        yield rows, moments


def _guided_passes(
    pipe: StableDiffusionPipeline,
    z0: torch.Tensor,
    y: torch.Tensor,
    timesteps: Sequence[int],
    n: int,
    seeds: Sequence[int],
    batch_size: int,
    guidance: float,
) -> Iterator[tuple[list[int], list[int]]]:
    """Denoise every image from the noisiest timestep down; yield after each U-Net pass."""
    y_empty = encode_prompts(pipe, "")
    for draw, first in product(range(n), range(0, len(z0), batch_size)):
        rows = list(range(len(z0)))[first : first + batch_size]
        start = timesteps[-1]
        eps = per_image_noise(
            z0.shape[1:], [seeds[row] for row in rows], f"forward t={start} draw={draw}"
        )
        z_t = noise_latents(pipe, z0[rows], start, eps.to(z0.device))
        both = torch.cat([y_empty.expand(len(rows), -1, -1), y.expand(len(rows), -1, -1)])
        for moment in reversed(range(len(timesteps))):
            t = timesteps[moment]
            twice = torch.cat([z_t, z_t]).to(pipe.unet.dtype)
            eps_empty, eps_y = predict_eps(pipe, twice, t, both).float().chunk(2)
            yield rows, [moment] * len(rows)
            if moment > 0:
                eps = eps_empty + guidance * (eps_y - eps_empty)
                clean = clean_latents(pipe, z_t, t, eps)
                z_t = noise_latents(pipe, clean, timesteps[moment - 1], eps)  # DDIM, eta = 0


def _check_timesteps(pipe: StableDiffusionPipeline, timesteps: Sequence[int]) -> list[int]:
    last = pipe.scheduler.config.num_train_timesteps - 1
    steps = sorted({whole_number("timesteps", t, 0, last) for t in timesteps})
    if not steps:
        raise ValueError(f"timesteps={timesteps!r}: give at least one, from 0 to {last}.")
    return steps


def _stretch(maps: torch.Tensor) -> torch.Tensor:
    """Every (h, w) map to [0, 1]; a constant one to 0."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)
