"""Chapter 5: its figures, and the chapter with a clueless model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from held import ChapterHolds, Run, run_oddly

from cdlib.figures import synthetic as draw
from cdlib.metrics import Estimate
from cdlib.results import gather_results

pytestmark = pytest.mark.usefixtures("closed_figures")

# ------------------------------------------------------------------------------------ figures


def scenes(n: int, size: int = 16):
    return torch.rand(n, 3, size, size), torch.rand(n, size, size) < 0.3


def test_the_loop_has_a_row_for_each_image():
    images, masks = scenes(2)
    fig = draw.loop(images, torch.rand(2, 4, 4), torch.ones(2, 4, 4) > 0, images, masks)
    assert len(fig.axes) == 10
    fig.canvas.draw()


def test_bounds_out_of_sight_are_not_drawn():
    shares = {"one": np.array([0.1, 0.2]), "other": np.zeros(0)}
    near, far = draw.areas(shares, (0.01, 0.4)), draw.areas(shares, (0.01, 0.9))
    dashed = [sum(line.get_linestyle() == "--" for line in f.axes[0].lines) for f in (near, far)]
    assert dashed == [2, 1]


def test_measures_that_are_missing_leave_their_panel_empty():
    one = Estimate(0.5, (0.4, 0.6), 9)
    found = {"some": {"fid": one}, "few": {}}
    fig = draw.quality(found, {"fid": "FID", "kid": "KID"})
    assert [len(ax.containers) for ax in fig.axes] == [1, 0]
    fig.canvas.draw()


def test_guidance_that_was_not_measured_leaves_the_papers_alone():
    fig = draw.fid_by_guidance({}, {1.0: 9.8, 3.0: 11.3})
    assert [len(ax.lines) for ax in fig.axes] == [0, 1]
    fig.canvas.draw()


def test_signs_without_a_value_are_left_out():
    nothing = np.full(3, np.nan)
    pairs = {"a": (np.array([0.1, 0.5, 0.9]), nothing), "b": (nothing, nothing)}
    fig = draw.signs_of_trust(pairs, np.array([0.2, np.nan, 0.8]), ("real", "made"))
    assert len(fig.axes) == 4
    fig.canvas.draw()


def test_distances_may_all_be_zero():
    draw.distances({"real": np.zeros(3), "made": np.zeros(2)}).canvas.draw()


# -------------------------------------------------------------------------------- the chapter


FEW = {"finetune_steps": 1, "batch_size": 1, "n_train": 2, "steps": 3}
CASES = {
    "none of the four": {
        "concept": "fish", "n_images": 9, "n_synthetic": 9, "seed": 2, "feather": 2.5,
        **FEW, "n_train": 9, "least_area": 0.0, "most_area": 1.0,
    },
    "as little as can be": {
        "n_images": 1, "n_synthetic": 1, "rule": "percentile",
        "difficulty": 1.0, "feather": 0.0, **FEW, "n_train": 1, "steps": 1,
        "synthetic_scale": 1.0, "background_scale": 1.0,
    },
    "nothing is kept": {
        "concept": "person", "n_images": 2, "n_synthetic": 3, "least_area": 1.0, "most_area": 1.0,
        **FEW,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def executed(request, clueless, tmp_path_factory) -> Run:
    return run_oddly("05_synthetic", clueless, tmp_path_factory.mktemp("chapter"), request.param)


class TestChapter(ChapterHolds):
    name, figures = "05_synthetic", 11


def test_results_have_the_names_that_others_rely_on(executed):
    given, notebook, _ = executed
    found = gather_results(notebook, "05_synthetic")
    c = given.get("concept", "bird")
    enough = min(given["n_synthetic"], given["n_train"]) >= 8
    for name in ("fid", "kid", "precision", "recall", "diversity"):
        assert (f"synthetic.{c}.{name}" in found) == enough, name
    for name in ("neighbours", "kept", "seen.foreground", "seen.background", "leakage"):
        record = found[f"synthetic.{c}.{name}"]
        assert record["n"] == given["n_synthetic"] and record["source"] == "live"
        assert record["ci95"][0] <= record["value"] <= record["ci95"][1]
    if given.get("least_area") == 1.0:
        assert found[f"synthetic.{c}.kept"]["value"] == 0


def test_both_formats_were_read_back(executed):
    shown = [o.get("data", {}).get("text/plain", "") for c in executed.notebook.cells
             for o in c.get("outputs", [])]  # fmt: skip
    (table,) = [text for text in shown if "masks read back exactly" in text]
    for line in table.splitlines()[1:]:
        *_, images, exact = line.split()
        assert images == exact and int(images) >= executed.given["n_synthetic"]
