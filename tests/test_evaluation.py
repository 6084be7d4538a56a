"""One call for every method: equal to torchmetrics and scikit-learn, in the paper's protocol."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import binary_accuracy, binary_jaccard_index

import cdlib
from cdlib.datasets import Dataset, Example, load_dataset
from cdlib.evaluation import COLUMNS, evaluate
from cdlib.metrics import boundary_f, box_iou, centre_crop, max_f_beta, per_image_scores

FEW = {"n_boot": 20}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset(concept="car", limit=6)


@pytest.fixture(scope="module")
def odds(data) -> torch.Tensor:
    """Probabilities that are often right: (6, 64, 64)."""
    noise = torch.rand(data.masks.shape, generator=torch.Generator().manual_seed(0))
    return (0.6 * data.masks + 0.7 * noise).clamp(0, 1)


class Net:
    """A segmenter that finds what is red, at whatever size; it keeps what it was shown."""

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        self.seen = images
        return images[:, 0]


def test_it_is_part_of_the_public_api():
    assert cdlib.evaluate is evaluate


def test_scores_equal_torchmetrics_sklearn_and_the_metrics_room(data, odds):
    row = evaluate(odds, data, **FEW).loc["prediction"]
    pred, truth = odds >= 0.5, data.masks
    flat = pred.ravel().int(), truth.ravel().int()
    assert row["acc"] == pytest.approx(binary_accuracy(*flat).item(), abs=1e-6)
    assert row["iou"] == pytest.approx(binary_jaccard_index(*flat).item(), abs=1e-6)
    behind = binary_jaccard_index(1 - flat[0], 1 - flat[1]).item()
    assert row["miou"] == pytest.approx((row["iou"] + behind) / 2, abs=1e-6)
    assert row["auc"] == pytest.approx(roc_auc_score(flat[1], odds.ravel()))
    assert row["max_f"] == max_f_beta(odds, truth)[0]
    assert row["image_iou"] == pytest.approx(per_image_scores(pred, truth)["iou"].mean())
    assert row["image_miou"] == pytest.approx(per_image_scores(pred, truth)["miou"].mean())
    assert row["boundary_f"] == pytest.approx(boundary_f(pred, truth).mean())
    assert row["box_iou"] == pytest.approx(box_iou(pred, truth).mean())
    assert row["n"] == 6


def test_one_row_a_method_and_an_interval_around_every_score(data, odds):
    table = evaluate({"net": Net(), "truth": data.masks, "odds": odds.numpy()}, data, **FEW)
    assert table.index.tolist() == ["net", "truth", "odds"]
    for score in COLUMNS:
        known = table[score].notna()
        inside = table[f"{score}_low"].le(table[score]) & table[score].le(table[f"{score}_high"])
        assert inside[known].all() and table.loc[known, score].between(0, 1).all()
    known = table.loc["truth", list(COLUMNS)].dropna()
    assert (known == 1).all() and set(COLUMNS) - set(known.index) == {"auc", "max_f"}
    assert table["n"].tolist() == [6, 6, 6]


def test_the_same_seed_gives_the_same_table(data, odds):
    first, again, other = (evaluate(odds, data, n_boot=20, seed=s) for s in (0, 0, 1))
    assert first.equals(again) and not first.equals(other)


def test_the_threshold_is_reached_not_passed(data):
    half = torch.where(data.masks, 0.5, 0.0)
    assert evaluate(half, data, **FEW).loc["prediction", "iou"] == 1
    assert evaluate(half, data, threshold=0.6, **FEW).loc["prediction", "iou"] == 0


def test_maps_of_few_cells_are_brought_to_the_images_size(data):
    coarse = torch.rand(6, 16, 16, generator=torch.Generator().manual_seed(1))
    fine = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert evaluate(coarse, data, **FEW).equals(evaluate(fine, data, **FEW))
    assert evaluate(coarse > 0.5, data, **FEW).equals(evaluate(fine > 0.5, data, **FEW))


# --------------------------------------------------------------------------- crop and canvas


def framed(odds: torch.Tensor, data: Dataset) -> tuple[torch.Tensor, Dataset]:
    """The upper 48 rows of each image, at the top of a canvas of 64x64."""
    valid = torch.zeros(64, 64, dtype=torch.bool)
    valid[:48] = True
    examples = [
        Example(e.image * valid, e.mask & valid, None, e.name, e.split, valid=valid) for e in data
    ]
    return odds * valid, Dataset(examples, data.concept, data.split)


def test_the_crop_scores_the_middle_and_shows_it_to_the_net(data, odds):
    net = Net()
    table = evaluate({"net": net, "odds": odds}, data, crop=32, **FEW)
    assert torch.equal(net.seen, centre_crop(data.images, 32))
    pred, truth = centre_crop(odds, 32) >= 0.5, centre_crop(data.masks, 32)
    wanted = binary_jaccard_index(pred.ravel().int(), truth.ravel().int()).item()
    assert table.loc["odds", "iou"] == pytest.approx(wanted, abs=1e-6)
    assert evaluate(odds, data, crop=64, **FEW).equals(evaluate(odds, data, **FEW))


def test_the_canvas_beside_an_image_does_not_count(data, odds):
    made, padded = framed(odds, data)
    made[:, 48:] = 1.0  # whatever is said there
    row = evaluate(made, padded, **FEW).loc["prediction"]
    pred, truth = made[:, :48] >= 0.5, data.masks[:, :48]
    flat = pred.ravel().int(), truth.ravel().int()
    assert row["acc"] == pytest.approx(binary_accuracy(*flat).item(), abs=1e-6)
    assert row["iou"] == pytest.approx(binary_jaccard_index(*flat).item(), abs=1e-6)
    assert np.isnan(row["auc"]) and np.isnan(row["max_f"])


def test_the_crop_is_from_the_middle_of_the_image_not_of_its_canvas(data, odds):
    made, padded = framed(odds, data)
    row = evaluate(made, padded, crop=48, **FEW).loc["prediction"]
    truth = data.masks[:, :48, 8:56]
    pred = made[:, :48, 8:56] >= 0.5
    wanted = binary_jaccard_index(pred.ravel().int(), truth.ravel().int()).item()
    assert row["iou"] == pytest.approx(wanted, abs=1e-6) and not np.isnan(row["auc"])


# ------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("predictor", "how", "says"),
    [
        ({}, {}, "predictor: there is no method"),
        ("net", {}, r"predictor\['prediction'\]: must be masks"),
        ({"a": torch.zeros(5, 64, 64)}, {}, r"predictor\['a'\]: expected \(6, H, W\)"),
        (torch.full((6, 64, 64), 1.5), {}, r"floats in \[0, 1\], not torch.float32 from 1.5"),
        (torch.zeros(6, 64, 64, dtype=torch.int64), {}, "not torch.int64"),
        (torch.zeros(6, 64, 64), {"threshold": 2}, "threshold=2"),
        (torch.zeros(6, 64, 64), {"crop": 0}, "crop=0"),
    ],
)
def test_refusals(data, predictor, how, says):
    with pytest.raises(ValueError, match=says):
        evaluate(predictor, data, **how)


def test_images_without_masks_cannot_be_scored(data, odds):
    bare = [Example(e.image, None, None, e.name, e.split) for e in data]
    with pytest.raises(ValueError, match="have no mask"):
        evaluate(odds, Dataset(bare, data.concept, data.split))
