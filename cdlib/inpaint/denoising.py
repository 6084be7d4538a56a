"""From noise to clean latents, with any scheduler, and with a known part if there is one.

Schedulers keep latents at two scales: DDIM and its like z_t itself, those with sigmas (Euler,
Heun, ...) z_t / sqrt(abar_t), which they scale back for the U-Net. What is done here is done at the
U-Net's scale, so that it is one thing for all.
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING

import torch

from cdlib.checks import whole_number
from cdlib.inpaint.schedulers import scheduler_by_name
from cdlib.models import decode_latents, encode_prompts, per_image_noise

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

Known = tuple[torch.Tensor, torch.Tensor]  # z0 (N, C, h, w) and where to paint (N, 1, h, w) bool
Prompts = list[tuple[float, torch.Tensor]]  # weights that add up to 1, and encoded prompts
SURROUNDINGS = ("noised", "clean")


@dataclass(frozen=True)
class DenoisingState:
    """Where N images stand after `step` of `steps` steps.

    t: the timestep that the U-Net was told in this step. z: the latents after it, at the
    scheduler's scale. z0: what they stand for, the U-Net's guess at clean latents; after the last
    step z itself. z and z0 are (N, C, h, w) float32.
    """

    step: int
    steps: int
    t: float
    z: torch.Tensor = field(repr=False)
    z0: torch.Tensor = field(repr=False)
    pipe: StableDiffusionPipeline = field(repr=False)

    @cached_property
    def images(self) -> torch.Tensor:
        """z0 decoded, when it is first asked for: (N, 3, H, W) float32 in [0, 1] on the CPU."""
        return decode_latents(self.pipe, self.z0)


def concept_prompts(
    pipe: StableDiffusionPipeline, y_b: str, y_f: str | None, scale: float
) -> Prompts:
    """The paper's guidance by its two concepts, eps = eps(y_b) + s [eps(y_f) - eps(y_b)].

    It is a weighted sum, so that s = 0 and s = 1 need one U-Net pass instead of two. As the weights
    add up to 1, a v-predicting model's v may be summed as it is: v is linear in eps.
    """
    weights = [(1 - scale, y_b), (scale, y_f)]
    return [(weight, encode_prompts(pipe, y)) for weight, y in weights if weight != 0]


def check_scale(parameter: str, scale: object, y_f: str | None) -> float:
    """`scale` as a float; ValueError unless it is finite, and 0 if there is no y_f to guide by."""
    if isinstance(scale, bool) or not isinstance(scale, Real) or not math.isfinite(scale):
        raise ValueError(f"{parameter}={scale!r}: must be a finite number.")
    if y_f is None and scale != 0:
        raise ValueError(f"{parameter}={scale!r}: needs y_f, the prompt of the object.")
    return float(scale)


def check_resample(resample: object, scheduler: str) -> int:
    """`resample` as an int; ValueError if it is none, or the scheduler looks back at past steps."""
    resample = whole_number("resample", resample, 1)
    if resample > 1 and scheduler != "DDIMScheduler":
        raise ValueError(
            f"resample={resample}: with scheduler={scheduler!r}, which may carry past steps along, "
            "allowed is 1; more needs DDIMScheduler."
        )
    return resample


def check_steps(pipe: StableDiffusionPipeline, steps: object) -> int:
    """`steps` as an int; ValueError unless the model's schedule has so many."""
    return whole_number("steps", steps, 1, pipe.scheduler.config.num_train_timesteps - 1)


@torch.no_grad()
def denoise(
    pipe: StableDiffusionPipeline,
    shape: Sequence[int],  # (C, h, w)
    prompts: Prompts,
    seeds: Sequence[int],
    *,
    steps: int,
    scheduler: str,
    batch_size: int,
    known: Known | None = None,
    surroundings: str = "noised",
    resample: int = 1,
) -> Iterator[DenoisingState]:
    """Denoise one image for each seed, all at once; yield after every step.

    All images take a step together, through the U-Net in batches of `batch_size`. Before each, what
    is known is put in place: z <- keep * q(z_t | z0) + (1 - keep) * z. Latents stay in float32
    whatever the U-Net computes in. An image depends on its own seed alone, noise of the scheduler's
    included.

    surroundings: what is known is put in place with noise of its own, and after the last step not
    at all ("noised", section 5.1), or as it is, and after the last step too ("clean", the paper's
    Eq. 6).

    resample: how often a step is taken. Before it is taken again, its result is noised back to
    where it came from (RePaint: Lugmayr et al., 2022, section 4.2): what is painted meets anew what
    is known, and the two come to fit together.
    """
    grid = scheduler_by_name(pipe, scheduler)
    grid.set_timesteps(steps, device=pipe.device)
    options = {}
    if "generator" in inspect.signature(grid.step).parameters:
        options["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
    z = per_image_noise(shape, seeds, "start").to(pipe.device) * grid.init_noise_sigma
    for i, t in enumerate(grid.timesteps):
        scale = grid.scale_model_input(torch.ones(1), t).item()
        signal = _signal_rate(pipe, t.item(), scale)
        for take in range(resample):
            label = f"step={i}" + (f" take={take}" if take else "")
            if take:
                eps = per_image_noise(shape, seeds, f"back {label}").to(z)
                z = _noised_back(z, signal, _signal_after(pipe, grid, i), eps)
            if known is not None:
                z0, hole = known
                if surroundings == "noised":
                    eps = per_image_noise(shape, seeds, f"known {label}").to(z)
                    z0 = signal * z0 + math.sqrt(1 - signal**2) * eps
                z = torch.where(hole, z, z0 / scale)
            z_t = z * scale
            output = _predict(pipe, z_t, t, prompts, batch_size)
            z = grid.step(output, t, z, **options).prev_sample
        done = i + 1 == len(grid.timesteps)
        guess = z if done else _clean(pipe, z_t, output, signal)
        if known is not None and surroundings == "clean":
            guess = torch.where(known[1], guess, known[0])
            z = guess if done else z
        yield DenoisingState(i + 1, len(grid.timesteps), t.item(), z, guess, pipe)


def last_state(states: Iterator[DenoisingState]) -> DenoisingState:
    """Run to the end, holding on to one state at a time."""
    return deque(states, maxlen=1).pop()


def _signal_rate(pipe: StableDiffusionPipeline, t: float, scale: float) -> float:
    """sqrt(abar_t). Between whole timesteps, where second-order schedulers with sigmas also go,
    the model has no abar; there it is what the scheduler scales by."""
    return pipe.scheduler.alphas_cumprod[int(t)].sqrt().item() if t == int(t) else scale


def _signal_after(pipe: StableDiffusionPipeline, grid: DDIMScheduler, i: int) -> float:
    """sqrt(abar) of what the grid's step i leads to."""
    last = i + 1 == len(grid.timesteps)
    abar = grid.final_alpha_cumprod if last else grid.alphas_cumprod[int(grid.timesteps[i + 1])]
    return abar.sqrt().item()


def _noised_back(z: torch.Tensor, signal: float, less: float, eps: torch.Tensor) -> torch.Tensor:
    """From latents with the signal rate `less` to noisier ones with the rate `signal`."""
    ratio = signal / less
    return ratio * z + math.sqrt(1 - ratio**2) * eps


def _predict(
    pipe: StableDiffusionPipeline,
    z_t: torch.Tensor,  # (N, C, h, w)
    t: torch.Tensor,
    prompts: Prompts,
    batch_size: int,
) -> torch.Tensor:
    """What the U-Net says, be it eps or v, weighted over the prompts: (N, C, h, w) float32."""
    said = []
    for batch in z_t.to(pipe.unet.dtype).split(batch_size):
        outputs = (
            weight * pipe.unet(batch, t, y.expand(len(batch), -1, -1)).sample.float()
            for weight, y in prompts
        )
        said.append(sum(outputs))
    return torch.cat(said)


def _clean(
    pipe: StableDiffusionPipeline, z_t: torch.Tensor, output: torch.Tensor, signal: float
) -> torch.Tensor:
    """z0 by the U-Net's output; for v straight from its definition, without a division."""
    noise = math.sqrt(1 - signal**2)
    if pipe.scheduler.config.prediction_type == "epsilon":
        return (z_t - noise * output) / signal
    return signal * z_t - noise * output
