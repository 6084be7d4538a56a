"""The chain from parameters to labels: each stage as its function gives it, made once."""

from __future__ import annotations

import pytest
import torch

import cdlib
from cdlib.masks import dilate_mask, upsample_mask
from cdlib.outlines import sharpen
from cdlib.precision import autocast, choose_precision
from cdlib.stages import Distillation
from cdlib.store import Store

FEW = {"preset": "quick", "device": "cpu", "n_train": 3, "n_val": 2, "n_images": 2, "steps": 4,
       "t0": 2, "finetune_steps": 2, "batch_size": 2, "removal_steps": 2}  # fmt: skip


@pytest.fixture(scope="module")
def chain(clueless, tmp_path_factory) -> Distillation:
    p = cdlib.check_parameters({**FEW, "model": str(clueless)}, "06_segmenter")
    return Distillation(p, store=Store(tmp_path_factory.mktemp("store")))


def test_labels_are_what_the_stages_functions_give(chain):
    labels = chain.labels("val")
    images, p = labels.data.images, chain.p
    assert labels.data.split == "val" and len(labels.data) == p.n_val
    m_hat = cdlib.concept_attention(
        chain.pipe, images, prompt="a photo of a bird", word="bird", t0=2, steps=4
    )
    torch.testing.assert_close(labels.m_hat, m_hat, atol=1e-6, rtol=0)
    assert torch.equal(labels.m_pre, cdlib.preliminary_mask(labels.m_hat, rule=p.rule))
    with autocast(chain.pipe.device, choose_precision("auto", chain.pipe.device)):
        removed = cdlib.remove(
            chain.m_prime, images, labels.m_pre, steps=2, dilate=1, resample=p.resample,
            guidance=-1.0, y_f="a photo of a bird",
        )  # fmt: skip
    torch.testing.assert_close(labels.removed, removed, atol=1e-6, rtol=0)
    assert torch.equal(
        labels.m_refined,
        sharpen(images, removed, labels.m_pre, dilate=1, space="lab"),
    )
    inside = upsample_mask(dilate_mask(labels.m_pre, 1), images.shape[2:], "bilinear-any")
    assert not (labels.m_refined & ~inside).any()


def test_labels_are_made_once(chain):
    assert chain.labels("val") is chain.labels("val")
    assert chain.labels("val") is not chain.labels("test")


def test_the_same_parameters_find_the_same_model_in_the_store(chain):
    again = Distillation(chain.p, store=chain.store)
    assert again.trained.key == chain.trained.key


def test_other_parameters_leave_the_first_as_it_was(chain):
    labels, narrow = chain.labels("val"), chain.but(dilate=0, removal_scale=1.0)
    assert narrow.pipe is chain.pipe and narrow.trained.key == chain.trained.key
    assert not torch.equal(narrow.labels("val").removed, labels.removed)
    assert chain.p.dilate == 1 and chain.labels("val") is labels


def test_other_fine_tuning_makes_another_model(chain):
    assert chain.but(finetune_steps=1).trained.key != chain.trained.key


@pytest.mark.parametrize(
    ("scale", "means"),
    [(1.0, {}), (2.0, {"guidance": -1.0, "y_f": "a photo of a bird"})],
)
def test_the_codes_scale_is_the_papers_s_from_the_other_end(chain, scale, means):
    """eps(y_f) + scale [eps(y_b) - eps(y_f)] = eps(y_b) + (1 - scale) [eps(y_f) - eps(y_b)]."""
    made = chain.but(removal_scale=scale).removal
    assert {name: made[name] for name in ("guidance", "y_f") if name in made} == means


def test_surroundings_are_as_in_fine_tuning(chain):
    assert chain.removal["surroundings"] == "noised"
    assert chain.but(noise="rectangle").removal["surroundings"] == "clean"


def test_a_split_that_is_none_is_named(chain):
    with pytest.raises(ValueError, match="split='trian'.*Did you mean 'train'"):
        chain.labels("trian")
