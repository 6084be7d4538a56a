"""Methods scored alike: means over trainings, intervals over images, and what was asked of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cdlib import paper
from cdlib.diagnosis import object_pixels_found, pooled_gain
from cdlib.metrics import Estimate, pooled_estimates
from cdlib.stages import methods, verdicts
from cdlib.world import PAPER_CONCEPTS


@pytest.fixture
def truth() -> torch.Tensor:
    masks = torch.zeros(9, 16, 16, dtype=torch.bool)
    for k in range(9):
        masks[k, 2 : 6 + k, 3 : 8 + k] = True
    return masks


def wrong(truth: torch.Tensor, share: float, seed: int = 0) -> torch.Tensor:
    """The truth with a share of its pixels turned over."""
    return truth ^ (torch.rand(truth.shape, generator=torch.Generator().manual_seed(seed)) < share)


# ---------------------------------------------------------------------------------- scores


def test_one_training_is_scored_as_everywhere_else(truth):
    masks = wrong(truth, 0.1)
    found = methods.score_trainings([masks], truth, seed=3)
    for score, estimate in pooled_estimates(masks, truth, seed=3).items():
        assert found.estimates[score].value == pytest.approx(estimate.value)
        assert found.estimates[score].ci95 == pytest.approx(estimate.ci95)
        assert found.trainings[score] == pytest.approx([estimate.value])


def test_a_score_is_the_mean_over_trainings(truth):
    trainings = [wrong(truth, 0.05 * k, seed=k) for k in range(3)]
    together = methods.score_trainings(trainings, truth)
    alone = [methods.score_trainings([one], truth) for one in trainings]
    for score, estimate in together.estimates.items():
        values = [one.estimates[score].value for one in alone]
        assert estimate.value == pytest.approx(np.mean(values))
        assert together.trainings[score] == pytest.approx(values)
        assert estimate.ci95[0] <= estimate.value <= estimate.ci95[1] and estimate.n == 9
    assert np.allclose(together.ious, np.mean([one.ious for one in alone], axis=0))


def test_probabilities_are_cut_at_one_half(truth):
    soft = truth * 0.5 + ~truth * 0.499
    assert methods.score_trainings([soft], truth).estimates["iou"].value == 1
    assert methods.score_trainings([truth], truth).estimates["box_iou"].value == 1


def test_nothing_found_is_scored_all_the_same(truth):
    found = methods.score_trainings([torch.zeros_like(truth)], truth)
    assert found.estimates["iou"].value == 0 and found.estimates["acc"].value > 0
    with pytest.raises(ValueError, match="predictions"):
        methods.score_trainings([], truth)


def test_a_gain_is_that_of_the_same_images(truth):
    better, base = wrong(truth, 0.02), wrong(truth, 0.2, seed=1)
    found = methods.gain([better], [base], truth)
    expected = pooled_gain(better, base, truth)
    assert found.value == pytest.approx(expected.value)
    assert found.ci95 == pytest.approx(expected.ci95)
    assert methods.gain([base, base], [base], truth) == Estimate(0.0, (0.0, 0.0), 9)


def test_a_share_of_what_found_nothing_is_not_defined(truth):
    nothing = torch.zeros_like(truth)
    assert methods.ratio([truth], [nothing], truth) is None
    assert methods.ratio([nothing], [truth], truth).value == 0
    half = methods.ratio([wrong(truth, 0.2)], [wrong(truth, 0.02)], truth)
    assert half.ci95[0] <= half.value <= half.ci95[1] < 1


# ----------------------------------------------------------------------- what they depend on


def test_sizes_are_grouped_from_small_to_large():
    shares = np.array([0.3, 0.1, 0.2, 0.6, 0.5, 0.4])
    groups = methods.by_size(shares, shares * 10)
    assert [share for share, _ in groups] == pytest.approx([0.15, 0.35, 0.55])
    assert [one.value for _, one in groups] == pytest.approx([1.5, 3.5, 5.5])
    assert len(methods.by_size(shares[:1], shares[:1])) == 1


def test_difficulty_changes_the_scenes_and_nothing_else():
    p = SimpleNamespace(concept="dog", n_images=3, difficulty=0.3, seed=0)
    made = methods.Distillation(p)
    made.pipe = SimpleNamespace(
        unet=SimpleNamespace(config=SimpleNamespace(sample_size=16)),
        vae=SimpleNamespace(config=SimpleNamespace(block_out_channels=(1, 1, 1))),
    )
    seen = []

    def nothing(images: torch.Tensor) -> list[torch.Tensor]:
        seen.append(images)
        return [torch.zeros(len(images), *images.shape[2:])]

    found = methods.by_difficulty(made, [0.0, 1.0], {"nothing": nothing})
    assert [one.value for one in found["nothing"]] == [0, 0]
    assert [len(images) for images in seen] == [3, 3] and not torch.equal(*seen)
    assert made.p.difficulty == 0.3


def test_results_have_the_names_that_others_rely_on():
    names = {method: methods.result_name(method).format(c="dog") for method in methods.METHODS}
    assert names["otsu"] == "baseline.otsu.dog" and names["daam"] == "baseline.daam.dog"
    assert names["unet_d_s_synthetic"] == "unet_d_s_synthetic.dog"
    assert names["m_refined"] == "evaluation.dog.m_refined"
    assert len(set(names.values())) == len(names)
    with pytest.raises(ValueError, match="'unet_d_s'"):
        methods.result_name("unet_ds")


# ----------------------------------------------------------------------------- the verdicts


def numbers(**values: float) -> dict[str, Estimate]:
    base = dict.fromkeys(verdicts.NUMBERS, 12.0) | {"share": 0.95} | values
    return {name: Estimate(value, (value, value), 9) for name, value in base.items()}


def test_the_order_has_to_hold_for_three_of_four():
    four = {c: numbers() for c in PAPER_CONCEPTS}
    order, *others = verdicts.asked_and_found(four)
    assert order.held and all(one.held for one in others)
    four["dog"] = numbers(gain_unet_d_s=-0.1)
    assert verdicts.asked_and_found(four)[0].held
    assert verdicts.asked_and_found(four)[0].found["dog"].endswith("missed")
    four["car"] = numbers(gain_unet_d_s_synthetic=-0.1)
    assert verdicts.asked_and_found(four)[0].held is False


def test_as_good_is_good_enough_for_synthetic_images_alone():
    same = {c: numbers(gain_unet_d_s_synthetic=0.0) for c in PAPER_CONCEPTS}
    assert verdicts.asked_and_found(same)[0].held
    same = {c: numbers(gain_unet_d_s=0.0) for c in PAPER_CONCEPTS}
    assert verdicts.asked_and_found(same)[0].held is False


def test_the_share_is_a_mean_and_points_are_for_each():
    four = {c: numbers() for c in PAPER_CONCEPTS} | {"dog": numbers(share=0.86, gain_otsu=9.9)}
    by_asked = {one.asked: one for one in verdicts.asked_and_found(four)}
    share = next(one for asked, one in by_asked.items() if "on the mean" in asked)
    otsu = next(one for asked, one in by_asked.items() if "above Otsu" in asked)
    assert share.held and otsu.held is False and otsu.found["dog"] == "+9.9"


def test_what_is_not_measured_decides_nothing():
    some = {c: {} for c in PAPER_CONCEPTS} | {"bird": numbers()}
    found = verdicts.asked_and_found(some)
    assert all(one.held is None and one.found["dog"] == "" for one in found)
    some["bird"] = numbers(gain_otsu=1.0, gain_m_refined=-1.0)
    assert [one.held for one in verdicts.asked_and_found(some)].count(False) == 1
    some["dog"] = numbers(gain_m_refined=-1.0)
    assert verdicts.asked_and_found(some)[0].held is False


# --------------------------------------------------------------------------- the paper's tables


def test_a_method_has_one_number_in_all_of_the_papers_tables():
    for method in methods.METHODS:
        rows = [*paper.TABLE_1.values(), *paper.TABLE_2.values()]
        same = {tuple(row.scores.items()) for row in rows if row.here == method}
        assert len(same) <= 1
    assert paper.reported("unet_d_s", "bird")["iou"] == paper.TABLE_3["ours"].iou["bird"]
    assert paper.reported("unet_d_s", "dog") == {"box_iou": 0.638}
    assert paper.reported("otsu", "bird") == paper.reported("unet_d_s", "fish") == {}


@pytest.mark.parametrize("row", [*paper.TABLE_1.values(), *paper.TABLE_2.values()])
def test_the_papers_scores_belong_together(row):
    """mIoU follows from accuracy and IoU when all are pooled over pixels with a share of object."""
    if len(row.scores) < 3 or row.here in ("m_pre", "m_crop", "grabcut") or "IEM" in row.method:
        return
    found = object_pixels_found(row.acc, row.iou)
    background = (row.acc - found) / (1 - found)
    assert (row.iou + background) / 2 == pytest.approx(row.miou, abs=0.0015)


def test_datasets_stand_beside_concepts():
    assert [paper.dataset_of(c) for c in PAPER_CONCEPTS][0] == "CUB-200-2011"
    with pytest.raises(ValueError, match="concept='fish'"):
        paper.dataset_of("fish")
