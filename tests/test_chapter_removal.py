"""Chapter 4: a mask's errors by cause, its figures, and the chapter with a clueless model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from held import ChapterHolds, Run, run_oddly

from cdlib import diagnosis
from cdlib.figures import removal as draw
from cdlib.metrics import Estimate
from cdlib.results import gather_results

pytestmark = pytest.mark.usefixtures("closed_figures")


# ---------------------------------------------------------------------------------- diagnosis


def test_every_wrong_pixel_has_one_cause():
    rng = np.random.default_rng(0)
    region, truth, others, inner = rng.random((4, 5, 16, 16)) < 0.5
    mask, gap = region & inner, rng.random((5, 16, 16)) * 0.1
    kinds = diagnosis.error_kinds(mask, region, truth, gap, others & ~truth)
    counted = sum(kind.astype(int) for kind in kinds.values())
    assert np.array_equal(counted, (mask ^ truth).astype(int))


def test_causes_are_told_apart():
    """A row of six pixels, each wrong for a reason of its own, in the order of the causes."""
    truth = np.array([[[1, 1, 1, 0, 0, 0]]], dtype=bool)
    mask = ~truth
    region = np.array([[[0, 1, 1, 1, 1, 1]]], dtype=bool)
    others = np.array([[[0, 0, 0, 1, 0, 0]]], dtype=bool)
    gap = np.array([[[0.5, 0.0, 0.5, 0.5, 0.5, 0.0]]])
    kinds = diagnosis.error_kinds(mask, region, truth, gap, others)
    assert [int(kind.argmax()) for kind in kinds.values()] == [0, 1, 2, 3, 4, 5]
    assert all(kind.sum() == 1 for kind in kinds.values())


def test_shares_are_pooled_and_may_exceed_one():
    whole, part = np.zeros((2, 2, 4, 4), dtype=bool)
    whole[0, 0, :2] = part[0] = True
    found = diagnosis.share_of(part, whole)
    assert found.value == 8 and found.n == 2
    with pytest.raises(ValueError, match="whole"):
        diagnosis.share_of(part, np.zeros_like(whole))


def test_recall_of_each_image():
    part, pred = np.zeros((2, 3, 4, 4), dtype=bool)
    part[0, 0], part[1, 0], pred[0, 0, :3] = True, True, True
    assert diagnosis.recall_per_image(pred, part).tolist()[:2] == [0.75, 0.0]
    assert np.isnan(diagnosis.recall_per_image(pred, part)[2])


def test_mean_inside_is_the_masks_own():
    values, masks = np.arange(8.0).reshape(2, 2, 2), np.zeros((2, 2, 2), dtype=bool)
    masks[0, 0] = True
    found = diagnosis.mean_inside(values, masks)
    assert found[0] == 0.5 and np.isnan(found[1])


# ------------------------------------------------------------------------------------ figures


def test_errors_are_painted_over_the_faded_image():
    kinds = [np.zeros((4, 4), dtype=bool) for _ in range(2)]
    hit = np.zeros((4, 4), dtype=bool)
    hit[0, 0] = kinds[0][1, 1] = kinds[1][2, 2] = True
    picture = draw.paint_errors(torch.zeros(3, 4, 4), hit, kinds)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 4
    assert np.allclose(picture[3, 3], 0.7)


def test_a_difference_without_modes_is_drawn_all_the_same():
    flat, nothing = np.zeros((8, 8)), np.zeros((8, 8), dtype=bool)
    image = np.zeros((8, 8, 3))
    modes = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])  # of a constant difference
    fig = draw.difference_and_masks(
        image, image, flat, nothing, nothing, nothing, nothing, modes, 0.0
    )
    assert len(fig.axes) == 6
    fig.canvas.draw()


def test_stages_that_a_concept_lacks_are_left_out():
    one = Estimate(0.5, (0.4, 0.6), 9)
    table = {"bird": {"M_pre": one, "M": one}, "dog": {"M": one}}
    ax = draw.stage_scores(table, {"M_pre": 0.29, "M": 0.636}).axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["bird", "dog"]


# -------------------------------------------------------------------------------- the chapter


FEW = {"finetune_steps": 1, "batch_size": 1}
CASES = {
    "none of the four": {
        "concept": "fish", "n_images": 5, "n_train": 2, "steps": 3, "dilate": 1, "seed": 2, **FEW,
    },
    "as little as can be": {
        "n_images": 1, "n_train": 1, "steps": 1, "rule": "percentile", "difficulty": 1.0, **FEW,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def executed(request, clueless, tmp_path_factory) -> Run:
    return run_oddly("04_removal", clueless, tmp_path_factory.mktemp("chapter"), request.param)


class TestChapter(ChapterHolds):
    name, figures = "04_removal", 9


def test_results_have_the_names_that_others_rely_on(executed):
    given, notebook, _ = executed
    found = gather_results(notebook, "04_removal")
    c = given.get("concept", "bird")
    names = [f"{mask}.{c}.{k}" for mask in ("m_crop", "m_refined") for k in ("acc", "iou", "miou")]
    names += [f"removal.{c}.psnr.{who}" for who in ("m", "m_prime", "m_crop", "cv2")]
    names += [f"removal.{c}.leakage.{who}" for who in ("m", "m_prime")]
    for name in names:
        record = found[name]
        assert record["n"] == given["n_images"] and record["source"] == "live"
        assert record["ci95"][0] <= record["value"] <= record["ci95"][1]
        of_the_paper = c == "bird" and name.startswith(("m_crop", "m_refined"))
        assert (record["paper"] is not None) == of_the_paper, name
