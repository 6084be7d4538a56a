"""Images with the object removed, kept in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cdlib.inpaint import remove
from cdlib.precision import choose_precision
from cdlib.stages.keys import model_fingerprint, tensor_fingerprint
from cdlib.store import Artifact, Store

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def removal_artifact(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    m_pre: torch.Tensor,  # (N, h, w) bool
    y_b: str = "a photo of a background",
    *,
    steps: int = 50,
    scheduler: str = "DDIMScheduler",
    dilate: int = 0,
    precision: str = "auto",
    seed: int = 0,
    store: Store | None = None,
    **options: Any,
) -> Artifact:
    """The object painted over, by m or m', see `cdlib.remove`: "removed" (N, 3, H, W) in [0, 1].

    precision: of the nets' products on a CPU, see `choose_precision`; other devices always take the
    model's own. options: what else `remove` takes.
    """
    precision = choose_precision(precision, torch.device("cpu"))
    half = precision == "bf16" and pipe.device.type == "cpu"
    settings = {"y_b": y_b, "steps": steps, "scheduler": scheduler, "dilate": dilate, **options}

    def make() -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return {"removed": remove(pipe, images, m_pre, seed=seed, **settings)}

    return (store or Store()).get(
        "removal",
        make,
        params={**settings, "precision": precision},
        seed=seed,
        inputs=[model_fingerprint(pipe), tensor_fingerprint(images), tensor_fingerprint(m_pre)],
        code=[remove],
        device=pipe.device,
    )
