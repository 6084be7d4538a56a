"""Chapter 3: its figures, how it tells differences, and the chapter with a clueless model."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from held import ChapterHolds, Run, run_oddly

from cdlib import diagnosis, stages
from cdlib.datasets import load_dataset
from cdlib.figures import finetuning as draw
from cdlib.masks import preliminary_mask
from cdlib.metrics import Estimate, pooled_scores
from cdlib.models import load_model
from cdlib.results import gather_results
from cdlib.store import Store

pytestmark = pytest.mark.usefixtures("closed_figures")


# ---------------------------------------------------------------------------------- diagnosis


def random_masks(n=6, size=12, odds=0.4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, size, size)) < odds


def test_gain_is_the_difference_of_pooled_scores_with_both_drawn_together():
    truth, base = random_masks(seed=0), random_masks(seed=1)
    better = base | truth
    gain = diagnosis.pooled_gain(better, base, truth)
    scores = [pooled_scores(mask, truth)["iou"] for mask in (better, base)]
    assert gain.value == pytest.approx(100 * (scores[0] - scores[1]))
    assert gain.ci95[0] > 0 and gain.n == 6
    assert diagnosis.pooled_gain(base, base, truth) == (0, (0, 0), 6)


def test_mean_gain_leaves_out_images_without_a_value():
    gain = diagnosis.mean_gain([1.0, 3.0, np.nan], [0.0, 1.0, 5.0])
    assert gain.value == pytest.approx(1.5) and gain.n == 2


@pytest.mark.parametrize(
    ("value", "ci95", "says"),
    [
        (3.21, (2.0, 4.0), "3.2 dB above (95% interval +2.0 to +4.0)"),
        (-3.21, (-4.0, -2.0), "3.2 dB below (95% interval -4.0 to -2.0)"),
        (0.2, (-0.5, 0.9), "holds 0, so that this run cannot tell them apart"),
    ],
)
def test_a_difference_is_told_as_it_is(value, ci95, says):
    assert says in diagnosis.describe_gain(Estimate(value, ci95, 9), "dB")


def test_no_difference_at_all_is_told_without_a_direction():
    assert "no difference" in diagnosis.describe_gain(Estimate(0.0, (0.0, 0.0), 9), "dB")


def test_an_entry_is_the_estimate_that_it_was():
    entry = {"value": 0.5, "ci95": [0.4, 0.6], "n": 9, "unit": "fraction"}
    assert diagnosis.entry_estimate(entry) == (0.5, (0.4, 0.6), 9)
    assert diagnosis.entry_estimate(None) is None


# ------------------------------------------------------------------------------------ figures


def test_rectangles_show_an_image_its_draws_and_how_often():
    images = torch.rand(2, 3, 32, 32)
    region, drawn = torch.zeros(2, 32, 32, dtype=torch.bool), torch.zeros(2, 3, 32, 32)
    region[:, 8:16, 8:16] = True
    fig = draw.rectangles(images, region, drawn.bool(), torch.rand(2, 8, 8))
    assert len(fig.axes) == 10
    assert fig.axes[-1].get_images()[0].get_array().shape == (8, 8)


def test_losses_of_a_prompt_that_never_came_by_are_no_hindrance():
    log = pd.DataFrame({"step": [1, 2, 3], "loss_f": [0.3, 0.2, 0.1], "loss_b": [None] * 3})
    left, right = draw.loss_curves(log, 2).axes
    assert left.lines[0].get_ydata().tolist() == [0.3, 0.2, 0.1]
    assert not len(right.lines[0].get_ydata())


def test_growth_has_a_row_for_each_noise_of_each_prompt():
    samples = {"one": torch.rand(4, 2, 3, 8, 8), "two": torch.rand(4, 2, 3, 8, 8)}
    fig = draw.growth(samples, [0, 5, 10, 20])
    assert len(fig.axes) == 16
    assert [ax.get_title() for ax in fig.axes[:4]] == ["$m$", "step 5", "step 10", "step 20"]


def test_sweep_is_drawn_scale_by_scale():
    assert len(draw.guidance_sweep(torch.rand(3, 2, 3, 8, 8), [-2.0, 0.0, 7.5]).axes) == 6
    some = [Estimate(x, (x, x), 4) for x in (0.0, 0.5, 1.0)]
    ax = draw.seen_by_scale([-2.0, 0.0, 7.5], {"it is seen": some}).axes[0]
    assert ax.lines[0].get_ydata().tolist() == [0.0, 0.5, 1.0]


# -------------------------------------------------------------------------------- the chapter


FEW = {"finetune_steps": 2, "batch_size": 2}
CASES = {
    "none of the four": {
        "concept": "fish", "n_train": 3, "steps": 3, "n_samples": 2, "s_low": 0.5, "s_high": 0.75,
        "noise": "rectangle", "lora_rank": 2, "scheduler": "EulerDiscreteScheduler", **FEW,
    },
    "as little as can be": {
        "n_train": 1, "steps": 1, "n_samples": 1, "p_foreground": 1.0, "rule": "percentile",
        "finetune_steps": 1, "batch_size": 1,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def executed(request, clueless, tmp_path_factory) -> Run:
    return run_oddly("03_finetuning", clueless, tmp_path_factory.mktemp("chapter"), request.param)


class TestChapter(ChapterHolds):
    name, figures = "03_finetuning", 8


def test_results_say_what_both_models_paint(executed):
    given, notebook, _ = executed
    found = gather_results(notebook, "03_finetuning")
    concept = given.get("concept", "bird")
    for who in ("m", "m_prime"):
        for prompt in ("y_f", "y_b"):
            record = found[f"finetuning.{concept}.seen.{prompt}.{who}"]
            assert record["n"] == given["n_samples"] and record["source"] == "live"
            assert record["ci95"][0] <= record["value"] <= record["ci95"][1]


def test_fine_tuning_that_was_done_is_not_done_again(executed, clueless, monkeypatch):
    given, _, folder = executed
    loop = sys.modules[stages.m_prime_artifact.__globals__["finetune"].__module__]
    monkeypatch.setattr(loop, "Trainer", lambda *_, **__: pytest.fail("made again"))
    pipe, concept = load_model(clueless, device="cpu"), given.get("concept", "bird")
    data = load_dataset("pocket", concept, "train", limit=given["n_train"])
    y_f, store = f"a photo of a {concept}", Store(folder)
    steps = {"steps": given["steps"], "t0": max(1, given["steps"] * 4 // 5)}
    made = stages.m_hat_artifact(pipe, data.images, prompt=y_f, word=concept, **steps, store=store)
    m_pre = preliminary_mask(made["m_hat"], given.get("rule", "otsu"))
    made = stages.m_prime_artifact(
        pipe, data.images, m_pre, y_f=y_f, p=given.get("p_foreground", 0.5),
        steps=given["finetune_steps"], batch_size=given["batch_size"], lr=5e-4, rectangles=1,
        noise=given.get("noise", "whole"), lora_rank=given.get("lora_rank"), normalise=True,
        store=store,
    )  # fmt: skip
    assert len(made["sample_steps"]) == len(made["samples_f"]) == len(made["samples_b"])
