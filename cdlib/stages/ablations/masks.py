"""What changes M_pre, with m' as it is, and what changes m'; and what M comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import torch

from cdlib.attention.layers import cross_attention_layers
from cdlib.masks import preliminary_mask, upsample_mask
from cdlib.masks.binarise import RULES
from cdlib.masks.refinement import SPACES
from cdlib.outlines import POLISHES
from cdlib.stages.attention import profile_artifact
from cdlib.stages.chain import Distillation
from cdlib.store import Artifact

from .tables import Variant

T0_SHARES = (0.1, 0.4, 1.0)  # of the grid's timesteps that are averaged
WAYS = ("down", "mid", "up")  # through the U-Net
MORE_NOISE = 4  # times as many draws
PATH = (0.25, 0.5)  # of the steps of fine-tuning, each a run of its own
HALF = 0.5  # of the steps: as long as m' is fine-tuned with other odds of the prompt y_f
ODDS = (0.0, 1.0)  # of the whole image with y_f


def mask_ablations(made: Distillation) -> Iterator[Variant]:
    """T0, layers, N, rule, colours, outline, fine-tuning's steps and p, on the validation split."""
    for choice in (_t0, _layers, _noise, _rules):
        yield from choice(made)
    yield from _of_same_removals(made, "space", SPACES)
    yield from _of_same_removals(made, "polish", POLISHES)
    yield from _steps(made)
    yield from _odds(made)


def mask_costs(made: Distillation) -> dict[str, int]:
    """What `mask_ablations` makes beyond what the evaluation needs."""
    p, n = made.p, len(made.data("val"))
    other_maps = len(_t0_settings(p)) + len(_ways(made)) + 1 + len(RULES) - 1
    other_models = 1 + len(_path(p)) + 1 + len(_other_odds(p))
    return {
        "steps of fine-tuning": sum({*_path(p), _half(p)}) + _half(p) * len(_other_odds(p)),
        "passes of the U-Net for attention": n * p.n_noise * (p.steps + p.t0 * MORE_NOISE),
        "removals, of an image each": n * (other_maps + other_models),
    }


# ------------------------------------------------------------------------------- other maps


def _t0(made: Distillation) -> Iterator[Variant]:
    yield _as_is(made, "t0", made.p.t0)
    by_timestep = _profile(made)["by_timestep"]
    for t0 in _t0_settings(made.p):
        yield _by_map(made, "t0", t0, by_timestep[:, :t0].mean(1))


def _layers(made: Distillation) -> Iterator[Variant]:
    yield _as_is(made, "layers", "all")
    by_layer = _profile(made)["by_layer"]
    for way, picked in _ways(made).items():
        yield _by_map(made, "layers", way, by_layer[:, picked].mean(1))


def _noise(made: Distillation) -> Iterator[Variant]:
    yield _as_is(made, "n_noise", made.p.n_noise)
    more = made.but(n_noise=MORE_NOISE * made.p.n_noise)
    yield _by_map(made, "n_noise", more.p.n_noise, more.attention(made.data("val").images))


def _rules(made: Distillation) -> Iterator[Variant]:
    yield _as_is(made, "rule", made.p.rule)
    for rule in RULES:
        if rule != made.p.rule:
            yield _by_map(made, "rule", rule, made.labels("val").m_hat, rule)


def _of_same_removals(
    made: Distillation, choice: str, settings: Sequence[str]
) -> Iterator[Variant]:
    """How masks are cut from removals that the store has."""
    in_use = getattr(made.p, choice)
    yield _as_is(made, choice, in_use)
    for setting in settings:
        if setting != in_use:
            m_refined = made.but(**{choice: setting}).labels("val").m_refined
            yield Variant.of(choice, setting, {"m_refined": [m_refined]})


def _profile(made: Distillation) -> Artifact:
    p = made.p
    return profile_artifact(
        made.pipe, made.data("val").images, prompt=made.y_f, word=made.word, t0=p.t0,
        steps=p.steps, n=p.n_noise, n_detail=1, seed=p.seed, store=made.store,
    )  # fmt: skip


def _t0_settings(p: SimpleNamespace) -> list[int]:
    return sorted({max(1, round(share * p.steps)) for share in T0_SHARES} - {p.t0})


def _ways(made: Distillation) -> dict[str, list[int]]:
    """Ways through the U-Net that have some of its layers but not all: their places in order."""
    names = list(cross_attention_layers(made.pipe))
    ways = {way: [k for k, name in enumerate(names) if name.startswith(way)] for way in WAYS}
    return {way: picked for way, picked in ways.items() if 0 < len(picked) < len(names)}


def _as_is(made: Distillation, choice: str, setting: object) -> Variant:
    labels = made.labels("val")
    return Variant.of(choice, setting, _both(labels.m_pre, labels.m_refined), True)


def _by_map(
    made: Distillation, choice: str, setting: object, m_hat: torch.Tensor, rule: str | None = None
) -> Variant:
    m_pre = preliminary_mask(m_hat, rule or made.p.rule, seed=made.p.seed)
    m_refined = made.sharpen(made.data("val").images, m_pre)[1]
    return Variant.of(choice, setting, _both(m_pre, m_refined))


def _both(m_pre: torch.Tensor, m_refined: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    at_size = upsample_mask(m_pre, tuple(m_refined.shape[1:]))
    return {"m_pre": [at_size], "m_refined": [m_refined]}


# ----------------------------------------------------------------------------- other models m'


def _steps(made: Distillation) -> Iterator[Variant]:
    yield _by_model(made, "finetune_steps", made.p.finetune_steps, reference=True)
    untuned = made.but()
    untuned.m_prime = made.pipe  # m itself, in place of what it would be fine-tuned to
    yield _by_model(untuned, "finetune_steps", 0)
    for steps in _path(made.p):
        yield _by_model(made.but(finetune_steps=steps), "finetune_steps", steps)


def _odds(made: Distillation) -> Iterator[Variant]:
    """All with half of the steps, the reference too, which `_steps` has made already."""
    half = _half(made.p)
    for odds in (made.p.p_foreground, *_other_odds(made.p)):
        other = made.but(finetune_steps=half, p_foreground=odds)
        yield _by_model(other, "p_foreground", odds, reference=odds == made.p.p_foreground)


def _by_model(made: Distillation, choice: str, setting: object, reference: bool = False) -> Variant:
    data, _, m_pre = made.coarse("val")
    return Variant.of(
        choice, setting, {"m_refined": [made.sharpen(data.images, m_pre)[1]]}, reference
    )


def _path(p: SimpleNamespace) -> list[int]:
    return sorted({max(1, round(share * p.finetune_steps)) for share in PATH} - {p.finetune_steps})


def _half(p: SimpleNamespace) -> int:
    return max(1, round(HALF * p.finetune_steps))


def _other_odds(p: SimpleNamespace) -> list[float]:
    return [odds for odds in ODDS if odds != p.p_foreground]
