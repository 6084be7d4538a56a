"""M_hat and M_pre of a set of images, kept in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from cdlib.attention import attention_profile, concept_attention
from cdlib.diagnosis import auc_against_t0
from cdlib.masks import preliminary_mask
from cdlib.stages.keys import model_fingerprint, tensor_fingerprint
from cdlib.store import Artifact, Store

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


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


def m_pre_artifact(
    m_hat: Artifact,
    *,
    rule: str = "gmm",
    valid: torch.Tensor | None = None,  # (N, h, w) bool
    postprocess: bool = False,
    seed: int = 0,
    store: Store | None = None,
) -> Artifact:
    """M_pre from the artifact of M_hat, see `preliminary_mask`: "m_pre" (N, h, w) bool."""
    settings = {"rule": rule, "postprocess": postprocess}
    return (store or Store()).get(
        "m_pre",
        lambda: {"m_pre": preliminary_mask(m_hat["m_hat"], valid=valid, seed=seed, **settings)},
        params=settings,
        seed=seed,
        inputs=[m_hat, *([] if valid is None else [tensor_fingerprint(valid)])],
        code=[preliminary_mask],
    )
