"""What the live explorers compute: maps to choose from, masks, removals and drawings, no widgets.

All of it is the library's own; here it is counted while it runs, so that it can be shown and
stopped, and kept in the parts that a reader then chooses from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from cdlib.attention import capture_attention, concept_attention, cross_attention_layers
from cdlib.checks import one_of, real_number, whole_number
from cdlib.inpaint import removal_steps
from cdlib.inpaint.denoising import check_steps, concept_prompts, denoise
from cdlib.inpaint.synthesis import latent_size
from cdlib.masks import Thresholds, difference, preliminary_mask, refine, thresholds, upsample_mask
from cdlib.metrics import confusion, pooled_scores
from cdlib.models import image_seeds, token_positions

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from cdlib.datasets import Dataset

Tick = Callable[[int, int], None]  # how much is done, of how much; it may raise to end the work
Show = Callable[[torch.Tensor], None]  # is given the (3, H, W) picture so far


def _silent(*_: object) -> None:
    """The tick and the show of those who want neither."""


@dataclass(frozen=True)
class Picture:
    """image: (3, H, W) in [0, 1]. truth, valid: (H, W) bool, None where not known or all valid.

    seed: its own, as in a run of `cdlib.concept_attention` or `cdlib.remove` over all of its set.
    """

    image: torch.Tensor
    truth: torch.Tensor | None = None
    valid: torch.Tensor | None = None
    seed: int = 0


@dataclass(frozen=True)
class ConceptMaps:
    """Attention to a word in one image: `maps` (L, T, h, w), `layers` by name, timesteps rising."""

    maps: torch.Tensor = field(repr=False)
    layers: tuple[str, ...]

    def m_hat(self, layers: Sequence[str], t0: int) -> torch.Tensor:
        """(h, w): the mean over the layers named and the t0 least noisy timesteps."""
        if not layers:
            raise ValueError(f"layers: choose at least one of {', '.join(self.layers)}.")
        rows = [self.layers.index(one_of("layers", name, self.layers)) for name in layers]
        return self.maps[rows, : whole_number("t0", t0, 1, self.maps.shape[1])].mean((0, 1))


@dataclass(frozen=True)
class Masked:
    """M_hat and M_pre (h, w), where the one was cut for the other, M_pre in pixels, and scores."""

    m_hat: torch.Tensor
    cut: Thresholds
    m_pre: torch.Tensor
    mask: torch.Tensor  # (H, W) bool
    scores: dict[str, float] | None


@dataclass(frozen=True)
class Removal:
    """removed: (3, H, W). difference, m_refined: (H, W), float and bool. m_pre: what was removed,
    (h, w) before it was enlarged. scores: those of m_refined."""

    m_pre: torch.Tensor
    removed: torch.Tensor
    difference: torch.Tensor
    m_refined: torch.Tensor
    scores: dict[str, float] | None


@dataclass(frozen=True)
class Drawing:
    """image: (3, H, W) in [0, 1]. maps: word of the prompt to (h, w), where the model put it."""

    prompt: str
    seed: int
    steps: int
    guidance: float
    image: torch.Tensor = field(repr=False)
    maps: dict[str, torch.Tensor] = field(repr=False)


def pick(data: Dataset | torch.Tensor, index: int, seed: int = 0) -> Picture:
    """Image `index` of a dataset, or of a tensor (N, 3, H, W) of which nothing else is known."""
    one = data[whole_number("image", index, 0, len(data) - 1)]
    own = image_seeds(seed, len(data))[index]
    if isinstance(one, torch.Tensor):
        return Picture(one, seed=own)
    return Picture(one.image, one.mask, one.valid, own)


@contextmanager
def counted_passes(pipe: StableDiffusionPipeline, tick: Tick, total: int) -> Iterator[None]:
    """Call tick(done, total) before every pass of the U-Net; what it raises ends the work there."""
    done = count()
    handle = pipe.unet.register_forward_pre_hook(lambda *_: tick(next(done), total))
    try:
        yield
    finally:
        handle.remove()


def concept_maps(
    pipe: StableDiffusionPipeline,
    picture: Picture,
    prompt: str,
    word: str,
    *,
    steps: int = 50,
    n: int = 1,
    tick: Tick = _silent,
) -> ConceptMaps:
    """Attention to `word` at all of `steps` timesteps and in all layers, a pass for each timestep.

    Whatever t0 and layers are chosen later, the model need not run again. ValueError as in
    `cdlib.concept_attention`, and for maps that are not finite.
    """
    steps, n = check_steps(pipe, steps), whole_number("n", n, 1)
    with counted_passes(pipe, tick, steps):
        maps = concept_attention(
            pipe, picture.image[None], prompt, word, t0=steps, steps=steps, n=n,
            keep=("layers", "timesteps"), seed=[picture.seed], batch_size=n,
        )[0]  # fmt: skip
    if not maps.isfinite().all():
        raise ValueError("attention: the model's maps have values that are NaN or infinite.")
    return ConceptMaps(maps, tuple(cross_attention_layers(pipe)))


def mask_from(
    maps: ConceptMaps,
    picture: Picture,
    *,
    layers: Sequence[str],
    t0: int,
    rule: str = "gmm",
    percentile: float = 80.0,
    majority: bool = True,
) -> Masked:
    """What becomes of the maps under these choices; no model runs."""
    m_hat = maps.m_hat(layers, t0)
    valid = _valid_cells(picture, m_hat.shape)
    cut = thresholds(m_hat, rule, valid, percentile)
    m_pre = preliminary_mask(m_hat, rule, valid, percentile, majority=majority)
    mask = upsample_mask(m_pre, tuple(picture.image.shape[1:]))
    return Masked(m_hat, cut, m_pre, mask, mask_scores(mask, picture.truth))


def mask_scores(mask: torch.Tensor, truth: torch.Tensor | None) -> dict[str, float] | None:
    """iou, precision and recall of one (H, W) mask; NaN where nothing is marked, or nothing true.
    None without a truth."""
    if truth is None:
        return None
    tp, fp, fn, _ = (int(k) for k in confusion(mask[None], truth[None])[0])
    return {
        "iou": pooled_scores(mask[None], truth[None])["iou"],
        "precision": tp / (tp + fp) if tp + fp else float("nan"),
        "recall": tp / (tp + fn) if tp + fn else float("nan"),
    }


def remove_object(
    pipe: StableDiffusionPipeline,
    picture: Picture,
    m_pre: torch.Tensor,  # (h, w) bool
    *,
    y_b: str = "a photo of a background",
    steps: int = 50,
    dilate: int = 0,
    every: int = 5,
    tick: Tick = _silent,
    show: Show = _silent,
) -> Removal:
    """`cdlib.remove` step by step, and `cdlib.refine` of what it changed.

    every: steps between two pictures that are shown. ValueError for a mask without a cell, and as
    in `cdlib.remove`.
    """
    if not m_pre.any():
        raise ValueError("m_pre: the mask is empty, so there is nothing to remove.")
    states = removal_steps(
        pipe, picture.image[None], m_pre[None], y_b, steps=steps, dilate=dilate, seed=[picture.seed]
    )
    tick(0, steps)
    for state in states:
        tick(state.step, state.steps)
        if state.step % every == 0 and state.step < state.steps:
            show(state.images[0])
    both = picture.image[None], state.images
    valid = None if picture.valid is None else picture.valid[None]
    m_refined = refine(*both, m_pre[None], dilate=dilate, valid=valid)[0]
    return Removal(
        m_pre,
        state.images[0],
        difference(*both)[0],
        m_refined,
        mask_scores(m_refined, picture.truth),
    )


def draw_prompt(
    pipe: StableDiffusionPipeline,
    prompt: str,
    *,
    seed: int = 0,
    steps: int = 50,
    guidance: float = 4.0,
    size: tuple[int, int] | None = None,
    every: int = 5,
    tick: Tick = _silent,
    show: Show = _silent,
) -> Drawing:
    """An image of `prompt`, and the attention to each of its words while it was drawn.

    The image is that of cdlib.synthesise(pipe, 1, y_f=prompt, y_b="", s=guidance, ...); guidance,
    above 0, is the classifier-free scale, 1 is none. size: (H, W) in pixels, whole latent cells;
    None is what the model was made for. every: steps between two pictures that are shown: what the
    model takes the clean picture to be at that step. ValueError for a prompt that the model cannot
    read, or that has no word, and for numbers that do not fit.
    """
    steps, guidance = check_steps(pipe, steps), real_number("guidance", guidance, 0, above=True)
    y = concept_prompts(pipe, "", prompt, guidance)
    words = prompt_words(pipe, prompt)
    shape = (pipe.unet.config.in_channels, *latent_size(pipe, size))
    states = denoise(
        pipe, shape, y, image_seeds(seed, 1), steps=steps, scheduler="DDIMScheduler", batch_size=1
    )
    maps = 0
    with capture_attention(pipe, words, prompt=prompt) as capture:
        # A step's last pass is the prompt's own; what guidance compares it with is forgotten.
        forget = pipe.unet.register_forward_pre_hook(lambda *_: capture.reset())
        try:
            tick(0, steps)
            for state in states:
                maps = maps + capture.maps[0].cpu()
                tick(state.step, state.steps)
                if state.step % every == 0 and state.step < state.steps:
                    show(state.images[0])
        finally:
            forget.remove()
    image, maps = state.images[0], maps / steps
    # clamping turns infinities into colours, so it is the latents that tell
    if not (state.z0.isfinite().all() and maps.isfinite().all()):
        raise ValueError("image: the model's latents have values that are NaN or infinite.")
    return Drawing(prompt, seed, steps, guidance, image, dict(zip(words, maps, strict=True)))


def prompt_words(pipe: StableDiffusionPipeline, prompt: str) -> list[str]:
    """The prompt's words, each once, in their order. ValueError if it has none."""
    found = []
    for word in dict.fromkeys(re.findall(r"\w+", prompt.lower())):
        with suppress(ValueError):  # no word to the tokenizer, as the s of "bird's"
            token_positions(pipe, prompt, word)
            found.append(word)
    if not found:
        raise ValueError(f"prompt={prompt!r}: give at least one word.")
    return found


def _valid_cells(picture: Picture, grid: torch.Size) -> torch.Tensor | None:
    """Cells that lie at least half in the image; None where all of it is."""
    if picture.valid is None:
        return None
    return F.adaptive_avg_pool2d(picture.valid[None].float(), tuple(grid))[0] >= 0.5
