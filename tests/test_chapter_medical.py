"""Chapter 8 with a clueless model and odd parameters, and the names of its results."""

from __future__ import annotations

import pytest
from held import ChapterHolds, Run, run_oddly

from cdlib.diagnosis import PAPER_CHEST_AUC
from cdlib.results import gather_results

FEW = {
    "finetune_steps": 1, "batch_size": 1, "n_val": 1, "n_train": 1, "segmenter_steps": 1,
    "segmenter_batch": 2, "width": 4,
}  # fmt: skip
CASES = {
    "the other finding": {
        **FEW, "finding": "effusion", "n_images": 3, "n_train": 2, "steps": 2, "dilate": 1,
        "seed": 2, "n_seeds": 2,
    },
    "as little as can be": {
        **FEW, "n_images": 1, "steps": 1, "rule": "percentile", "difficulty": 1.0,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def executed(request, clueless, tmp_path_factory) -> Run:
    return run_oddly("08_medical", clueless, tmp_path_factory.mktemp("chapter"), request.param)


class TestChapter(ChapterHolds):
    name, figures = "08_medical", 11


def test_results_of_both_findings_and_all_stages(executed):
    given, notebook, _ = executed
    found = gather_results(notebook, "08_medical")
    for finding in ("mass", "effusion"):
        for kind in ("masks", "boxes", "pooled", "perfect"):
            record = found[f"medical.{finding}.auc.{kind}"]
            assert record["n"] == given["n_images"] and record["source"] == "live"
            assert record["paper"] == (PAPER_CHEST_AUC if kind == "boxes" else None)
    c = given.get("finding", "mass")
    stages = (
        "m_pre",
        "m_refined_m",
        "m_refined_m_prime",
        "m_refined",
        "plate",
        "unet_m_pre",
        "unet_d_s",
        "unet_supervised",
    )
    names = [f"medical.{c}.{stage}.{score}" for stage in stages for score in ("acc", "iou", "miou")]
    names += [f"medical.{c}.m_pre_{cut}.iou" for cut in ("2", "2_bare", "3", "3_bare")]
    for who in ("m", "m_prime", "m_crop", "cv2"):
        names += [f"medical.{c}.psnr.{who}", f"medical.{c}.left.{who}"]
    for name in names:
        assert found[name]["ci95"][0] <= found[name]["value"] <= found[name]["ci95"][1], name


def test_the_world_is_said_to_be_drawn(executed):
    said = [c.source for c in executed.notebook.cells if c.cell_type == "markdown"]
    assert "drawn by a program" in said[0] and "diagnosis" in said[0]
