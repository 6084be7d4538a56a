"""Ablations: every choice made with a tiny model, their table, and its way into records."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
import tiny
import torch

from cdlib.figures import evaluation as draw
from cdlib.metrics import Estimate
from cdlib.stages import (
    Distillation,
    ablations,
    synthetic_artifact,
    trained_nets,
    training_sets,
)
from cdlib.stages.ablations import masks as of_masks
from cdlib.stages.ablations import nets as of_nets
from cdlib.store import Store

pytestmark = pytest.mark.usefixtures("closed_figures")
FEW = {
    "preset": "quick", "n_train": 3, "n_val": 2, "n_images": 2, "steps": 5, "finetune_steps": 4,
    "batch_size": 2, "n_synthetic": 3, "segmenter_steps": 2, "segmenter_batch": 2, "n_seeds": 2,
    "width": 2, "least_area": 0.0, "most_area": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Distillation:
    return tiny.distillation(FEW, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def synthetic(made):
    """D'_s with masks of our own: what the filter keeps of a random model's is not the same on
    every machine, and may be nothing."""
    drawn = dict(synthetic_artifact(made, made.p.n_synthetic, least_area=0, most_area=1))
    kept = torch.ones(len(drawn["images"]), dtype=torch.bool)
    masks = torch.zeros(len(kept), *drawn["images"].shape[2:], dtype=torch.bool)
    masks[:, 20:40, 24:44] = True
    composites = {"composites": drawn["images"].flip(0), "composite_masks": masks.float()}
    return drawn | {"kept": kept, "m_refined": masks} | composites


@pytest.fixture(scope="module")
def nets(made, synthetic):
    return trained_nets(made, synthetic)


@pytest.fixture(scope="module")
def spent() -> dict[str, list]:
    """What is made on the way: the steps of each fine-tuning, the width of each training."""
    return {"fine-tunings": [], "removals": [], "trainings": []}


@pytest.fixture(scope="module")
def table(made, synthetic, nets, spent) -> pd.DataFrame:
    made.labels("val")
    store_get = Store.get

    def get(self, stage, make, **of):
        def made_anew(*scratch):
            if stage == "m_prime":
                spent["fine-tunings"].append(of["params"]["steps"])
            if stage == "segmenter":
                spent["trainings"].append(of["params"]["width"])
            if stage == "removal":
                spent["removals"].append(stage)
            return make(*scratch)

        return store_get(self, stage, made_anew, **of)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "get", get)
        variants = ablations.ablations(made, synthetic, nets)
        return ablations.ablation_table(variants, made.data("val").masks)


def test_a_training_with_a_parameter_that_there_is_not_names_it(made):
    pair = torch.rand(2, 3, 64, 64), torch.zeros(2, 64, 64)
    with pytest.raises(ValueError, match="'recolour'.*segmenter_recolour"):
        ablations.train_on(made, *pair, recolour=0.0)


def test_every_choice_has_a_reference_and_something_else(table):
    for choice in set(ablations.CHOICES):
        rows = table[table["choice"] == choice]
        assert rows["reference"].any() and not rows["reference"].all(), choice
        assert rows.iloc[0]["reference"]
        assert (rows[rows["reference"]][["gain", "gain_low", "gain_high"]] == 0).all().all()
    assert table["iou"].between(0, 1).all() and (table["n"] == FEW["n_val"]).all()
    assert (table["gain_low"] <= table["gain"]).all() and (
        table["gain"] <= table["gain_high"]
    ).all()


def test_settings_are_what_they_say(table):
    def words(choice: str) -> list[str]:
        return list(dict.fromkeys(table.loc[table["choice"] == choice, "words"]))

    assert words("t0") == ["T₀ = 4", "T₀ = 1", "T₀ = 2", "T₀ = 5"]
    assert words("n_noise") == ["N = 1", "N = 4"]
    assert sorted(words("rule")) == ["gmm", "otsu", "percentile", "posterior"]
    assert words("space") == ["CIELAB", "RGB"]
    assert words("finetune_steps") == ["4 steps", "0 steps", "1 steps", "2 steps"]
    assert words("p_foreground") == ["p = 0.5", "p = 0", "p = 1"]
    assert words("recolour") == ["strength 1", "strength 0"]
    assert words("width") == ["2", "1", "4"]


def test_they_cost_what_is_said(table, made, spent):
    costs = ablations.ablation_costs(made)
    assert costs["steps of fine-tuning"] == sum(spent["fine-tunings"]) == 1 + 2 + 2 + 2
    assert costs["trainings of a U-Net"] >= len(spent["trainings"]) >= 3
    # masks that come out alike share their removal
    assert costs["removals, of an image each"] >= 2 * len(spent["removals"]) > 0


def test_the_mean_over_fewer_timesteps_is_that_of_fewer(made):
    fewer = made.but(t0=2)
    expected = fewer.attention(made.data("val").images)
    found = of_masks._profile(made)["by_timestep"][:, :2].mean(1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_table_comes_back_from_its_results(table):
    results = ablations.ablation_results(table, "bird")
    other = {"m_refined.bird.iou": Estimate(0.5, (0.4, 0.6), 9)}
    again = ablations.table_of_results(dict(sorted((results | other).items())), "bird")
    pd.testing.assert_frame_equal(again, table)
    assert ablations.table_of_results(results, "dog").empty
    assert "ablation.bird.p_foreground.0_5.m_refined.iou" in results
    assert "ablation.bird.p_foreground.0_5.m_refined.gain" not in results
    assert all(name == name.lower() for name in results)


def test_a_choice_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'width'"):
        ablations.Variant.of("widht", 3, {})


def test_networks_learn_from_fewer_images(made, synthetic, nets):
    images = made.data("test").images
    known = {f"unet_{k}": [net.predict(images) for net in nets[k]] for k in nets}
    n = FEW["n_train"]
    curve = ablations.learning_curve(made, "test", synthetic, known, few=(2, n, n + 1, 1))
    assert [*curve["images"]] == [*curve["helped"]] == [1, 2, n]
    assert [*curve["added"]] == [0, 3, 6]
    for kind, whole, name in (("images", n, "d_s"), ("helped", n, "d_s_synthetic")):
        assert curve[kind][whole] is known[f"unet_{name}"]
    assert curve["added"][0] is known["unet_d_s"]
    assert curve["added"][6] is known["unet_d_s_synthetic"]
    (images_of, masks_of), (more, soft) = of_nets._apart(training_sets(made, synthetic))
    by_hand = {
        "images": (images_of[:2], masks_of[:2]),
        "helped": (torch.cat([images_of[:2], more]), torch.cat([masks_of[:2], soft])),
    }
    for kind, pairs in by_hand.items():
        assert len(curve[kind][2]) == FEW["n_seeds"]
        for masks, net in zip(curve[kind][2], of_nets.train_all(made, *pairs), strict=True):
            assert torch.equal(masks, net.predict(images))


def test_parts_are_trained_on_from_every_seed(monkeypatch):
    trained = []

    def train_all(made, images, masks):
        trained.append(len(images))
        return [SimpleNamespace(predict=lambda images: "answer")] * 3

    monkeypatch.setattr(of_nets, "train_all", train_all)
    d_s = torch.zeros(32, 3, 8, 8), torch.zeros(32, 8, 8)
    every = torch.zeros(36, 3, 8, 8), torch.zeros(36, 8, 8)
    sets = {"d_s": d_s, "d_s_synthetic": every}
    monkeypatch.setattr(of_nets, "training_sets", lambda made, synthetic: sets)
    made = SimpleNamespace(data=lambda split: SimpleNamespace(images=split))
    known = {"unet_d_s": ["own"], "unet_d_s_synthetic": ["whole"]}
    curve = ablations.learning_curve(made, "test", None, known)
    assert trained == [10, 10 + 4, 32 + 2]
    assert curve == {
        "images": {10: ["answer"] * 3, 32: ["own"]},
        "helped": {10: ["answer"] * 3, 32: ["whole"]},
        "added": {0: ["own"], 2: ["answer"] * 3, 4: ["whole"]},
    }


def test_without_synthetic_images_there_is_nothing_to_add(made, nets):
    d_s = torch.zeros(3, 3, 64, 64), torch.zeros(3, 64, 64)
    own, added = of_nets._apart({"d_s": d_s, "d_s_synthetic": d_s})
    assert own is d_s and len(added[0]) == len(added[1]) == 0
    assert of_nets._counts(0, (0.5,)) == []


def test_synthetic_images_are_mixed_and_keep_their_masks():
    images = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 3, 4, 4)
    sets = {"d_s": (images[:2], images[:2, 0]), "d_s_synthetic": (images, images[:, 0])}
    _, (found, masks) = of_nets._apart(sets)
    assert sorted(found[:, 0, 0, 0].tolist()) == [2, 3, 4, 5]
    assert torch.equal(found[:, 0], masks)


def test_the_figure_has_a_row_for_every_setting(table):
    ax = draw.ablation_gains(table, ablations.CHOICES).axes[0]
    settings = table.drop_duplicates(["choice", "setting"])
    assert len(ax.get_yticklabels()) == len(settings) + len(ablations.CHOICES)
    empty = draw.ablation_gains(table[:0], ablations.CHOICES)
    assert empty.axes[0].texts[0].get_text() == "not measured for this model"


def test_odd_settings_leave_no_row_twice():
    p = SimpleNamespace(steps=1, t0=1, finetune_steps=1, p_foreground=1.0, width=1)
    assert of_masks._t0_settings(p) == [] and of_masks._path(p) == []
    assert of_masks._other_odds(p) == [0.0] and of_nets._widths(p) == [2]
