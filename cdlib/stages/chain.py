"""The method from end to end: what each chapter needs of those before it, made when asked for.

    made = Distillation(p)              # p: a chapter's checked parameters
    made.labels("train").m_refined      # the masks D_s is made of
    made.m_prime                        # the fine-tuned model

With the same parameters every chapter finds in the store what another has made.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Self

import torch

from cdlib.checks import one_of
from cdlib.datasets import Dataset, load_dataset
from cdlib.masks import preliminary_mask
from cdlib.models import load_model
from cdlib.outlines import sharpen
from cdlib.stages.attention import m_hat_artifact
from cdlib.stages.finetuning import load_m_prime, m_prime_artifact
from cdlib.stages.keys import native_size
from cdlib.stages.removal import removal_artifact
from cdlib.store import Artifact, Store

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

LIMITS = {"train": "n_train", "val": "n_val", "test": "n_images"}


@dataclass(frozen=True)
class Labels:
    """Images and what the method says of them, stage by stage.

    data: N examples. m_hat: (N, h, w) float32. m_pre: (N, h, w) bool. removed: (N, 3, H, W) in
    [0, 1], by m'. m_refined: (N, H, W) bool.
    """

    data: Dataset
    m_hat: torch.Tensor
    m_pre: torch.Tensor
    removed: torch.Tensor
    m_refined: torch.Tensor


class Distillation:
    """Model, prompts, m' and labels that belong to a chapter's parameters.

    p: as from `check_parameters`, of a chapter with the parameters of masks, fine-tuning and
        removal; `n_train`, `n_val` and `n_images` say how many images a split has.
    concept, y_f, y_b, word: other than those that follow from p.concept, as in the medical case.
    source: of the images, see `load_dataset`.
    """

    def __init__(
        self,
        p: SimpleNamespace,
        *,
        concept: str | None = None,
        y_f: str | None = None,
        y_b: str = "a photo of a background",
        word: str | Sequence[str] | None = None,
        source: str = "pocket",
        store: Store | None = None,
    ) -> None:
        self.p, self.source, self.store = p, source, store
        self.concept = concept or p.concept
        self.y_f, self.y_b = y_f or f"a photo of a {self.concept}", y_b
        self.word = word or self.concept
        self._labels: dict[str, Labels] = {}

    def but(self, **other: object) -> Self:
        """The same with other parameters, e.g. dilate=0; the model m in memory is shared."""
        found = copy.copy(self)
        found.p = SimpleNamespace(**{**vars(self.p), **other})
        found._labels = {}
        for made_by_parameters in ("trained", "m_prime"):
            found.__dict__.pop(made_by_parameters, None)
        return found

    @cached_property
    def pipe(self) -> StableDiffusionPipeline:
        """m, the model as it is."""
        return load_model(self.p.model, device=self.p.device)

    @cached_property
    def trained(self) -> Artifact:
        """What `m_prime_artifact` made: weights, log, samples."""
        p = self.p
        data, _, m_pre = self.coarse("train")
        return m_prime_artifact(
            self.pipe, data.images, m_pre, y_f=self.y_f, y_b=self.y_b,
            p=p.p_foreground, steps=p.finetune_steps, batch_size=p.batch_size,
            lr=p.learning_rate, rectangles=p.rectangles, noise=p.noise,
            normalise=p.mean_over == "region", lora_rank=p.lora_rank or None,
            precision=p.precision, seed=p.seed, store=self.store,
        )  # fmt: skip

    @cached_property
    def m_prime(self) -> StableDiffusionPipeline:
        """m', the model that knows what background is."""
        return load_m_prime(self.pipe, self.trained)

    def data(self, split: str) -> Dataset:
        """The images of a split, as many as its parameter says."""
        limit = getattr(self.p, LIMITS[one_of("split", split, LIMITS)])
        how = {"limit": limit, "size": native_size(self.pipe), "difficulty": self.p.difficulty}
        return load_dataset(self.source, self.concept, split, **how)

    def coarse(self, split: str) -> tuple[Dataset, torch.Tensor, torch.Tensor]:
        """The images of a split, their M_hat and their M_pre."""
        data = self.data(split)
        m_hat = self.attention(data.images)
        return data, m_hat, preliminary_mask(m_hat, self.p.rule, seed=self.p.seed)

    def labels(self, split: str) -> Labels:
        """The images of a split with all that the method says of them."""
        if split not in self._labels:
            data, m_hat, m_pre = self.coarse(split)
            removed, m_refined = self.sharpen(data.images, m_pre)
            self._labels[split] = Labels(data, m_hat, m_pre, removed, m_refined)
        return self._labels[split]

    def attention(self, images: torch.Tensor) -> torch.Tensor:
        """M_hat, (N, h, w), of any images (N, 3, H, W) in [0, 1]."""
        p = self.p
        return m_hat_artifact(
            self.pipe, images, prompt=self.y_f, word=self.word, t0=p.t0, steps=p.steps,
            n=p.n_noise, seed=p.seed, store=self.store,
        )["m_hat"]  # fmt: skip

    def sharpen(
        self, images: torch.Tensor, m_pre: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Any images without what M_pre covers, and the refined masks that follow."""
        removed = self.remove(self.m_prime, images, m_pre)
        return removed, sharpen(images, removed, m_pre, **self.refinement)

    def remove(
        self, model: StableDiffusionPipeline, images: torch.Tensor, m_pre: torch.Tensor
    ) -> torch.Tensor:
        """Any images without what M_pre covers, painted by m or m'."""
        made = removal_artifact(
            model, images, m_pre, self.y_b, **self.removal, precision=self.p.precision,
            seed=self.p.seed, store=self.store,
        )  # fmt: skip
        return made["removed"]

    @property
    def refinement(self) -> dict:
        """How a removal makes masks sharper, in the words of `cdlib.outlines.sharpen`."""
        p = self.p
        return {"dilate": p.dilate, "space": p.space, "polish": p.polish, "seed": p.seed}

    @property
    def removal(self) -> dict:
        """How objects are removed, in the words of `cdlib.remove`."""
        p = self.p
        # The code's scale pushes from y_f to y_b, the paper's s from y_b to y_f.
        away = {} if p.removal_scale == 1 else {"guidance": 1 - p.removal_scale, "y_f": self.y_f}
        # What was fine-tuned with noise in the rectangle alone knows clean surroundings.
        around = {"whole": "noised", "rectangle": "clean"}[p.noise]
        return {"steps": p.removal_steps, "scheduler": p.scheduler, "dilate": p.dilate,
                "surroundings": around, "resample": p.resample, **away}  # fmt: skip

    @property
    def synthesis(self) -> dict:
        """How D' and D'_b are made and filtered, in the words of `synthetic_artifact`."""
        p = self.p
        # as for removal: a push of 2 for backgrounds is the paper's s = -1
        scales = {"s": p.synthetic_scale, "s_background": 1 - p.background_scale}
        return {"feather": p.feather, "least_area": p.least_area, "most_area": p.most_area} | scales
