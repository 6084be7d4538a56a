"""Masks by colour and attention beside the method's own, and the networks that learn them."""

from __future__ import annotations

import pytest
import tiny
import torch

from cdlib.masks import dilate_mask, upsample_mask
from cdlib.outlines import polish_mask
from cdlib.pieces import attended_pieces
from cdlib.segmenter import train_segmenter
from cdlib.stages import (
    Distillation,
    attended_nets,
    coloured_nets,
    methods,
    synthetic_artifact,
)

FEW = {
    "preset": "quick", "n_train": 3, "n_val": 4, "n_images": 2, "steps": 4, "finetune_steps": 2,
    "batch_size": 2, "n_synthetic": 3, "segmenter_steps": 2, "segmenter_batch": 2, "n_seeds": 2,
    "width": 2, "least_area": 0.0, "most_area": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Distillation:
    return tiny.distillation(FEW, tmp_path_factory.mktemp("store"))


def test_masks_by_colour_are_those_as_cut_with_another_outline(made):
    labels = made.labels("val")
    images = labels.data.images
    found = methods.method_masks(made, "val", {}, {})
    wide = dilate_mask(labels.m_pre, made.p.dilate)
    region = upsample_mask(wide, tuple(images.shape[2:]), "bilinear-any")
    starts = {"m_pre_coloured": found["m_pre"][0], "m_coloured": found["m_refined"][0]}
    for name, start in starts.items():
        expected = polish_mask(images, start, region, seed=made.p.seed)
        assert torch.equal(found[name][0], expected), name
        assert not (found[name][0] & ~region).any()
        assert not torch.equal(found[name][0], start), name
    attended = attended_pieces(found["m_coloured"][0], labels.m_hat)
    assert torch.equal(found["m_attended"][0], attended)


def test_networks_by_colour_learn_from_masks_by_colour(made):
    nets = coloured_nets(made)
    coloured = made.but(polish="grabcut")
    labels = coloured.labels("train")
    drawn = synthetic_artifact(coloured, made.p.n_synthetic, **made.synthesis)
    assert not torch.equal(labels.m_refined, made.labels("train").m_refined)
    kept = drawn["kept"]
    images = torch.cat([labels.data.images, drawn["images"][kept], drawn["composites"]])
    masks = [labels.m_refined.float(), drawn["m_refined"][kept].float(), drawn["composite_masks"]]
    _are_trained_on(nets, images, torch.cat(masks), made)


def test_networks_by_attention_learn_from_the_pieces_attended_to(made):
    labels = made.but(polish="grabcut").labels("train")
    masks = attended_pieces(labels.m_refined, labels.m_hat)
    assert not torch.equal(masks, labels.m_refined)
    _are_trained_on(attended_nets(made), labels.data.images, masks.float(), made)


def _are_trained_on(nets, images: torch.Tensor, masks: torch.Tensor, made: Distillation) -> None:
    assert len(nets) == made.p.n_seeds
    for k, net in enumerate(nets):
        plain = train_segmenter(
            images, masks, width=2, steps=2, batch_size=2, lr=made.p.segmenter_rate,
            average=made.p.segmenter_average, recolour=made.p.segmenter_recolour,
            seed=made.p.seed + k, precision=made.p.precision, device="cpu",
        )  # fmt: skip
        assert torch.equal(net.predict(images), plain.predict(images))
