"""Chapter 7: its figures from made-up numbers, and the chapter with a model that knows nothing."""

from __future__ import annotations

import numpy as np
import pytest
from held import ChapterHolds, Run, run_oddly

from cdlib import paper
from cdlib.figures import evaluation as draw
from cdlib.metrics import Estimate
from cdlib.results import gather_results
from cdlib.stages import ablations, methods

pytestmark = pytest.mark.usefixtures("closed_figures")


def around(value: float) -> Estimate:
    return Estimate(value, (value - 0.1, value + 0.1), 9)


# ------------------------------------------------------------------------------------ figures


def test_names_have_their_symbols_set():
    assert draw.maths("U-Net on D_s + D'_s") == "U-Net on $D_{s}$ + $D'_{s}$"
    assert draw.maths("M_pre") == "$M_{pre}$" and draw.maths("M") == "$M$"
    for plain in ("Otsu", "attention, as DAAM cuts it", "U-Net on true masks", "Mask"):
        assert draw.maths(plain) == plain


def test_trainings_are_ticks_and_the_paper_a_cross():
    fig = draw.method_scores({"a": around(0.5), "b": around(0.6)}, {"b": [0.5, 0.7]}, {"a": 0.3})
    labels = [text.get_text() for text in fig.legends[0].get_texts()]
    assert labels[1:] == ["single trainings", "the paper, on photographs"]
    alone = draw.method_scores({"a": around(0.5)}, {"a": [0.5]}, {})
    assert len(alone.legends[0].get_texts()) == 1


def test_a_row_of_masks_for_each_method():
    images, masks = np.zeros((2, 8, 8, 3)), np.zeros((2, 8, 8), dtype=bool)
    masks[:, 2:5, 2:5] = True
    fig = draw.mask_rows(images, {"a": masks, "b": ~masks}, masks, ["one", "two"])
    assert len(fig.axes) == 6 and fig.axes[0].get_title() == "one"
    long = draw.mask_rows(images, {"U-Net on M by colour and attention": masks}, masks)
    assert long.axes[2].get_ylabel().split("\n") == ["U-Net on M by colour", "and attention"]


def test_what_is_missed_goes_left_and_what_is_added_right():
    errors = {
        "a": {"missed": [0.1, 0.2, 0.0], "added": [0.3, 0.0, 0.4]},
        "b": {"missed": [0.0] * 3, "added": [0.1] * 3},
    }
    fig = draw.error_places(errors, (1, 4))
    (ax,) = fig.axes
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches[:6]]
    expected = [(0, -10), (-10, -30), (-30, -30), (0, 30), (30, 30), (30, 70)]
    np.testing.assert_allclose(ends, expected, atol=1e-9)
    assert ax.get_xlim()[0] == -ax.get_xlim()[1] < -70
    said = [text.get_text() for text in fig.legends[0].get_texts()]
    assert [words.split(" px")[0] for words in said] == ["up to 1", "up to 4", "more than 4"]


def test_what_is_not_known_of_a_concept_is_left_out():
    ax = draw.concept_scores({"bird": {"a": around(0.5)}, "dog": {}}).axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["bird", "dog"]


def test_bins_without_pixels_are_not_drawn():
    fig = draw.reliability({"a": ([0.1, 0.5, 0.9], [0.2, 0.0, 0.8], [0.5, 0.0, 0.5])})
    assert list(fig.axes[0].lines[1].get_xdata()) == [0.1, 0.9]


def test_numbers_of_images_may_be_one():
    fig = draw.how_many({"a": {"": {3: around(0.5)}}, "b": {"": {0: around(0.5)}}}, {})
    assert len(fig.axes) == 2 and not fig.legends
    assert draw.against_difficulty([0.3], {"a": [around(0.5)]}, 0.3).axes
    assert draw.against_size([0.1], {"a": [0.5]}, {"a": [(0.1, around(0.5))]}).axes


def test_a_panel_may_have_two_lines_of_different_numbers():
    few, all_ = {4: around(0.4), 16: around(0.5)}, {4: around(0.5), 64: around(0.6)}
    fig = draw.how_many({"real": {"alone": few, "helped": all_}}, {"level": 0.7})
    assert fig.axes[0].get_xticks().tolist() == [4, 16, 64]
    assert [ax.get_ylim() for ax in fig.axes] == [(0.3, 1)]  # a tenth at or below all intervals
    said = [text.get_text() for text in fig.legends[0].get_texts()]
    assert said == ["alone", "helped", "level"]


def test_tables_have_the_papers_rows_and_more_below():
    here = {"unet_d_s": {"acc": around(0.9), "iou": around(0.7)}, "otsu": {"iou": around(0.3)}}
    rows = draw.beside_paper(paper.TABLE_1, here, methods.METHODS, ("otsu", "daam")).frame
    assert len(rows) == len(paper.TABLE_1) + 1 and rows.iloc[-1]["method"] == "Otsu"
    ours = rows[rows["method"] == "Ours (U-Net on D_s)"].iloc[0]
    assert ours["IoU, paper"] == "0.751" and ours["IoU, here"] == "0.700"
    assert ours["mIoU, here"] == "–"


# -------------------------------------------------------------------------------- the chapter


FEW = {
    "finetune_steps": 2, "batch_size": 1, "steps": 2, "segmenter_steps": 2, "segmenter_batch": 2,
    "width": 1,
}  # fmt: skip
CASES = {
    "none of the four, ablated": {
        "concept": "fish", "n_images": 4, "n_val": 2, "n_train": 12, "n_synthetic": 2,
        "n_seeds": 2, "seed": 2, "ablate": "live", "least_area": 0.0, "most_area": 1.0, **FEW,
    },
    "as little as can be": {
        "n_images": 1, "n_val": 1, "n_train": 1, "n_synthetic": 1, "rule": "percentile",
        "difficulty": 1.0, "ablate": "recorded", "least_area": 0.9, "most_area": 0.9, **FEW,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def executed(request, clueless, tmp_path_factory) -> Run:
    return run_oddly("07_evaluation", clueless, tmp_path_factory.mktemp("chapter"), request.param)


class TestChapter(ChapterHolds):
    name, figures = "07_evaluation", 11
    typed = frozenset({"3.6"})  # Human3.6m is a name


def test_results_have_the_names_that_others_rely_on(executed):
    given, notebook, _ = executed
    found = gather_results(notebook, "07_evaluation")
    c = given.get("concept", "bird")
    trained = ("m_pre", "d_s", "d_s_synthetic", "coloured", "attended", "supervised")
    called = [f"unet_{k}.{c}" for k in trained]
    called += [f"baseline.{k}.{c}" for k in ("otsu", "grabcut", "daam")]
    for name in (f"{one}.{score}" for one in called for score in ("acc", "iou", "miou", "box_iou")):
        record = found[name]
        assert record["n"] == given["n_images"] and record["source"] == "live"
        assert record["ci95"][0] <= record["value"] <= record["ci95"][1]
    assert not any(name.startswith(("m_pre.", "m_refined.", "m_hat.")) for name in found)
    supervised = found[f"unet_supervised.{c}.iou"]["paper"]
    assert supervised == (0.883 if c == "bird" else None)


def test_ablations_are_glued_where_they_were_made(executed):
    given, notebook, _ = executed
    found = gather_results(notebook, "07_evaluation")
    made = {name for name in found if name.startswith("ablation.")}
    assert bool(made) == (given["ablate"] == "live")
    assert all(name.startswith("ablation.fish.") for name in made)


def test_synthetic_images_are_weighed_beside_parts_of_d_s(executed):
    given, notebook, _ = executed
    found = gather_results(notebook, "07_evaluation")
    concept = given.get("concept", "bird")
    gains = {name for name in found if name.startswith(f"evaluation.{concept}.gain_helped_")}
    beside = [k for k in ablations.FEW if k < given["n_train"]]
    assert gains == {f"evaluation.{concept}.gain_helped_{k}" for k in beside}
    for kind in ("images", "helped"):
        counts = [name for name in found if name.startswith(f"evaluation.{concept}.{kind}.")]
        assert len(counts) == len(beside) + 1


def test_what_the_autoencoder_costs_is_measured(executed):
    given, notebook, _ = executed
    found = gather_results(notebook, "07_evaluation")
    for name in ("d_s", "d_s_synthetic", "supervised"):
        gain = found[f"evaluation.{given.get('concept', 'bird')}.gain_autoencoder_{name}"]
        assert gain["unit"] == "points" and gain["n"] == given["n_images"]
