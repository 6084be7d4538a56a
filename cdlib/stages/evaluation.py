"""How good is a removal, and how good are the masks: everything that the truth can tell.

    made = evaluation_artifact(data, {"m": removed_by_m, "m_prime": removed}, m_pre)
    removal_estimates(made)["m_prime"]["psnr"]      # an Estimate, with its interval
    mask_estimates(made)["m_refined"]["iou"]

What cannot be known is absent, never zero: without clean plates there is nothing to compare a
removal with, without masks no region in which to do so, and the judge knows the pocket world alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from cdlib.baselines import CV2_METHODS, crop_baseline, cv2_inpaint
from cdlib.checks import whole_number
from cdlib.masks import dilate_mask, upsample_mask
from cdlib.metrics import (
    Estimate,
    boundary_f,
    mean_estimate,
    per_image_scores,
    pooled_estimates,
    psnr,
    ssim,
)
from cdlib.outlines import sharpen
from cdlib.stages.judge import concept_index, judge_fingerprint, seen_odds
from cdlib.stages.keys import tensor_fingerprint
from cdlib.store import Artifact, Store
from cdlib.world import CONCEPTS

if TYPE_CHECKING:
    from cdlib.datasets import Dataset

SEEN = 0.5  # as likely as this, the judge is said to see an object
SCORES = ("acc", "iou", "miou", "boundary_f")


def evaluation_artifact(
    data: Dataset,
    removed: Mapping[str, torch.Tensor],  # (N, 3, H, W) in [0, 1] each
    m_pre: torch.Tensor,  # (N, h, w) bool
    *,
    dilate: int = 0,
    space: str = "rgb",
    rule: str = "gmm",
    polish: str = "none",
    seed: int = 0,
    store: Store | None = None,
) -> Artifact:
    """Baselines, refined masks and their scores for images with the object removed.

    removed: by whom to what; "m_prime" makes the mask "m_refined", another name x "m_refined_x".
    dilate: cells by which M_pre was widened for the removal, so also for the baselines and masks.
    space, rule, polish: what the difference is taken in, how it is cut and what becomes of the
        outline, see `sharpen`; the same for the baselines' masks.

    Entries:
    - "pictures": "m_crop" and "cv2_telea", "cv2_ns", what the baselines paint; (N, 3, H, W) each.
    - "masks": "m_pre" and "m_crop", and the refined ones; bool (N, H, W) each.
    - "removals", with masks and plates alone: a row for every image and picture of it (`removed`'s,
      the baselines', "untouched", "plate"): psnr in dB and ssim inside the object against the clean
      plate, and seen, how likely the judge holds the concept to be there; NaN if it is none of its.
    - "mask_images", with masks alone: a row for every image and mask: acc, iou, miou, boundary_f.
    - "mask_scores", with masks alone: a row for every mask and score: value, low, high, n; pooled
      over pixels, boundary_f a mean over images.
    """
    whole_number("dilate", dilate, 0)
    for name, pictures in removed.items():
        if pictures.shape != data.images.shape:
            raise ValueError(
                f"removed[{name!r}]: must be {tuple(data.images.shape)} as the images, "
                f"not {tuple(pictures.shape)}."
            )
    known = {field: _known(data, field) for field in ("mask", "plate")}
    judged = all(known.values()) and data.concept in CONCEPTS
    tensors = [m_pre, data.images, data.valid, *removed.values()]
    tensors += [getattr(data, f"{field}s") for field, there in known.items() if there]
    how = {"dilate": dilate, "space": space, "rule": rule, "polish": polish}

    def make() -> dict:
        made = {"pictures": _baselines(data.images, m_pre, dilate)}
        made["masks"] = _masks(data, removed, made["pictures"], m_pre, seed=seed, **how)
        if known["mask"]:
            made["mask_images"] = _mask_images(data, made["masks"])
            made["mask_scores"] = _mask_scores(data, made["masks"], made["mask_images"], seed)
        if all(known.values()):
            pictures = {"untouched": data.images, **removed, **made["pictures"]}
            made["removals"] = _removals(data, pictures, judged)
        return made

    return (store or Store()).get(
        "evaluation",
        make,
        params={"removed": list(removed), "concept": data.concept, **how},
        seed=seed,
        inputs=[*map(tensor_fingerprint, tensors), *([judge_fingerprint()] if judged else [])],
        code=[evaluation_artifact],
    )


def mask_estimates(evaluation: Artifact) -> dict[str, dict[str, Estimate]]:
    """Mask to score to estimate; nothing if the true masks are not known."""
    if "mask_scores" not in evaluation:
        return {}
    found: dict[str, dict[str, Estimate]] = {}
    for row in evaluation["mask_scores"].itertuples():
        estimate = Estimate(row.value, (row.low, row.high), int(row.n))
        found.setdefault(row.mask, {})[row.score] = estimate
    return found


def removal_estimates(evaluation: Artifact, seed: int = 0) -> dict[str, dict[str, Estimate]]:
    """Picture to "psnr", "ssim" and "leakage" to estimate; nothing without masks and plates.

    psnr and ssim are means over the images in which the object is to be seen. leakage is the share
    of images in which the judge still sees the concept, for "untouched" and "plate" what it sees
    with the object there and without. "cv2" is the better of OpenCV's two algorithms by PSNR;
    `better_cv2` names it.
    """
    if "removals" not in evaluation:
        return {}
    found = {}
    for name, rows in evaluation["removals"].groupby("picture", sort=False):
        scores = {score: rows[score].to_numpy() for score in ("psnr", "ssim")}
        seen = rows["seen"].to_numpy()
        scores["leakage"] = np.where(np.isnan(seen), np.nan, seen >= SEEN)
        found[name] = {
            score: mean_estimate(values, seed=seed)
            for score, values in scores.items()
            if not np.isnan(values).all()
        }
    found["cv2"] = found[better_cv2(evaluation)]
    return found


def better_cv2(evaluation: Artifact) -> str:
    """Which of OpenCV's algorithms came closer to the clean plates: "cv2_telea" or "cv2_ns"."""
    rows = evaluation["removals"]
    mean = rows[rows["picture"].str.startswith("cv2_")].groupby("picture")["psnr"].mean()
    return str(mean.idxmax())


def _known(data: Dataset, field: str) -> bool:
    return all(getattr(example, field) is not None for example in data)


def _baselines(images: torch.Tensor, m_pre: torch.Tensor, dilate: int) -> dict[str, torch.Tensor]:
    hole = dilate_mask(m_pre, dilate)
    pixels = upsample_mask(hole, tuple(images.shape[2:]))
    painted = {f"cv2_{way}": cv2_inpaint(images, pixels, method=way) for way in CV2_METHODS}
    return {"m_crop": crop_baseline(images, hole), **painted}


def _masks(
    data: Dataset, removed: Mapping, pictures: Mapping, m_pre: torch.Tensor, **how
) -> dict[str, torch.Tensor]:
    how["valid"] = data.valid
    masks = {"m_pre": upsample_mask(m_pre, tuple(data.images.shape[2:]))}
    masks["m_crop"] = sharpen(data.images, pictures["m_crop"], m_pre, **how)
    for name, painted in removed.items():
        called = "m_refined" if name == "m_prime" else f"m_refined_{name}"
        masks[called] = sharpen(data.images, painted, m_pre, **how)
    return masks


def _mask_images(data: Dataset, masks: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    parts = []
    for name, mask in masks.items():
        scores = per_image_scores(mask, data.masks)
        scores["boundary_f"] = boundary_f(mask, data.masks)
        parts.append(pd.DataFrame({"image": data.names, "mask": name, **scores}))
    return pd.concat(parts, ignore_index=True)


def _mask_scores(
    data: Dataset, masks: Mapping[str, torch.Tensor], by_image: pd.DataFrame, seed: int
) -> pd.DataFrame:
    rows = []
    for name, mask in masks.items():
        found = pooled_estimates(mask, data.masks, seed=seed)
        along = by_image.loc[by_image["mask"] == name, "boundary_f"].to_numpy()
        found["boundary_f"] = mean_estimate(along, seed=seed)
        rows += [(name, score, e.value, *e.ci95, e.n) for score, e in found.items()]
    return pd.DataFrame(rows, columns=["mask", "score", "value", "low", "high", "n"])


def _removals(data: Dataset, pictures: Mapping[str, torch.Tensor], judged: bool) -> pd.DataFrame:
    parts = []
    for name, painted in {**pictures, "plate": data.plates}.items():
        compared = name != "plate"  # a plate equals itself
        nothing = np.full(len(data), np.nan)
        scores = {
            "psnr": psnr(painted, data.plates, data.masks) if compared else nothing,
            "ssim": ssim(painted, data.plates, data.masks) if compared else nothing,
            "seen": seen_odds(painted)[:, concept_index(data.concept)] if judged else nothing,
        }
        parts.append(pd.DataFrame({"image": data.names, "picture": name, **scores}))
    return pd.concat(parts, ignore_index=True)
