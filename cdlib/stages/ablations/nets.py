"""What changes the U-Net: the masks it learns from, how many there are, colours, and its width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch

from cdlib.stages.segmenting import Pairs, load_trained, train_sets, training_sets

from .tables import Variant

if TYPE_CHECKING:
    from cdlib.segmenter import Segmenter
    from cdlib.stages.chain import Distillation
    from cdlib.store import Artifact

WIDTHS = (0.5, 2)  # times the U-Net's width
FEW = (10, 40, 160)  # images of D_s, those of a part among those of the next
HALF = (0.5,)  # of the synthetic images added

Nets = Mapping[str, Sequence["Segmenter"]]


def net_ablations(made: Distillation, synthetic: Artifact, nets: Nets) -> Iterator[Variant]:
    """Refinement, synthetic share, colours and width, on the validation split.

    Refinement compares all trainings of two networks; the others have one each, of one seed.
    """
    yield _by_nets(made, "refinement", "on", nets["d_s"], True)
    yield _by_nets(made, "refinement", "off", nets["m_pre"])
    yield from _synthetic(made, synthetic, nets)
    d_s = training_sets(made, synthetic)["d_s"]
    for choice, parameter, others in (
        ("recolour", "segmenter_recolour", _strengths(made.p)),
        ("width", "width", _widths(made.p)),
    ):
        yield _by_nets(made, choice, getattr(made.p, parameter), nets["d_s"][:1], True)
        for setting in others:
            net = train_on(made, *d_s, **{parameter: setting})
            yield _by_nets(made, choice, setting, [net])


def net_costs(made: Distillation) -> dict[str, int]:
    """What `net_ablations` makes beyond what the evaluation needs, at most."""
    return {"trainings of a U-Net": 2 + len(_strengths(made.p)) + len(_widths(made.p))}


def learning_curve(
    made: Distillation,
    split: str,
    synthetic: Artifact,
    predictions: Mapping[str, Sequence[torch.Tensor]],
    few: Sequence[int] = FEW,
) -> dict[str, dict[int, Sequence[torch.Tensor]]]:
    """Masks of a split's images by networks that learned from fewer images, real or synthetic.

    "images": how many of D_s to masks, (N, H, W) a training; "helped": how many of D_s, with all
    synthetic images beside them, to masks; "added": how many synthetic images beside all of D_s to
    masks. Each network took as many steps as those of `trained_nets`, from as many seeds. Masks of
    those on the whole are taken from predictions, as of `method_masks` for this split.

    few: how many of D_s; those that D_s has not, or not more than, are left out.
    """
    d_s, added = _apart(training_sets(made, synthetic))
    n, m = len(d_s[0]), len(added[0])
    parts = {k: _first(d_s, k) for k in sorted(few) if k < n}
    helped = {k: _joined(part, added) for k, part in parts.items()}
    some = {k: _joined(d_s, _first(added, k)) for k in _counts(m, HALF)}
    own, whole = predictions["unet_d_s"], predictions["unet_d_s_synthetic"]
    images = made.data(split).images

    def answers(sets: Mapping[int, Pairs]) -> dict[int, list[torch.Tensor]]:
        nets = {k: train_all(made, *pairs) for k, pairs in sets.items()}
        return {k: [net.predict(images) for net in some] for k, some in nets.items()}

    return {
        "images": {**answers(parts), n: own},
        "helped": {**answers(helped), n: whole},
        "added": {0: own, **answers(some), **({m: whole} if m else {})},
    }


def train_on(
    made: Distillation, images: torch.Tensor, masks: torch.Tensor, **other: object
) -> Segmenter:
    """A network trained as in `train_all`, from the first of the seeds alone."""
    (net,) = train_all(made, images, masks, **{**other, "n_seeds": 1})
    return net


def train_all(
    made: Distillation, images: torch.Tensor, masks: torch.Tensor, **other: object
) -> list[Segmenter]:
    """Networks trained as those of `trained_nets` are, from as many seeds.

    other: which of the parameters of `made` are to be different, e.g. segmenter_steps=100 or
    width=4. ValueError for a name that is none of them.
    """
    if unknown := sorted(set(other) - set(vars(made.p))):
        raise ValueError(
            f"train_all: no such parameter: {unknown}. There are {sorted(vars(made.p))}."
        )
    val, p = made.labels("val"), SimpleNamespace(**{**vars(made.p), **other})
    watched = {"this": (val.data.images, val.m_refined.float())}
    how = {"device": made.pipe.device, "store": made.store}
    (trained,) = train_sets(p, {"this": (images, masks)}, watched, **how).values()
    return [load_trained(one).to(made.pipe.device) for one in trained]


def _synthetic(made: Distillation, synthetic: Artifact, nets: Nets) -> Iterator[Variant]:
    d_s, added = _apart(training_sets(made, synthetic))
    yield _by_nets(made, "synthetic", "none", nets["d_s"][:1], True)
    for count in _counts(len(added[0]), HALF):
        net = train_on(made, *_joined(d_s, _first(added, count)))
        yield _by_nets(made, "synthetic", "half", [net])
    if len(added[0]):
        yield _by_nets(made, "synthetic", "all", nets["d_s_synthetic"][:1])
        yield _by_nets(made, "synthetic", "alone", [train_on(made, *added)])


def _by_nets(
    made: Distillation, choice: str, setting: object, nets: Sequence[Segmenter], reference=False
) -> Variant:
    images = made.data("val").images
    return Variant.of(choice, setting, {"unet": [net.predict(images) for net in nets]}, reference)


def _apart(sets: Mapping[str, Pairs]) -> tuple[Pairs, Pairs]:
    """D_s, and the synthetic pairs beside it in an order that mixes samples and composites."""
    n = len(sets["d_s"][0])
    images, masks = (part[n:] for part in sets["d_s_synthetic"])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return sets["d_s"], (images[order], masks[order])


def _first(pairs: Pairs, count: int) -> Pairs:
    return pairs[0][:count], pairs[1][:count]


def _joined(pairs: Pairs, more: Pairs) -> Pairs:
    return torch.cat([pairs[0], more[0]]), torch.cat([pairs[1], more[1]])


def _counts(n: int, shares: Sequence[float]) -> list[int]:
    return sorted({round(share * n) for share in shares} - {0, n})


def _strengths(p: SimpleNamespace) -> list[float]:
    return sorted({0.0, 1.0} - {p.segmenter_recolour})


def _widths(p: SimpleNamespace) -> list[int]:
    return sorted({max(1, round(times * p.width)) for times in WIDTHS} - {p.width})
