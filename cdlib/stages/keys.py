"""What a stage's inputs are known by: models and tensors by their content."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

import torch

from cdlib.models import latent_factor

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def native_size(pipe: StableDiffusionPipeline) -> int:
    """The side, in pixels, of the images that the model was made for."""
    return int(pipe.unet.config.sample_size) * latent_factor(pipe)


def model_fingerprint(pipe: StableDiffusionPipeline) -> str:
    """A key for a pipeline as it is in memory: its weights, settings and vocabulary."""
    content = sha256()
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        for name, tensor in sorted(part.state_dict().items()):
            content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            content.update(_bytes_of(tensor))
    configs = [dict(part.config) for part in (pipe.unet, pipe.vae, pipe.scheduler)]
    configs.append(pipe.text_encoder.config.to_dict())
    # What is left out tells where a model was read from, and which version wrote it.
    settings = [
        {k: v for k, v in config.items() if not k.startswith("_") and k != "transformers_version"}
        for config in configs
    ]
    words = sorted(pipe.tokenizer.get_vocab().items())
    content.update(json.dumps([settings, words], sort_keys=True, default=str).encode())
    return f"model-{content.hexdigest()[:20]}"


def tensor_fingerprint(tensor: torch.Tensor) -> str:
    """A key for a tensor: its type, shape and values."""
    content = sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    content.update(_bytes_of(tensor))
    return f"tensor-{content.hexdigest()[:20]}"


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """A tensor's bytes in row order, whatever its memory format; NumPy alone has no bfloat16."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())
