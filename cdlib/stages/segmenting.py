"""Segmenters in the store: what they are trained on, their weights and how training went.

    nets = trained_nets(made, synthetic)       # made: a Distillation; synthetic: its D'_s
    nets["d_s"][0].predict(images)             # of the first seed

Four training sets, from what the method knows to what it is compared with:

- "m_pre": the images of D with M_pre at their size,
- "d_s": the paper's D_s, the same images with M,
- "d_s_synthetic": D_s and after it D'_s, the kept synthetic images with their M and the composites,
- "supervised": the same images with true masks, the upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from cdlib.datasets import Dataset, Example, load_dataset
from cdlib.masks import upsample_mask
from cdlib.pieces import attended_pieces
from cdlib.precision import choose_precision
from cdlib.segmenter import Segmenter, choose_device, restore, segmenter_steps
from cdlib.stages.keys import tensor_fingerprint
from cdlib.stages.synthesis import synthetic_artifact
from cdlib.store import Artifact, Store

if TYPE_CHECKING:
    from cdlib.stages.chain import Distillation, Labels

TRAINING_SETS = ("m_pre", "d_s", "d_s_synthetic", "supervised")
LOGGED = 8  # states that a training yields: the log has as many rows
Pairs = tuple[torch.Tensor, torch.Tensor]  # images (N, 3, H, W), masks (N, H, W)
Sets = dict[str, Pairs]


def segmenter_artifact(
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    masks: torch.Tensor,  # (N, H, W) bool or in [0, 1]
    val_images: torch.Tensor | None = None,  # (K, 3, H, W)
    val_masks: torch.Tensor | None = None,  # (K, H, W), of the same making as masks
    *,
    width: int = 8,
    steps: int = 400,
    batch_size: int = 32,
    lr: float = 2e-3,
    average: float = 0.99,
    recolour: float = 1.0,
    precision: str = "auto",
    seed: int = 0,
    device: str | torch.device = "auto",
    store: Store | None = None,
) -> Artifact:
    """A network trained on pairs, see `segmenter_steps`; `load_trained` makes a segmenter of it.

    "net": its weights. "trained": what is known of the training. "log": a table of step, loss (a
    mean since the row before), val_iou (NaN without validation) and the seconds that training took
    so far. A run that is killed goes on where it was when it is asked for again.
    """
    val = None if val_images is None else (val_images, val_masks)
    settings = {"width": width, "steps": steps, "batch_size": batch_size, "lr": lr}
    settings |= {"precision": choose_precision(precision, choose_device(device)), "seed": seed}
    settings |= {"average": average, "recolour": recolour}

    def make(scratch: Path) -> dict[str, Any]:
        how = {"val": val, "every": max(1, steps // LOGGED), "device": device}
        checkpoint = scratch / "run.safetensors"
        for state in segmenter_steps(images, masks, checkpoint=checkpoint, **how, **settings):
            last = state
        net = last.segmenter()
        log = pd.DataFrame(last.log).astype({"val_iou": float})
        return {"net": net.state_dict(), "trained": net.trained, "log": log}

    return (store or Store()).get(
        "segmenter",
        make,
        params={**settings, "logged": LOGGED},
        seed=seed,
        inputs=[tensor_fingerprint(part) for part in (images, masks, *(val or ()))],
        code=[segmenter_steps],
        device=choose_device(device),
        resumable=True,
    )


def load_trained(artifact: Artifact) -> Segmenter:
    """The network of `segmenter_artifact`, ready to predict."""
    return restore(artifact["net"], artifact.manifest["params"]["width"], artifact["trained"])


def training_sets(made: Distillation, synthetic: Artifact | None = None) -> Sets:
    """Images and masks to train on, float32 in [0, 1], by name; see the head of this module.

    Without `synthetic`, as from `synthetic_artifact`, there is no "d_s_synthetic"; where nobody
    drew masks there is no "supervised".
    """
    sets = _by_masks(made.labels("train"))
    if synthetic is not None:
        sets["d_s_synthetic"] = _joined(sets["d_s"], *synthetic_pairs(synthetic))
    return {name: sets[name] for name in TRAINING_SETS if name in sets}


def validation_sets(made: Distillation) -> Sets:
    """What each training is watched on: the validation split with masks of the same making.

    With synthetic images it is the refined masks of real ones, those being what it is for.
    """
    sets = _by_masks(made.labels("val"))
    return {**sets, "d_s_synthetic": sets["d_s"]}


def synthetic_pairs(synthetic: Artifact) -> tuple[Pairs, Pairs]:
    """What D'_s consists of: kept images with their M, and composites with soft masks."""
    kept = torch.as_tensor(synthetic["kept"])
    drawn = synthetic["images"][kept], synthetic["m_refined"][kept].float()
    return drawn, (synthetic["composites"], synthetic["composite_masks"])


def folder_sets(folder: str | Path, concept: str, size: int = 64) -> tuple[Sets, Sets]:
    """The same of a folder of your own, as `load_dataset` reads it: its masks, called "given".

    Images without a mask are left out. To be watched on are the folder's val split or, without one,
    every tenth image, which is then not trained on. ValueError for fewer than two masks.
    """
    images = Path(folder) / "images"
    train = _drawn(load_dataset(folder, concept, "train", size=size))
    if (images / "train").is_dir() and (images / "val").is_dir():
        val = _drawn(load_dataset(folder, concept, "val", size=size))
    else:
        train, val = [one for k, one in enumerate(train) if k % 10], train[::10]
    if not train or not val:
        raise ValueError(
            f"folder={str(folder)!r}: has masks for {len(train)} images to train on and "
            f"{len(val)} to watch it on; there has to be one of each at least."
        )
    found = [Dataset(part, concept, name) for part, name in ((train, "train"), (val, "val"))]
    return tuple({"given": (data.images, data.masks.float())} for data in found)


def train_sets(
    p: SimpleNamespace,
    sets: Sets,
    watched: Sets,
    *,
    device: str | torch.device = "auto",
    store: Store | None = None,
) -> dict[str, list[Artifact]]:
    """Trainings on each of the sets as a chapter's parameters say, one for each of p.n_seeds seeds.

    Seeds are p.seed, p.seed + 1, ... watched: what is measured on the way, by the same names.
    """
    how = {"width": p.width, "steps": p.segmenter_steps, "batch_size": p.segmenter_batch}
    how |= {"lr": p.segmenter_rate, "average": p.segmenter_average, "precision": p.precision}
    how |= {"recolour": p.segmenter_recolour, "device": device, "store": store}
    seeds = range(p.seed, p.seed + p.n_seeds)
    return {
        name: [segmenter_artifact(*pairs, *watched[name], seed=seed, **how) for seed in seeds]
        for name, pairs in sets.items()
    }


def trained_artifacts(
    made: Distillation,
    synthetic: Artifact | None = None,
    names: Sequence[str] = TRAINING_SETS,
) -> dict[str, list[Artifact]]:
    """Trainings on those of the training sets of these names that there are, see `train_sets`."""
    sets = training_sets(made, synthetic)
    chosen = {name: sets[name] for name in names if name in sets}
    how = {"device": made.pipe.device, "store": made.store}
    return train_sets(made.p, chosen, validation_sets(made), **how)


def coloured_nets(made: Distillation) -> list[Segmenter]:
    """The networks on D_s and D'_s, p.n_synthetic images of each kind, outlines laid by colour.

    Everything else is as for "d_s_synthetic", on which see the head of this module; for outlines by
    colour, which the paper has not, see `cdlib.outlines.polish_mask`.
    """
    coloured = made.but(polish="grabcut")
    synthetic = synthetic_artifact(coloured, made.p.n_synthetic, **coloured.synthesis)
    return trained_nets(coloured, synthetic, ("d_s_synthetic",))["d_s_synthetic"]


def attended_nets(made: Distillation) -> list[Segmenter]:
    """The networks on D_s with outlines by colour and of each mask the pieces attended to.

    Everything else is as for "d_s"; the paper has neither. For outlines see
    `cdlib.outlines.polish_mask`, for pieces `cdlib.pieces.attended_pieces`.
    """
    labels = made.but(polish="grabcut").labels
    sets, watched = ({"attended": _attended(labels(split))} for split in ("train", "val"))
    (trained,) = train_sets(
        made.p, sets, watched, device=made.pipe.device, store=made.store
    ).values()  # fmt: skip
    return [load_trained(one).to(made.pipe.device) for one in trained]


def trained_nets(
    made: Distillation,
    synthetic: Artifact | None = None,
    names: Sequence[str] = TRAINING_SETS,
) -> dict[str, list[Segmenter]]:
    """The networks of `trained_artifacts`, ready to predict, on the model's device."""
    trained = trained_artifacts(made, synthetic, names)
    where = made.pipe.device
    return {name: [load_trained(one).to(where) for one in some] for name, some in trained.items()}


def _drawn(data: Dataset) -> list[Example]:
    """Those that somebody drew a mask for."""
    return [example for example in data if example.mask is not None]


def _attended(labels: Labels) -> Pairs:
    return labels.data.images, attended_pieces(labels.m_refined, labels.m_hat).float()


def _by_masks(labels: Labels) -> Sets:
    images = labels.data.images
    coarse = upsample_mask(labels.m_pre, tuple(images.shape[2:]))
    masks = {"m_pre": coarse, "d_s": labels.m_refined}
    if len(_drawn(labels.data)) == len(labels.data):
        masks["supervised"] = labels.data.masks
    return {name: (images, mask.float()) for name, mask in masks.items()}


def _joined(*pairs: Pairs) -> Pairs:
    return torch.cat([images for images, _ in pairs]), torch.cat([masks for _, masks in pairs])
