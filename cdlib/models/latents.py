"""Between images, clean latents z0, noised latents z_t and the noise eps in them.

abar is the scheduler's cumulative product of alphas; z_t = sqrt(abar_t) z0 + sqrt(1 - abar_t) eps.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from cdlib.checks import whole_number


def latent_factor(pipe: StableDiffusionPipeline) -> int:
    """Pixels that one latent cell spans on a side (8 for Stable Diffusion)."""
    return 2 ** (len(pipe.vae.config.block_out_channels) - 1)


def encode_images(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    seeds: Sequence[int],
    sample: bool = True,
    batch_size: int = 16,
) -> torch.Tensor:
    """Latents z0, scaled as the U-Net expects them: (N, C, H / f, W / f), on the model's device.

    The autoencoder's posterior is sampled, as in the paper's code (ddpm.py,
    get_first_stage_encoding), with one seed an image; `sample=False` takes its mean.
    """
    check_images(pipe, images)
    batch_size = whole_number("batch_size", batch_size, 1)
    seeds = image_seeds(seeds, len(images))
    latents = []
    with torch.no_grad():
        for first in range(0, len(images), batch_size):
            batch = images[first : first + batch_size].to(pipe.device, pipe.vae.dtype)
            posterior = pipe.vae.encode(batch * 2 - 1).latent_dist
            z0 = posterior.mean
            if sample:
                noise = per_image_noise(z0.shape[1:], seeds[first : first + batch_size], "encode")
                z0 = z0 + posterior.std * noise.to(z0)
            latents.append(z0 * pipe.vae.config.scaling_factor)
    return torch.cat(latents)


def decode_latents(
    pipe: StableDiffusionPipeline, z0: torch.Tensor, batch_size: int = 16
) -> torch.Tensor:
    """Latents (N, C, h, w) to images (N, 3, H, W) in [0, 1], float32 on the CPU."""
    batch_size = whole_number("batch_size", batch_size, 1)
    images = []
    with torch.no_grad():
        for batch in z0.to(pipe.device, pipe.vae.dtype).split(batch_size):
            decoded = pipe.vae.decode(batch / pipe.vae.config.scaling_factor).sample
            images.append((decoded.float() / 2 + 0.5).clamp(0, 1).cpu())
    return torch.cat(images)


def check_images(pipe: StableDiffusionPipeline, images: torch.Tensor) -> None:
    """ValueError unless `images` is (N, 3, H, W) in [0, 1], its sides whole latent cells."""
    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        raise ValueError(f"images: must be a floating-point tensor, not {_kind(images)}.")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"images: must be (N, 3, H, W) with N > 0, not {tuple(images.shape)}.")
    factor = latent_factor(pipe)
    if images.shape[2] % factor or images.shape[3] % factor:
        raise ValueError(
            f"images: height and width must be multiples of {factor}, the model's latent cell; "
            f"given {tuple(images.shape[2:])}."
        )
    low, high = images.min().item(), images.max().item()
    if not (low >= 0 and high <= 1):  # also refuses NaN
        raise ValueError(f"images: values must lie in [0, 1], not [{low:.3g}, {high:.3g}].")


def _kind(value: object) -> str:
    return f"a {value.dtype} tensor" if isinstance(value, torch.Tensor) else type(value).__name__


def image_seeds(seed: int | Sequence[int], n: int) -> list[int]:
    """One seed an image: image i of a run with one whole number s gets s * 1,000,000 + i."""
    if isinstance(seed, Sequence | np.ndarray | torch.Tensor):
        seeds = [whole_number("seeds", int(s), 0) for s in seed]
        if len(seeds) != n:
            raise ValueError(f"seeds: {len(seeds)} given for {n} images; one an image is needed.")
        return seeds
    first = whole_number("seed", seed, 0) * 1_000_000
    return list(range(first, first + n))


def per_image_noise(shape: Sequence[int], seeds: Sequence[int], stream: str) -> torch.Tensor:
    """Standard normal noise, (len(seeds), *shape) float32 on the CPU, each image from its own seed.

    `stream` names the use ("encode", "forward t=21"), so that uses do not share their noise. An
    image's noise depends on neither the batch that it is in nor the device that will use it.
    """
    use = zlib.crc32(stream.encode())
    noise = [
        np.random.default_rng((seed, use)).standard_normal(tuple(shape), dtype=np.float32)
        for seed in seeds
    ]
    return torch.from_numpy(np.stack(noise))


def noise_latents(
    pipe: StableDiffusionPipeline, z0: torch.Tensor, t: torch.Tensor | int, eps: torch.Tensor
) -> torch.Tensor:
    """z_t = sqrt(abar_t) z0 + sqrt(1 - abar_t) eps, with t one timestep or one a row."""
    signal, noise = _rates(pipe, t, z0)
    return signal * z0 + noise * eps


def predict_eps(
    pipe: StableDiffusionPipeline,
    z_t: torch.Tensor,  # (B, C, h, w)
    t: torch.Tensor | int,
    y: torch.Tensor,  # (B, L, D)
) -> torch.Tensor:
    """The noise that the U-Net sees in z_t under the prompt y, whatever it was trained to predict.

    A v-predicting model says v = sqrt(abar) eps - sqrt(1 - abar) z0 (Salimans and Ho, 2022,
    appendix D), so eps = sqrt(abar) v + sqrt(1 - abar) z_t.
    """
    output = pipe.unet(z_t, t, encoder_hidden_states=y).sample
    if pipe.scheduler.config.prediction_type == "epsilon":
        return output
    signal, noise = _rates(pipe, t, z_t)
    return signal * output + noise * z_t


def clean_latents(
    pipe: StableDiffusionPipeline, z_t: torch.Tensor, t: torch.Tensor | int, eps: torch.Tensor
) -> torch.Tensor:
    """The z0 that z_t stands for if its noise is eps: `noise_latents` undone."""
    signal, noise = _rates(pipe, t, z_t)
    return (z_t - noise * eps) / signal


def ddim_scheduler(pipe: StableDiffusionPipeline) -> DDIMScheduler:
    """The model's noise schedule on the DDIM grid of the paper's code, whichever it came with."""
    return DDIMScheduler.from_config(
        pipe.scheduler.config,
        timestep_spacing="leading",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
    )


def ddim_timesteps(pipe: StableDiffusionPipeline, steps: int = 50) -> list[int]:
    """The DDIM grid, in the order of denoising: [981, 961, ..., 21, 1] for 50 of 1000.

    The last `t0` of it are the least noisy, those that M_hat averages over.
    """
    trained = pipe.scheduler.config.num_train_timesteps
    scheduler = ddim_scheduler(pipe)
    scheduler.set_timesteps(whole_number("steps", steps, 1, trained - 1))
    return scheduler.timesteps.tolist()


def _rates(
    pipe: StableDiffusionPipeline, t: torch.Tensor | int, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """sqrt(abar_t) and sqrt(1 - abar_t), shaped to multiply a (B, C, h, w) tensor."""
    abar = pipe.scheduler.alphas_cumprod[torch.as_tensor(t).cpu()].reshape(-1, 1, 1, 1)
    return abar.sqrt().to(like), (1 - abar).sqrt().to(like)
