"""Synthetic data from tiny models with random weights: D', its masks, and composites."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny
import torch

from cdlib import stages
from cdlib.inpaint import composite, synthesise
from cdlib.masks import degenerate, reason_counts, upsample_mask
from cdlib.params import chapters
from cdlib.stages.synthesis import FIRST_SEED, LOOP, MOST
from cdlib.store import Store

SETTINGS = {
    "concept": "bird", "seed": 3, "t0": 2, "steps": 3, "n_noise": 1, "rule": "gmm",
    "scheduler": "DDIMScheduler", "removal_steps": 2, "dilate": 0, "removal_scale": 1.0,
    "resample": 1, "space": "lab", "polish": "none", "noise": "whole",
    "precision": "bf16",
}  # fmt: skip


def distillation(root, **changed):
    """As a chapter would have it, but m' is another tiny model and not trained."""
    made = stages.Distillation(SimpleNamespace(**SETTINGS | changed), store=Store(root))
    made.pipe, made.m_prime = tiny.pocket_shaped(), tiny.pocket_shaped(seed=1)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return distillation(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def synthetic(made):
    return stages.synthetic_artifact(made, 3, least_area=0.0, most_area=1.0, piece=0.0)


def test_entries_have_their_shapes(synthetic):
    images, grid = (3, 3, 64, 64), (3, 16, 16)
    assert all(synthetic[name].shape == images for name in ("images", "backgrounds", "removed"))
    assert synthetic["m_hat"].shape == synthetic["m_pre"].shape == grid
    assert synthetic["m_refined"].shape == (3, 64, 64)
    for name in ("kept", "m_pre", "m_refined"):
        assert synthetic[name].dtype == torch.bool
    for name in ("images", "backgrounds", "removed", "composites", "composite_masks"):
        assert synthetic[name].dtype == torch.float32
        assert synthetic[name].min() >= 0 and synthetic[name].max() <= 1


def test_the_loop_is_that_of_real_images(made, synthetic):
    images, m_pre = synthetic["images"], synthetic["m_pre"]
    assert torch.equal(synthetic["m_hat"], made.attention(images))
    removed, m_refined = made.sharpen(images, m_pre)
    assert torch.equal(synthetic["removed"], removed)
    assert torch.equal(synthetic["m_refined"], m_refined)
    inside = upsample_mask(m_pre, (64, 64), "bilinear-any")
    assert not (m_refined & ~inside).any()


def test_what_is_kept_is_composed(synthetic):
    reasons = degenerate(synthetic["m_refined"], least=0.0, most=1.0, piece=0.0)
    assert synthetic["reasons"] == reasons and synthetic["counts"] == reason_counts(reasons)
    kept = synthetic["kept"]
    assert kept.tolist() == [not reason for reason in reasons]
    cut = (synthetic[name][kept] for name in ("images", "m_refined", "backgrounds"))
    images, soft = composite(*cut, 1.0)
    assert torch.equal(synthetic["composites"], images)
    assert torch.equal(synthetic["composite_masks"], soft)


def test_all_may_be_thrown_out(made):
    found = stages.synthetic_artifact(made, 2, least_area=1.0, most_area=1.0)
    assert not found["kept"].any() and found["counts"]["kept"] == 0
    assert found["composites"].shape == (0, 3, 64, 64)
    assert found["composite_masks"].shape == (0, 64, 64)


def test_samples_are_their_own_and_nobody_elses(made):
    front = stages.samples_artifact(made, 2)["images"]
    how = {"y_f": made.y_f, "steps": made.p.steps}
    elsewhere = synthesise(made.m_prime, 2, seed=made.p.seed, **how)
    assert not torch.allclose(front, elsewhere, atol=0.05)
    whole = made.but(precision="fp32")
    whole.m_prime = made.m_prime
    more = stages.samples_artifact(whole, 3)["images"]
    seeds = [FIRST_SEED["foreground"] + made.p.seed * 10**6 + k for k in range(2)]
    exact = stages.samples_artifact(whole, 2)["images"]
    assert torch.equal(exact, synthesise(made.m_prime, 2, seed=seeds, **how))
    assert torch.allclose(more[:2], exact, atol=1e-3)  # sums may depend on the batch
    assert (front - exact).abs().mean() < 0.02  # bfloat16 rounds, differently on every machine


def test_no_seed_of_a_chapter_reaches_those_of_synthetic_data():
    last = 2**31 * MOST
    assert last < FIRST_SEED["foreground"]
    assert FIRST_SEED["foreground"] + last < FIRST_SEED["background"]


def test_guidance_starts_from_the_same_noise_and_ends_elsewhere(made):
    plain, pushed = (stages.samples_artifact(made, 2, s=s)["images"] for s in (1.0, 6.0))
    assert plain.shape == pushed.shape and not torch.equal(plain, pushed)
    by_default = stages.samples_artifact(made, 2)
    assert by_default.key == stages.samples_artifact(made, 2, s=1.0).key
    behind = stages.samples_artifact(made, 2, "background")
    assert behind.key == stages.samples_artifact(made, 2, "background", s=0.0).key
    pushed = stages.synthetic_artifact(made, 2, s=6.0, s_background=-1.0)
    assert torch.equal(pushed["images"], stages.samples_artifact(made, 2, s=6.0)["images"])
    assert not torch.equal(pushed["backgrounds"], behind["images"])


@pytest.mark.parametrize("changed", [{"seed": 4}, {"rule": "otsu"}, {"resample": 2}])
def test_other_settings_are_other_artifacts(made, synthetic, changed):
    other = distillation(made.store.root, **changed)
    assert stages.synthetic_artifact(other, 3).key != synthetic.key


def test_all_parameters_of_the_loop_count():
    assert {parameter.name for parameter in (*chapters.MASKS, *chapters.REMOVAL)} == set(LOOP)


def test_found_again(made, synthetic):
    again = stages.synthetic_artifact(made, 3, least_area=0.0, most_area=1.0, piece=0.0)
    assert again.key == synthetic.key
    changed = stages.synthetic_artifact(made, 3, feather=2.0)
    assert changed.key != synthetic.key and torch.equal(changed["images"], synthetic["images"])


def test_masks_drawn_anew(made, synthetic):
    images = synthetic["images"]
    same = stages.masks_with_seed(made, images, made.p.seed)
    assert torch.equal(same[0], synthetic["m_pre"])
    assert torch.equal(same[1], synthetic["m_refined"])
    m_pre, m_refined = stages.masks_with_seed(made, images, made.p.seed + 1)
    assert m_pre.shape == same[0].shape and m_refined.shape == same[1].shape
    assert not torch.equal(m_refined, same[1])


@pytest.mark.parametrize(
    ("how", "says"),
    [({"n": 0}, "n=0"), ({"n": MOST + 1}, "n="), ({"kind": "sky"}, "kind='sky'")],
)
def test_what_does_not_fit_is_refused(made, how, says):
    with pytest.raises(ValueError, match=says):
        stages.samples_artifact(made, **{"n": 2, **how})


def test_a_precision_that_there_is_not_is_refused(made):
    with pytest.raises(ValueError, match="precision='int8'"):
        stages.samples_artifact(distillation(made.store.root, precision="int8"), 2)


@pytest.mark.parametrize(
    ("how", "says"),
    [({"feather": -1.0}, "feather"), ({"least_area": 0.5, "most_area": 0.4}, "least=0.5"),
     ({"piece": 2}, "piece=2")],
)  # fmt: skip
def test_a_slip_is_told_before_anything_is_drawn(made, how, says):
    before = sorted(made.store.root.iterdir())
    with pytest.raises(ValueError, match=says):
        stages.synthetic_artifact(made, 7, **how)
    assert sorted(made.store.root.iterdir()) == before


def test_pushes_of_a_chapter_become_guidance(made):
    filters = {"feather": 1.0, "least_area": 0.0, "most_area": 1.0}
    paper = made.but(synthetic_scale=1.0, background_scale=1.0, **filters)
    assert paper.synthesis == {**filters, "s": 1.0, "s_background": 0.0}
    paper.m_prime = made.m_prime
    unsaid = stages.synthetic_artifact(made, 2, **filters)
    assert stages.synthetic_artifact(paper, 2, **paper.synthesis).key == unsaid.key
    pushed = made.but(synthetic_scale=3.0, background_scale=2.0, **filters)
    assert pushed.synthesis == {**filters, "s": 3.0, "s_background": -1.0}
