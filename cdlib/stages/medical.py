"""The radiograph domain: which word carries a finding, how a chest is divided, what removal leaves.

    words = word_scores(pipe, val, finding_prompts("mass"))   # on the validation split
    made = Radiographs(p, y_f=..., word=..., components=3)    # the method, for radiographs
    auc = chest_auc(made.labels("test").m_hat, data.masks)    # as on MS-CXR

Drawn pictures: nothing that is measured on them says anything about patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from cdlib.attention import token_attention
from cdlib.checks import one_of, whole_number
from cdlib.masks import mixture_mask, upsample_mask
from cdlib.metrics import (
    Estimate,
    mean_estimate,
    normalise_maps,
    per_image_auc,
)
from cdlib.models import prompt_tokens, token_positions
from cdlib.outlines import sharpen
from cdlib.stages.chain import Distillation
from cdlib.stages.keys import model_fingerprint, tensor_fingerprint
from cdlib.store import Artifact, Store

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from cdlib.datasets import Dataset

REPORT = "final report examination"  # how the paper's prompts for radiographs begin
NO_FINDING = f"{REPORT} no finding"  # y_b: a chest without what is looked for
REGIONS = ("outside", "body", "lungs", "finding")
OUTSIDE, LUNGS = 1, 2  # seeds of the flooding that tells them apart


class Radiographs(Distillation):
    """The method on radiographs of p.finding, with M_pre from a mixture of `components` modes.

    y_f and word say where M_hat comes from, y_b is the prompt of a chest without finding. majority:
    whether M_pre passes the 3x3 filter. With two components and the filter M_pre is the book's
    own, by p.rule. painter: who removes findings, "m_prime" or, since m knows this y_b, "m".
    """

    def __init__(
        self,
        p: SimpleNamespace,
        *,
        y_f: str,
        word: str | Sequence[str],
        components: int = 2,
        majority: bool = True,
        painter: str = "m_prime",
        store: Store | None = None,
    ) -> None:
        super().__init__(p, concept=p.finding, y_f=y_f, y_b=NO_FINDING, word=word, store=store)
        self.components = whole_number("components", components, 2, 8)
        self.majority = majority
        self.painter = one_of("painter", painter, ("m", "m_prime"))

    def coarse(self, split: str) -> tuple[Dataset, torch.Tensor, torch.Tensor]:
        """The images of a split, their M_hat and their M_pre."""
        data, m_hat, m_pre = super().coarse(split)
        if (self.components, self.majority) != (2, True):
            how = {"majority": self.majority, "seed": self.p.seed}
            m_pre = mixture_mask(m_hat, self.components, **how)
        return data, m_hat, m_pre

    def sharpen(
        self, images: torch.Tensor, m_pre: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Any images without what M_pre covers, and the refined masks that follow."""
        removed = self.remove(self.pipe if self.painter == "m" else self.m_prime, images, m_pre)
        return removed, sharpen(images, removed, m_pre, **self.refinement)


# ------------------------------------------------------------------- choices, on the val split


def finding_prompts(finding: str) -> tuple[str, ...]:
    """Prompts that may carry a finding: the paper's, and the one that the book's objects have."""
    return f"{REPORT} chest {finding}", f"a photo of a {finding}"


def word_maps_artifact(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    prompt: str,
    *,
    t0: int = 40,
    steps: int = 50,
    n: int = 1,
    seed: int = 0,
    store: Store | None = None,
) -> Artifact:
    """M_hat of every token of a prompt, see `token_attention`: "maps" (N, tokens, h, w)."""
    settings = {"prompt": prompt, "t0": t0, "steps": steps, "n": n}
    return (store or Store()).get(
        "word_maps",
        lambda: {"maps": token_attention(pipe, images, **settings, seed=seed)},
        params=settings,
        seed=seed,
        inputs=[model_fingerprint(pipe), tensor_fingerprint(images)],
        code=[token_attention],
        device=pipe.device,
    )


def word_scores(
    pipe: StableDiffusionPipeline,
    data: Dataset,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    **how: object,
) -> pd.DataFrame:
    """How well each word of each prompt finds the masks of `data`, the best first.

    A row a word: prompt, word, auc (mean over images, see `chest_auc`) and its low and high, and
    share, the mean of its map. A model that cuts a word to pieces has their maps added up, and a
    word that a prompt says twice both its places'. Start and end mark are no words. how: what else
    `word_maps_artifact` takes.
    """
    rows = []
    for prompt in prompts:
        maps = word_maps_artifact(pipe, data.images, prompt, seed=seed, **how)["maps"]
        for word, at in _places_of(pipe, prompt).items():
            m_hat = maps[:, at].sum(1)
            auc = chest_auc(m_hat, data.masks, seed=seed)
            rows.append((prompt, word, auc.value, *auc.ci95, float(m_hat.mean())))
    table = pd.DataFrame(rows, columns=["prompt", "word", "auc", "low", "high", "share"])
    return table.sort_values("auc", ascending=False, kind="stable", ignore_index=True)


def _places_of(pipe: StableDiffusionPipeline, prompt: str) -> dict[str, list[int]]:
    """Each word of a prompt and the positions of its pieces among the prompt's tokens."""
    last = len(prompt_tokens(pipe, prompt)) - 1  # the end mark; what lies beyond was cut off
    places = {word: token_positions(pipe, prompt, word) for word in dict.fromkeys(prompt.split())}
    return {word: at for word, at in places.items() if max(at) < last}


def cut_masks(
    m_hat: torch.Tensor,  # (N, h, w)
    size: tuple[int, int],
    components: Sequence[int] = (2, 3),
    seed: int = 0,
) -> dict[tuple[int, bool], torch.Tensor]:
    """M_pre at the image's size (H, W), by number of modes and whether it was filtered."""
    return {
        (k, majority): upsample_mask(mixture_mask(m_hat, k, majority=majority, seed=seed), size)
        for k in components
        for majority in (True, False)
    }


# ---------------------------------------------------------------------------- AUC as on MS-CXR


def box_masks(data: Dataset) -> torch.Tensor:
    """The union of each example's boxes as a mask, bool (N, H, W): truth as MS-CXR has it.

    ValueError if an example has no boxes.
    """
    found = torch.zeros(len(data), *data.images.shape[2:], dtype=torch.bool)
    for mask, example in zip(found, data, strict=True):
        if not example.boxes:
            raise ValueError(f"{data!r}: {example.name} has no boxes.")
        for x0, y0, x1, y1 in example.boxes:
            mask[y0:y1, x0:x1] = True
    return found


def bring_to_size(m_hat: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(N, h, w) to (N, H, W), each map in 0..1, bilinear, as in the AUC on MS-CXR (6.4)."""
    maps = torch.from_numpy(normalise_maps(m_hat))[:, None]
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)[:, 0]


def chest_auc(m_hat: torch.Tensor, truth: torch.Tensor, seed: int = 0) -> Estimate:
    """Pixel AUC as on MS-CXR (6.4): each image's own, and the mean of them.

    m_hat: (N, h, w), brought to 0..1 map by map and to the image's size by bilinear interpolation.
    truth: bool (N, H, W), of masks or of the union of boxes.
    """
    return mean_estimate(image_aucs(m_hat, truth), seed=seed)


def image_aucs(m_hat: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """The same, one value an image, (N,); NaN where an image is all finding or has none."""
    return per_image_auc(bring_to_size(m_hat, tuple(truth.shape[1:])), truth)


# ----------------------------------------------------------------- what a radiograph is made of


def chest_regions(plates: ArrayLike, findings: ArrayLike) -> dict[str, np.ndarray]:
    """Which pixels are outside the body, body, lungs and finding: bool (N, H, W) by region.

    Told from the clean plate: what lies above Otsu's threshold is body. The rest is flooded from
    the dark of the picture's edge, which is outside, and from that of its middle, which is lungs;
    where the two meet, as they can at a shoulder, the brightest line between them parts them. The
    finding is taken out of the region that it lies in.

    plates: (N, 3, H, W) in [0, 1]. findings: bool (N, H, W).
    """
    grey, findings = np.asarray(plates).mean(1), np.asarray(findings, dtype=bool)
    if grey.shape != findings.shape:
        raise ValueError(f"findings: shape {findings.shape} differs from the plates' {grey.shape}")
    parts = np.stack([_divide(one) for one in grey], axis=1)  # (3, N, H, W)
    rest = {name: part & ~findings for name, part in zip(REGIONS[:3], parts, strict=True)}
    return {**rest, "finding": findings}


def _divide(grey: np.ndarray) -> np.ndarray:
    """One (H, W) picture into outside, body, lungs: bool (3, H, W)."""
    smooth = ndimage.gaussian_filter(grey, grey.shape[0] / 64)
    dark = smooth <= threshold_otsu(smooth)
    seeds = np.zeros(grey.shape, dtype=int)
    h, w = grey.shape
    seeds[int(0.30 * h) : int(0.60 * h), int(0.15 * w) : int(0.85 * w)] = LUNGS
    seeds[[0, -1]] = seeds[:, [0, -1]] = OUTSIDE
    parts = watershed(smooth, seeds * dark, mask=dark)
    return np.stack([parts == OUTSIDE, parts == 0, parts == LUNGS])


# ----------------------------------------------------------------------- what a removal leaves


def finding_left(
    images: ArrayLike, removed: ArrayLike, plates: ArrayLike, masks: ArrayLike
) -> np.ndarray:
    """How much of each finding a removal has left, (N,); NaN where there is none to see.

    What the finding adds to the plate is a pattern; this is the factor by which that pattern is
    still there inside the mask (least squares): 1 with the finding untouched, 0 with it gone, below
    0 where it was painted darker than the plate. images, removed, plates: (N, 3, H, W) in [0, 1].
    masks: bool (N, H, W).
    """
    x, y, base = (np.asarray(a, dtype=np.float64).mean(1) for a in (images, removed, plates))
    inside = np.asarray(masks, dtype=bool)
    pattern = (x - base) * inside
    power = (pattern**2).sum((1, 2))
    left = ((y - base) * pattern).sum((1, 2))
    return np.divide(left, power, out=np.full(len(left), np.nan), where=power > 0)
