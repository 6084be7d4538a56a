"""What the mask explorer reads: attention maps by layer and timestep, masks, pictures.

A folder of four kinds of file, small enough for a page (two megabytes for a dozen images):

    index.json   words, layers, timesteps, images, the run's settings and its scores
    maps.bin     float16, little-endian: (images, words, layers, bins of timesteps, h, w)
    masks.bin    bits, the highest of a byte first: (images, stages, H, W)
    *.png        each image, its removal, and how they differ (grey, white at "peak")
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cdlib.attention import cross_attention_layers
from cdlib.attention.concept import least_noisy
from cdlib.checks import one_of, real_number, whole_number
from cdlib.datasets import Dataset
from cdlib.datasets.writing import folder_written_whole, write_png
from cdlib.explore.binning import binned_attention
from cdlib.masks import RULES, difference, upsample_mask
from cdlib.metrics import per_image_scores
from cdlib.models import image_seeds
from cdlib.store import Store

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

FORMAT = 1  # of the folder; the page's reader refuses others
BINS = 10  # of timesteps, at most: as many as a slider can tell apart
PICTURES = ("image", "removed", "difference")


def write_maps(
    folder: Path | str,
    pipe: StableDiffusionPipeline,
    data: Dataset,
    words: Mapping[str, str],
    *,
    m_pre: torch.Tensor,  # (N, h, w) bool
    removed: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    m_refined: torch.Tensor,  # (N, H, W) bool
    predicted: torch.Tensor | None = None,  # (N, H, W)
    which: Sequence[int] | None = None,
    m_prime: StableDiffusionPipeline | None = None,
    t0: int = 40,
    steps: int = 50,
    n: int = 1,
    rule: str = "gmm",
    percentile: float = 80.0,
    majority: bool = True,
    seed: int = 0,
    space: str = "rgb",
    bins: int = BINS,
    progress: bool = False,
    store: Store | None = None,
) -> dict:
    """Write a folder for the mask explorer, in place of one that is there; gives its index.

        made = Distillation(p)
        labels = made.labels("test")
        write_maps(
            folder, made.pipe, labels.data,
            {"bird": made.y_f, "photo": made.y_f, "background": made.y_b},
            m_pre=labels.m_pre, removed=labels.removed, m_refined=labels.m_refined,
            predicted=net.predict(labels.data.images), which=range(12), m_prime=made.m_prime,
            t0=p.t0, steps=p.steps, n=p.n_noise, rule=p.rule, seed=p.seed,
        )

    data: N images with masks; the truth is theirs.
    words: of each word a prompt that contains it, the concept's word first.
    m_pre, removed, m_refined, predicted: what the run's stages made of these images. A prediction
        is a mask or probabilities, cut at 0.5; None where there is no segmenter.
    which: the images to write, by their place in `data`; None is all of them.
    m_prime: the fine-tuned model; where given, the words' maps in it are written too.
    t0, steps, n, seed: as in `concept_attention`, and as the run had them: then the mean over all
        timesteps and layers is the run's M_hat, up to what float16 rounds.
    rule, percentile, majority: what the page starts with, as in `preliminary_mask`.
    space: of the difference, see `cdlib.masks.difference`.
    bins: timesteps are averaged in so many groups of neighbours, of equal size where they can be.

    Raises ValueError for stages that do not fit the images, and for what these functions refuse.
    """
    words = _check_words(words)
    masks = _stages(data, m_pre, m_refined, predicted)
    if removed.shape != data.images.shape:
        raise ValueError(
            f"removed: expected shape {tuple(data.images.shape)}, got {tuple(removed.shape)}."
        )
    rows = _check_rows(which, len(data))
    run = {
        "rule": one_of("rule", rule, RULES),
        "percentile": real_number("percentile", percentile, 0, 100),
        "majority": bool(majority),
        "seed": whole_number("seed", seed, 0),
    }
    groups = _check_groups(pipe, t0, steps, bins)
    images, removed = data.images[rows], removed[rows].to(data.images)
    masks = {stage: mask[rows] for stage, mask in masks.items()}
    changed = difference(images, removed, space)

    models = {"m": pipe} if m_prime is None else {"m": pipe, "m_prime": m_prime}
    asked = [(model, word) for model in models for word in words]
    seeds = [image_seeds(seed, len(data))[row] for row in rows]
    of_words = [
        binned_attention(
            models[model], images, words[word], word, groups, n, seeds, progress, store
        )
        for model, word in asked
    ]
    maps = torch.stack(of_words, dim=1).numpy()
    entries = _entries([data.names[row] for row in rows], masks, changed)
    index = {
        "format": FORMAT,
        "concept": data.concept,
        "grid": list(maps.shape[-2:]),
        "size": list(images.shape[2:]),
        "words": [{"word": word, "prompt": words[word], "model": model} for model, word in asked],
        "layers": list(cross_attention_layers(pipe)),
        "bins": [{"first": group[0], "last": group[-1], "count": len(group)} for group in groups],
        "run": run,
        "stages": list(masks),
        "images": entries,
    }
    with folder_written_whole(folder, replace=True) as aside:
        (aside / "maps.bin").write_bytes(maps.astype("<f2").tobytes())
        stacked = torch.stack(list(masks.values()), dim=1)
        (aside / "masks.bin").write_bytes(np.packbits(stacked.numpy()).tobytes())
        for entry, *pictures in zip(entries, images, removed, changed, strict=True):
            pictures[2] = pictures[2] / (entry["peak"] or 1.0)
            for name, picture in zip(PICTURES, pictures, strict=True):
                write_png(aside / entry[name], picture.clamp(0, 1))
        (aside / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    return index


def _entries(
    names: Sequence[str], masks: Mapping[str, torch.Tensor], changed: torch.Tensor
) -> list[dict]:
    """What the index says of each image: its files, its scores, the largest difference."""
    scores = {
        stage: per_image_scores(mask, masks["truth"])["iou"].tolist()
        for stage, mask in masks.items()
        if stage != "truth"
    }
    return [
        {
            "name": name,
            **{picture: f"{k:02d}_{picture}.png" for picture in PICTURES},
            "peak": float(changed[k].max()),
            "iou": {stage: iou[k] for stage, iou in scores.items()},
        }
        for k, name in enumerate(names)
    ]


def _check_groups(pipe: StableDiffusionPipeline, t0: int, steps: int, bins: int) -> list[list[int]]:
    timesteps = least_noisy(pipe, t0, steps)
    count = min(whole_number("bins", bins, 1, 100), len(timesteps))
    return [group.tolist() for group in np.array_split(timesteps, count)]


def _check_words(words: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(words, Mapping) or not words:
        raise ValueError(f"words={words!r}: must give each word's prompt, one word at least.")
    return dict(words)


def _check_rows(which: Sequence[int] | None, n: int) -> list[int]:
    rows = [whole_number("which", k, 0, n - 1) for k in (range(n) if which is None else which)]
    if not rows:
        raise ValueError("which: must name at least one image.")
    return rows


def _stages(
    data: Dataset,
    m_pre: torch.Tensor,
    m_refined: torch.Tensor,
    predicted: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """The masks (N, H, W) by the names that the page knows, in the order of the method."""
    size = tuple(data.masks.shape[1:])
    masks = {"m_pre": upsample_mask(m_pre.cpu(), size), "m_refined": m_refined.cpu()}
    if predicted is not None:
        predicted = predicted.cpu()
        masks["predicted"] = predicted if predicted.dtype == torch.bool else predicted >= 0.5
    masks["truth"] = data.masks
    for name, mask in masks.items():
        if mask.dtype != torch.bool or mask.shape != data.masks.shape:
            raise ValueError(
                f"{name}: expected masks for {len(data)} images of {size[0]}x{size[1]} pixels, "
                f"got {mask.dtype} of shape {tuple(mask.shape)}."
            )
    return masks
