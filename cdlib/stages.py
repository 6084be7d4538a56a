"""The stages between the library and the chapters: what takes long, kept in the store.

A stage looks up, or makes, the artifact that belongs to this model, these images and settings.
Model and images count by their content, wherever they came from:

    images = cdlib.load_dataset("pocket", concept="bird", size=native_size(pipe)).images
    m_hat = m_hat_artifact(pipe, images, prompt="a photo of a bird", word="bird")["m_hat"]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

import torch

from cdlib.diagnosis import auc_against_t0
from cdlib.metrics import Estimate
from cdlib.models import latent_factor
from cdlib.results import glue, glue_text
from cdlib.store import Artifact, Store

# After cdlib.models, which keeps transformers from warning about what nothing here needs.
from cdlib.attention import attention_profile, concept_attention  # isort: skip

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


def m_hat_artifact(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    *,
    prompt: str,
    word: str | Sequence[str],
    t0: int = 40,
    steps: int = 50,
    n: int = 1,
    seed: int = 0,
    store: Store | None = None,
) -> Artifact:
    """M_hat of real images, see `concept_attention`: "m_hat" (N, h, w) float32."""
    settings = {"prompt": prompt, "word": word, "t0": t0, "steps": steps, "n": n}
    return (store or Store()).get(
        "m_hat",
        lambda: {"m_hat": concept_attention(pipe, images, **settings, seed=seed)},
        params=settings,
        seed=seed,
        inputs=[model_fingerprint(pipe), tensor_fingerprint(images)],
        code=[concept_attention],
        device=pipe.device,
    )


def profile_artifact(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    *,
    prompt: str,
    word: str | Sequence[str],
    t0: int = 40,
    steps: int = 50,
    n: int = 1,
    n_detail: int = 24,
    seed: int = 0,
    store: Store | None = None,
) -> Artifact:
    """M_hat taken apart, see `attention_profile`: "m_hat", "by_timestep", "by_layer", "detail"."""
    settings = {"prompt": prompt, "word": word, "t0": t0, "steps": steps, "n": n}
    settings["n_detail"] = n_detail
    return (store or Store()).get(
        "attention_profile",
        lambda: attention_profile(pipe, images, **settings, seed=seed),
        params=settings,
        seed=seed,
        inputs=[model_fingerprint(pipe), tensor_fingerprint(images)],
        code=[attention_profile],
        device=pipe.device,
    )


def t0_sweep_artifact(
    profile: Artifact,
    masks: torch.Tensor,  # (N, H, W) bool
    *,
    seed: int = 0,
    store: Store | None = None,
) -> Artifact:
    """AUC against T_0, see `auc_against_t0`: the table "curve"."""
    return (store or Store()).get(
        "t0_sweep",
        lambda: {"curve": auc_against_t0(profile["by_timestep"], masks, seed=seed)},
        seed=seed,
        inputs=[profile, tensor_fingerprint(masks)],
        code=[auc_against_t0],
    )


def glue_estimate(
    name: str,
    estimate: Estimate | None,
    *,
    unit: str | None = "fraction",
    paper: float | None = None,
) -> None:
    """Glue an estimate with its interval and n; None reads "not measured" in the prose."""
    if estimate is None:
        for key in (name, f"{name}.ci95", f"{name}.n"):
            glue_text(key, "not measured")
        return
    glue(name, estimate.value, ci95=estimate.ci95, n=estimate.n, unit=unit, paper=paper)


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """A tensor's bytes in row order, whatever its memory format; NumPy alone has no bfloat16."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())
