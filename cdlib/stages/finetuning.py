"""m' in the store: a fine-tuned U-Net, its loss log, and what it drew as training went."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from cdlib.checks import one_of, whole_number
from cdlib.files import written_whole
from cdlib.finetune import finetune
from cdlib.inpaint import synthesise
from cdlib.precision import PRECISIONS, choose_precision
from cdlib.stages.keys import model_fingerprint, tensor_fingerprint
from cdlib.store import Artifact, Store

KEEP = {"float16": torch.float16, "float32": torch.float32}
LOGGED = 24  # states that a run yields: the loss log has as many rows
MOMENTS = (0, 1 / 8, 1 / 4, 1 / 2, 1)  # shares of a run at which samples are drawn


def m_prime_artifact(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    m_pre: torch.Tensor,  # (N, h, w) bool
    *,
    y_f: str,
    y_b: str = "a photo of a background",
    steps: int = 500,
    n_samples: int = 4,
    denoise_steps: int = 25,
    ema: bool = True,
    keep: str = "float16",
    seed: int = 0,
    store: Store | None = None,
    **options: Any,
) -> Artifact:
    """m fine-tuned on `images`, see `cdlib.finetune`; `load_m_prime` makes a pipeline of it.

    "unet": the state of m' in the precision `keep`, averaged weights if `ema`. "log": a table of
    step, loss, loss_f and loss_b, means since the row before (NaN where no image of a kind came
    by), and the seconds that training took so far. "samples_f", "samples_b" (K, n_samples, 3, H, W)
    in [0, 1]: what the model drew for each prompt, in `denoise_steps` and from the same noise each
    time, after "sample_steps", a list of K steps of training of which the first is 0.

    options: whatever else `cdlib.finetune` takes (batch_size, lr, p, rectangles, lora_rank, ...).
    A run that is killed goes on where it was when it is asked for again.
    """
    one_of("keep", keep, KEEP)
    whole_number("steps", steps, 1)
    if chosen := {"checkpoint", "every"} & options.keys():
        raise ValueError(f"{min(chosen)}: is chosen by this stage and cannot be given.")
    asked = options.get("precision", "auto")
    options["precision"] = choose_precision(asked, pipe.device, PRECISIONS)
    settings = {"y_f": y_f, "y_b": y_b, "steps": steps, "seed": seed, **options}
    samples = {"n": n_samples, "steps": denoise_steps, "seed": seed, "ema": ema}

    def make(scratch: Path) -> dict[str, Any]:
        drawn = _Samples(scratch, pipe, y_f, y_b, n=n_samples, steps=denoise_steps, seed=seed)
        every = max(1, steps // LOGGED)
        checkpoint = scratch / "run.safetensors"
        for state in finetune(pipe, images, m_pre, checkpoint=checkpoint, every=every, **settings):
            if drawn.due(state.step, steps):
                drawn.draw(state.pipeline(ema=ema), state.step)
        trained = state.pipeline(ema=ema).unet.state_dict()
        return {
            "unet": {name: weight.to(KEEP[keep]) for name, weight in trained.items()},
            "log": pd.DataFrame(state.log).astype({"loss_f": float, "loss_b": float}),
            **drawn.all(),
        }

    return (store or Store()).get(
        "m_prime",
        make,
        params={**settings, "samples": samples, "keep": keep},
        seed=seed,
        inputs=[model_fingerprint(pipe), tensor_fingerprint(images), tensor_fingerprint(m_pre)],
        code=[finetune, synthesise, m_prime_artifact],
        device=pipe.device,
        resumable=True,
    )


def load_m_prime(pipe: StableDiffusionPipeline, artifact: Artifact) -> StableDiffusionPipeline:
    """The pipeline of m': the U-Net of `m_prime_artifact`, and all other parts m's own.

    It has m's device and precision, and is frozen as `load_model` leaves a model.
    """
    unet = copy.deepcopy(pipe.unet)  # for its device, precision, layout and processors
    unet.load_state_dict(artifact["unet"])
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    parts = {**pipe.components, "unet": unet, "scheduler": scheduler}
    m_prime = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    m_prime.set_progress_bar_config(disable=True)
    return m_prime


class _Samples:
    """What was drawn after which step, kept in a folder: a run that goes on draws nothing twice."""

    def __init__(self, folder: Path, pipe, y_f: str, y_b: str, **how) -> None:
        self.folder = folder
        self.prompts = {"samples_f": {"y_f": y_f}, "samples_b": {}}
        self.how = {"y_b": y_b, **how}
        if not self.steps():
            self.draw(pipe, 0)

    def steps(self) -> list[int]:
        """The steps after which samples are there, in order."""
        return sorted(int(file.stem) for file in self.folder.glob("[0-9]*.safetensors"))

    def due(self, step: int, steps: int) -> bool:
        """Has a moment come by, up to `step` of `steps`, since samples were last drawn?"""
        last = self.steps()[-1]
        return any(last < round(share * steps) <= step for share in MOMENTS)

    def draw(self, pipe: StableDiffusionPipeline, step: int) -> None:
        drawn = {key: synthesise(pipe, **self.how, **y) for key, y in self.prompts.items()}
        with written_whole(self.folder / f"{step}.safetensors") as aside:
            save_file({key: images.contiguous() for key, images in drawn.items()}, aside)

    def all(self) -> dict[str, Any]:
        steps = self.steps()
        drawn = [load_file(self.folder / f"{step}.safetensors") for step in steps]
        images = {key: torch.stack([one[key] for one in drawn]) for key in self.prompts}
        return {"sample_steps": steps, **images}
