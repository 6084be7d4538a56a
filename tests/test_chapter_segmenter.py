"""Chapter 6: its figures, and the chapter with a clueless model and on a folder of one's own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from held import ChapterHolds, Run, outputs, run_oddly

from cdlib.datasets import export_imagefolder, load_dataset
from cdlib.figures import segmenter as draw
from cdlib.results import gather_results

pytestmark = pytest.mark.usefixtures("closed_figures")


# ------------------------------------------------------------------------------------ figures


def test_every_row_of_masks_stands_below_its_image():
    images, masks = torch.rand(2, 3, 16, 16), torch.rand(2, 16, 16) > 0.5
    rows = {"one": masks, "another": ~masks}
    fig = draw.masks_below(images, rows, truths=masks, titles=["a", "b"])
    assert len(fig.axes) == 6
    assert [ax.get_ylabel() for ax in fig.axes[::2]] == ["image", "one", "another"]
    assert [ax.get_title() for ax in fig.axes[:2]] == ["a", "b"]
    shown = [ax.images[0].get_array() for ax in fig.axes]
    picture = images[0].permute(1, 2, 0).numpy()
    assert np.allclose(shown[2][masks[0]], picture[masks[0]])  # what a mask holds keeps its colours
    assert np.allclose(shown[4][~masks[0]], picture[~masks[0]])


def test_there_is_a_curve_for_every_training_and_one_name_for_every_set():
    log = pd.DataFrame({"step": [1, 2], "loss": [0.7, 0.5], "val_iou": [np.nan, 0.5]})
    names = {"d_s": "$D_s$", "mine": "mine"}
    fig = draw.training_curves({"d_s": [log, log], "mine": [log]}, names)
    assert [len(ax.lines) for ax in fig.axes] == [3, 3]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["$D_s$", "mine"]
    fig.canvas.draw()


def test_curves_of_agreement_are_told_apart_by_their_names():
    logs = {
        w: pd.DataFrame({"step": [1, 2], "val_iou": [0.4, v]}) for w, v in (("a", 0.5), ("b", 1))
    }
    fig = draw.agreement_curves(logs)
    (ax,) = fig.axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.4, 0.5], [0.4, 1]]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a", "b"]
    assert len({line.get_color() for line in ax.lines}) == 2


# -------------------------------------------------------------------------------- the chapter


FEW = {"finetune_steps": 1, "batch_size": 1, "n_train": 2, "n_images": 1, "n_val": 2}
TINY = {"width": 2, "segmenter_steps": 2, "segmenter_batch": 2}
CASES = {
    "none of the four": {
        "concept": "fish", "steps": 3, "seed": 2, "n_synthetic": 3, "n_seeds": 2, **FEW, **TINY,
    },
    "as little as can be": {
        "steps": 1, "rule": "percentile", "difficulty": 1.0, "n_synthetic": 1, **FEW, **TINY,
        "n_train": 1, "n_val": 1, "segmenter_steps": 1, "segmenter_batch": 1, "width": 1,
    },
    "a folder": {"n_seeds": 2, **FEW, **TINY},
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES.items(), ids=CASES.keys())
def executed(request, clueless, tmp_path_factory) -> Run:
    case, odd = request.param
    folder = tmp_path_factory.mktemp("chapter")
    if case == "a folder":
        data = load_dataset("pocket", "dog", "train", limit=5, size=48)
        odd = {**odd, "data": str(export_imagefolder(folder / "mine", data.images, data.masks))}
    return run_oddly("06_segmenter", clueless, folder, odd)


class TestChapter(ChapterHolds):
    name, figures = "06_segmenter", 6


def test_what_needs_the_model_is_measured_or_said_not_to_be(executed):
    glued = {
        o["metadata"]["scrapbook"]["name"]: next(iter(o["data"].values())).strip("'")
        for o in outputs(executed.notebook)
        if "scrapbook" in o.get("metadata", {})
    }
    own = "data" in executed.given
    for name in ("segmenter.speedup", "segmenter.time.pipeline", "segmenter.repeated.training"):
        assert (glued[name] == "not measured") == own, name
    one_seed = executed.given.get("n_seeds", 1) == 1
    assert (glued["segmenter.agreement.seeds"] == "not measured") == one_seed
    made = {one.name.partition("-")[0] for one in executed.store.iterdir()}
    assert "segmenter" in made and ("m_prime" in made) != own
    assert "not measured" not in glued["segmenter.onnx.difference"]


def test_every_set_is_reported(executed):
    found = gather_results(executed.notebook, "06_segmenter")
    sets = ("given",) if "data" in executed.given else ("m_pre", "d_s", "supervised")
    for name in sets:
        assert 0 <= found[f"segmenter.val_iou.{name}"]["value"] <= 1
    assert ("segmenter.val_iou.d_s" in found) == ("data" not in executed.given)
