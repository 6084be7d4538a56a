"""What a stage's inputs are known by: models and tensors by their content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from cdlib.models import latent_factor
from cdlib.store import digest, tensor_digest

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def native_size(pipe: StableDiffusionPipeline) -> int:
    """The side, in pixels, of the images that the model was made for."""
    return int(pipe.unet.config.sample_size) * latent_factor(pipe)


def model_fingerprint(pipe: StableDiffusionPipeline) -> str:
    """A key for a pipeline as it is in memory: its weights, settings and vocabulary."""
    parts = (pipe.unet, pipe.vae, pipe.text_encoder)
    weights = [
        [name, tensor_digest([weight])]
        for part in parts
        for name, weight in sorted(part.state_dict().items())
    ]
    configs = [dict(part.config) for part in (pipe.unet, pipe.vae, pipe.scheduler)]
    configs.append(pipe.text_encoder.config.to_dict())
    # What is left out tells where a model was read from, and which version wrote it.
    settings = [
        {k: v for k, v in config.items() if not k.startswith("_") and k != "transformers_version"}
        for config in configs
    ]
    words = sorted(pipe.tokenizer.get_vocab().items())
    told = json.loads(json.dumps(settings, default=str))
    return f"model-{digest([weights, told, words])}"


def tensor_fingerprint(tensor: torch.Tensor) -> str:
    """A key for a tensor: its type, shape and values."""
    return f"tensor-{tensor_digest([tensor])}"
