"""What a network makes of images, as rows of numbers: what FID and its kin compare.

The pocket world has its own, from the judge that is shipped: "pocket FID" is FID of these. They are
made for its everyday scenes, at 64x64, and are no measure of photographs; nor do their numbers
compare with those of Inception, in which the paper's FID is given.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from cdlib.checks import whole_number
from cdlib.pocket.classifier import features
from cdlib.stages.judge import shipped_judge

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_FROM = "https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0"


def pocket_features(images: torch.Tensor, batch_size: int = 128) -> np.ndarray:
    """(N, 128) float32 from the pocket world's judge: what it sees before it names objects.

    images: (N, 3, H, W) in [0, 1], of any size; the judge sees them at 64x64.
    """
    images = _checked(images).float().cpu()
    return features(shipped_judge(), images, whole_number("batch_size", batch_size, 1)).numpy()


@torch.inference_mode()
def inception_features(
    images: torch.Tensor, weights: Path | str | None = None, batch_size: int = 32
) -> np.ndarray:
    """(N, 2048) float32 from the Inception network of published FIDs, by torch-fidelity.

    Nothing is fetched: without torch-fidelity, or without the file, this is a ValueError that says
    what is missing. images: (N, 3, H, W) in [0, 1]. weights: torch-fidelity's file; by default
    where it keeps it, among torch hub's checkpoints.
    """
    batches = _checked(images).split(whole_number("batch_size", batch_size, 1))
    weights = Path(weights or Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE)
    if not weights.is_file():
        raise ValueError(
            f"weights={str(weights)!r}: is not there. {INCEPTION_FILE} comes from "
            f"{INCEPTION_FROM}; without it use pocket_features."
        )
    if find_spec("torch_fidelity") is None:
        raise ValueError("inception_features: needs torch-fidelity (pip install torch-fidelity).")
    from torchmetrics.image.fid import NoTrainInceptionV3

    net = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights)).to(images.device)
    made = [net((part.float() * 255).round().byte()) for part in batches]
    return torch.cat(made).float().cpu().numpy()


def _checked(images: torch.Tensor) -> torch.Tensor:
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"images: must be (N, 3, H, W) with N > 0, not {tuple(images.shape)}.")
    return images
