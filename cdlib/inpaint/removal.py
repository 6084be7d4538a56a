"""Objects painted over with background, the paper's Eq. 6 and section 5.1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from cdlib.checks import one_of, whole_number
from cdlib.inpaint.denoising import (
    SURROUNDINGS,
    DenoisingState,
    check_resample,
    check_scale,
    check_steps,
    concept_prompts,
    denoise,
    last_state,
)
from cdlib.inpaint.schedulers import scheduler_by_name
from cdlib.masks import dilate_mask
from cdlib.models import check_images, encode_images, image_seeds, latent_factor

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def remove(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    m_pre: torch.Tensor,  # (N, h, w) bool, True on the object
    y_b: str = "a photo of a background",
    *,
    steps: int = 50,
    scheduler: str = "DDIMScheduler",
    guidance: float | None = None,
    y_f: str | None = None,
    dilate: int = 0,
    surroundings: str = "noised",
    resample: int = 1,
    seed: int | Sequence[int] = 0,
    batch_size: int = 32,
) -> torch.Tensor:
    """The images with what the masks cover painted over: (N, 3, H, W) float32 in [0, 1].

    At every step latents outside the mask are those of the image, noised anew; nothing is pasted
    back after the last step, nor in pixels, so the kept part has gone through one denoising and
    the autoencoder (section 5.1), with clean surroundings through the autoencoder alone. The
    difference image counts on that.

    m_pre: on the latent grid. dilate: cells by which it is enlarged first, see `dilate_mask`.
    scheduler: any of `cdlib.inpaint.SCHEDULERS`.
    guidance: s in eps = eps(y_b) + s [eps(y_f) - eps(y_b)]; None is y_b alone, below 0 pushes away
        from the object. It needs y_f, and twice the time unless it is 0 or 1.
    surroundings: what the U-Net sees around the hole at every step, the image's latents noised
        anew ("noised", the paper's code) or as they are ("clean", the paper's Eq. 6 and Figure 2).
        A model has to be fine-tuned for the latter, with noise="rectangle" in `finetune`.
    resample: how often each step is taken (RePaint: Lugmayr et al., 2022), so many times the time;
        1 is the paper. More lets what is painted come to fit the rest. With DDIMScheduler alone.
    seed: one number for the run, or one for each image. An image's result depends on its own seed
        alone, not on its companions or on batch_size (how many pass the U-Net at once).

    Inside `torch.autocast("cpu", torch.bfloat16)` a recent CPU takes half the time.

    Raises ValueError for images, masks, a scheduler or numbers that do not fit.
    """
    states = removal_steps(
        pipe,
        images,
        m_pre,
        y_b,
        steps=steps,
        scheduler=scheduler,
        guidance=guidance,
        y_f=y_f,
        dilate=dilate,
        surroundings=surroundings,
        resample=resample,
        seed=seed,
        batch_size=batch_size,
    )
    return last_state(states).images


def removal_steps(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    m_pre: torch.Tensor,  # (N, h, w) bool, True on the object
    y_b: str = "a photo of a background",
    *,
    steps: int = 50,
    scheduler: str = "DDIMScheduler",
    guidance: float | None = None,
    y_f: str | None = None,
    dilate: int = 0,
    surroundings: str = "noised",
    resample: int = 1,
    seed: int | Sequence[int] = 0,
    batch_size: int = 32,
) -> Iterator[DenoisingState]:
    """The same, step by step: a state after each, of which the last one's images are `remove`'s.

    Schedulers of second order take more than `steps` steps: state.steps says how many.
    """
    check_images(pipe, images)
    hole = dilate_mask(_check_mask(pipe, images, m_pre), dilate)
    resample = check_resample(resample, scheduler)
    one_of("surroundings", surroundings, SURROUNDINGS)
    steps, batch_size = check_steps(pipe, steps), whole_number("batch_size", batch_size, 1)
    scheduler_by_name(pipe, scheduler)  # here, so that a wrong name is told before the encoder runs
    if guidance is None and y_f is not None:
        raise ValueError(f"y_f={y_f!r}: is used with guidance alone, and guidance is None.")
    scale = check_scale("guidance", 0 if guidance is None else guidance, y_f)
    seeds = image_seeds(seed, len(images))
    prompts = concept_prompts(pipe, y_b, y_f, scale)
    z0 = encode_images(pipe, images, seeds).float()
    return denoise(
        pipe,
        z0.shape[1:],
        prompts,
        seeds,
        steps=steps,
        scheduler=scheduler,
        batch_size=batch_size,
        known=(z0, hole[:, None].to(z0.device)),
        surroundings=surroundings,
        resample=resample,
    )


def _check_mask(
    pipe: StableDiffusionPipeline, images: torch.Tensor, m_pre: torch.Tensor
) -> torch.Tensor:
    factor = latent_factor(pipe)
    shape = (len(images), images.shape[2] // factor, images.shape[3] // factor)
    mask = torch.as_tensor(m_pre)
    if mask.dtype != torch.bool or tuple(mask.shape) != shape:
        raise ValueError(
            f"m_pre: must be bool of shape {shape}, the images' latent grid, "
            f"not {mask.dtype} of {tuple(mask.shape)}."
        )
    return mask
