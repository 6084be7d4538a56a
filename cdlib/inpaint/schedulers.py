"""diffusers' schedulers by name, on the model's own noise schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import diffusers
from diffusers.schedulers import KarrasDiffusionSchedulers

from cdlib.checks import did_you_mean

if TYPE_CHECKING:
    from diffusers import SchedulerMixin, StableDiffusionPipeline

# What diffusers says fits Stable Diffusion. Two of them do not fit here: the SDE one draws the
# noise of a whole batch from one seed, EDM's scales latents as no model of this kind was trained.
SCHEDULERS = tuple(
    one.name
    for one in KarrasDiffusionSchedulers
    if one.name not in ("DPMSolverSDEScheduler", "EDMEulerScheduler")
)


def scheduler_by_name(pipe: StableDiffusionPipeline, name: str) -> SchedulerMixin:
    """A fresh scheduler with the betas and the prediction type of the model's own.

    Steps are spaced as in `cdlib.models.ddim_scheduler`: 981, 961, ..., 1 for 50 steps of DDIM.
    What diffusers makes of that spacing differs: DPM-Solver and its like take 951, 932, ..., 20.
    ValueError with the nearest right name for one that is not among SCHEDULERS.
    """
    if name not in SCHEDULERS:
        full = f"{str(name).removesuffix('Scheduler')}Scheduler"
        raise ValueError(
            f"scheduler={name!r}: allowed are {', '.join(SCHEDULERS)}."
            f"{did_you_mean(full, SCHEDULERS)}"
        )
    # A class takes from these what it knows and leaves the rest.
    return getattr(diffusers, name).from_config(
        pipe.scheduler.config,
        timestep_spacing="leading",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
        skip_prk_steps=True,  # PNDM's warm-up of twelve extra passes, which no pipeline takes
    )
