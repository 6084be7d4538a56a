"""A path or a hub id in, a frozen text-to-image pipeline out; anything else refused with reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from cdlib.checks import did_you_mean, one_of

POCKET_WEIGHTS = Path(__file__).parents[1] / "pocket" / "weights"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PREDICTIONS = ("epsilon", "v_prediction")


def load_model(
    source: str | Path,
    device: str = "auto",
    dtype: str | torch.dtype | None = None,
) -> StableDiffusionPipeline:
    """A text-to-image pipeline in evaluation mode, its weights frozen, without a safety checker.

    source: "pocket", a folder in diffusers' layout, or a hub id such as
        "CompVis/stable-diffusion-v1-4". Only safetensors are read.
    device: "auto" (CUDA, else Apple's MPS, else the CPU), or a torch device such as "cuda:1".
    dtype: "float32", "float16" or "bfloat16"; by default float16 on CUDA and float32 elsewhere.

    Raises ValueError for a source, device or dtype that cannot be had, and for a model that is
    not a plain text-to-image one (an inpainting U-Net with its 9 channels, say).
    """
    where = _choose_device(device)
    precision = _choose_dtype(dtype, where)
    location = _locate(source)
    _check_class(source, _pipeline_config(source, location))
    pipe = _read_pipeline(source, location, precision)
    _check_parts(source, pipe)
    pipe.to(where)
    pipe.set_progress_bar_config(disable=True)  # a bar for each batch would be a widget on a page
    pipe.unet.to(memory_format=torch.channels_last)  # the same numbers, a fifth sooner
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.eval().requires_grad_(False)
    return pipe


def _choose_device(device: str) -> torch.device:
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    allowed = "allowed are 'auto', 'cpu', 'cuda', 'cuda:<number>' and 'mps'"
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r}: {allowed}.") from error
    present = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if chosen.type not in present:
        raise ValueError(f"device={device!r}: {allowed}.")
    if (chosen.index or 0) >= present[chosen.type]:
        raise ValueError(f"device={device!r}: this machine does not have it; {allowed}.")
    return chosen


def _choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    name = str(dtype).removeprefix("torch.")
    return DTYPES[one_of("dtype", name, DTYPES)]


def _locate(source: str | Path) -> str:
    """The folder or hub id that `source` stands for."""
    if source == "pocket":
        if not (POCKET_WEIGHTS / "model_index.json").is_file():
            raise FileNotFoundError(
                f"the pocket model's weights are missing ({POCKET_WEIGHTS}); they come with the "
                "repository, or train them with: python -m cdlib.pocket.train"
            )
        return str(POCKET_WEIGHTS)
    folder = Path(source) if isinstance(source, str | Path) else None
    if folder and folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise ValueError(
                f"model={str(source)!r}: the folder has no model_index.json, so it is not a "
                "diffusers pipeline as save_pretrained writes it."
            )
        return str(folder)
    if not isinstance(source, str) or not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise ValueError(
            f"model={str(source)!r}: allowed are 'pocket', an existing folder of a diffusers "
            "pipeline, or a hub id such as 'CompVis/stable-diffusion-v1-4'."
            + did_you_mean(source, ["pocket"])
        )
    return source


def _pipeline_config(source: str | Path, location: str) -> dict:
    try:
        return StableDiffusionPipeline.load_config(location)
    except OSError as error:
        raise _unreachable(source) from error


def _read_pipeline(
    source: str | Path, location: str, dtype: torch.dtype
) -> StableDiffusionPipeline:
    # A folder loads in a second, and its bars are no news; a download keeps its own.
    quiet = _no_progress_bars() if Path(location).is_dir() else nullcontext()
    try:
        with quiet:
            return StableDiffusionPipeline.from_pretrained(
                location,
                dtype=dtype,
                safety_checker=None,
                requires_safety_checker=False,
                use_safetensors=True,
            )
    except OSError as error:
        raise _unreachable(source) from error


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    loggers = [
        log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()
    ]
    for log in loggers:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in loggers:
            log.enable_progress_bar()


def _unreachable(source: str | Path) -> ValueError:
    return ValueError(
        f"model={str(source)!r}: no pipeline with safetensors weights could be read from there. "
        "Allowed are 'pocket' (needs no network), a folder of a diffusers pipeline, or a hub id "
        "that this machine can reach or has in its cache."
    )


def _check_class(source: str | Path, config: dict) -> None:
    name = config.get("_class_name")
    if name != "StableDiffusionPipeline":
        raise ValueError(
            f"model={str(source)!r} is a {name}; the method needs a text-to-image latent "
            "diffusion model, a StableDiffusionPipeline."
        )


def _check_parts(source: str | Path, pipe: StableDiffusionPipeline) -> None:
    given = f"model={str(source)!r}"
    channels, latent = pipe.unet.config.in_channels, pipe.vae.config.latent_channels
    if not channels == pipe.unet.config.out_channels == latent:
        raise ValueError(
            f"{given}: its U-Net takes {channels} channels where its latents have {latent}, as "
            "inpainting and image-to-image models do; the method needs a text-to-image U-Net."
        )
    if pipe.unet.config.addition_embed_type is not None:
        raise ValueError(f"{given}: its U-Net asks for more than a prompt (addition_embed_type).")
    if pipe.unet.config.cross_attention_dim != pipe.text_encoder.config.hidden_size:
        raise ValueError(f"{given}: its U-Net and its text encoder differ in width.")
    one_of(f"{given}: prediction_type", pipe.scheduler.config.prediction_type, PREDICTIONS)
