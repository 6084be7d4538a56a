"""Chapter 2: its stages, what it says of maps and masks, its figures, and the chapter itself."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from held import ChapterHolds, Run, run_oddly
from scipy.stats import spearmanr
from tiny import pocket_shaped

from cdlib import diagnosis, stages
from cdlib.attention import attention_profile, concept_attention, cross_attention_layers
from cdlib.datasets import load_dataset
from cdlib.masks import preliminary_mask
from cdlib.metrics import pixel_auc
from cdlib.models import load_model
from cdlib.results import gather_results
from cdlib.store import Store

PROMPT = {"prompt": "a photo of a bird", "word": "bird"}


@pytest.fixture(scope="module")
def pipe():
    return pocket_shaped()


@pytest.fixture
def images():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------------------------- stages


def test_profile_is_concept_attention_taken_apart(pipe, images, monkeypatch):
    monkeypatch.setattr("cdlib.attention.profile.CHUNK", 2)  # chunks that do not divide the images
    found = attention_profile(pipe, images, **PROMPT, t0=3, steps=5, seed=4, n_detail=2)
    whole = concept_attention(pipe, images, **PROMPT, t0=3, steps=5, seed=4)
    layers = len(cross_attention_layers(pipe))
    assert found["detail"].shape == (2, layers, 5, 16, 16)
    assert torch.allclose(found["m_hat"], whole, atol=1e-6)
    assert torch.allclose(found["by_layer"].mean(1), whole, atol=1e-6)
    assert torch.allclose(found["by_timestep"][:, :3].mean(1), whole, atol=1e-6)
    assert torch.allclose(found["detail"].mean(1), found["by_timestep"][:2], atol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("t0", 6), ("t0", 0), ("n_detail", 0)])
def test_profile_names_what_is_out_of_range(pipe, images, name, value):
    with pytest.raises(ValueError, match=name):
        attention_profile(pipe, images, **PROMPT, **{"t0": 3, "steps": 5, name: value})


def test_m_hat_is_made_once_and_again_when_anything_changes(pipe, images, tmp_path):
    store, settings = Store(tmp_path), {**PROMPT, "t0": 2, "steps": 3}
    first = stages.m_hat_artifact(pipe, images, **settings, store=store)
    assert torch.equal(first["m_hat"], concept_attention(pipe, images, **settings))
    again = stages.m_hat_artifact(pipe, images.clone(), **settings, store=store)
    assert again.key == first.key and len(list(tmp_path.glob("m_hat-*"))) == 1
    others = [
        stages.m_hat_artifact(pipe, images.flip(3), **settings, store=store),
        stages.m_hat_artifact(pocket_shaped(seed=1), images, **settings, store=store),
        stages.m_hat_artifact(pipe, images, **settings, seed=1, store=store),
        stages.m_hat_artifact(pipe, images, **{**settings, "t0": 1}, store=store),
    ]
    assert len({first.key, *(one.key for one in others)}) == 5


def test_model_counts_by_content_not_by_place(tmp_path):
    pipe = pocket_shaped()
    keys = []
    for name in ("here", "there"):
        pipe.save_pretrained(tmp_path / name, safe_serialization=True)
        keys.append(stages.model_fingerprint(load_model(tmp_path / name, device="cpu")))
    assert keys[0] == keys[1]
    loaded = load_model(tmp_path / "here", device="cpu")
    next(loaded.unet.parameters()).data += 1e-3
    changed = stages.model_fingerprint(loaded)
    half = stages.model_fingerprint(load_model(tmp_path / "here", device="cpu", dtype="bfloat16"))
    assert len({keys[0], changed, half}) == 3


def test_tensor_fingerprint_sees_values_shape_and_type():
    x = torch.arange(12, dtype=torch.float32)
    different = [x, x + 1, x.view(3, 4), x.view(4, 3), x.double(), x.bfloat16(), x > 5]
    assert len({stages.tensor_fingerprint(one) for one in different}) == len(different)
    assert stages.tensor_fingerprint(x.view(3, 4)) == stages.tensor_fingerprint(
        x.view(3, 4).T.contiguous().T
    )


def test_native_size(pipe):
    assert stages.native_size(pipe) == 64


def test_estimates_are_glued_or_said_to_be_missing(monkeypatch):
    said = {}
    monkeypatch.setattr(
        stages.report, "glue", lambda name, value, **more: said.update({name: more})
    )
    monkeypatch.setattr(stages.report, "glue_text", lambda name, text: said.update({name: text}))
    stages.glue_estimate("a.b", diagnosis.Estimate.around(0.5, (0.51, 0.52), 1))
    stages.glue_estimate("a.c", None)
    assert said["a.b"]["ci95"] == (0.5, 0.52) and said["a.b"]["n"] == 1
    assert said["a.c"] == said["a.c.ci95"] == said["a.c.n"] == "not measured"


# ---------------------------------------------------------------------------------- diagnosis


def disc(n=4, size=32, radius=8):
    """n scenes with one disc each, at different places, and maps that follow it with noise."""
    y, x = np.mgrid[:size, :size]
    masks = np.stack([(y - 12 - k) ** 2 + (x - 14) ** 2 < radius**2 for k in range(n)])
    cells = masks.reshape(n, size // 4, 4, size // 4, 4).mean((2, 4))
    noise = np.random.default_rng(0).normal(0, 0.3, (n, 6, size // 4, size // 4))
    return torch.from_numpy(cells[:, None] + noise), torch.from_numpy(masks)


def test_curve_is_the_auc_of_running_means():
    by_timestep, truth = disc()
    curve = diagnosis.auc_against_t0(by_timestep, truth)
    assert curve.t0.tolist() == [1, 2, 3, 4, 5, 6]
    for row in curve.itertuples():
        assert row.auc == pytest.approx(pixel_auc(by_timestep[:, : row.t0].mean(1), truth))
        assert row.low <= row.auc <= row.high
    assert curve.auc.iloc[-1] > curve.auc.iloc[0]  # averaging takes noise away


def test_scores_are_perfect_for_a_perfect_map():
    truth = torch.zeros(2, 32, 32, dtype=torch.bool)
    truth[:, 8:24, 4:20] = True
    perfect = truth[:, ::4, ::4].float()
    found = diagnosis.score_maps(perfect, truth)
    assert found["auc"].value == 1
    corners = 4 * 16 / 256  # of the square, which the majority filter takes
    assert found["iou"].value == pytest.approx(1 - corners)


@pytest.mark.parametrize(
    ("aucs", "says"),
    [
        ([0.7, 0.8, 0.9], "has no fall to show"),
        ([0.9, 0.8, 0.7], "is highest at T₀ = 1, with 0.900, and falls to 0.700 at T₀ = 3"),
        ([0.7, 0.9, 0.8], "rises from 0.700 at T₀ = 1 to 0.900 at T₀ = 2 and falls to 0.800"),
        ([0.7], "has a single point, 0.700"),
    ],
)
def test_a_curve_is_told_as_it_is(aucs, says):
    t0 = range(1, len(aucs) + 1)
    curve = pd.DataFrame({"t0": t0, "auc": aucs, "low": np.array(aucs) - 0.1, "high": aucs})
    assert says in diagnosis.describe_curve(curve)


def test_plateau_holds_what_the_best_points_interval_holds():
    curve = pd.DataFrame({"t0": [1, 2, 3, 4], "auc": [0.5, 0.8, 0.9, 0.85], "low": 0.79})
    assert diagnosis.plateau(curve) == (2, 4)


def test_pooled_scores_tell_how_much_of_the_object_was_found():
    rng = np.random.default_rng(0)
    pred, truth = rng.random((2, 4, 16, 16)) < 0.4
    wrong, hit = (pred ^ truth).mean(), (pred & truth).mean()
    iou = hit / (pred | truth).mean()
    assert diagnosis.object_pixels_found(1 - wrong, iou) == pytest.approx(hit)
    paper = diagnosis.PAPER["bird"]
    assert diagnosis.object_pixels_found(paper["acc"], paper["iou"]) == pytest.approx(
        0.067, abs=5e-4
    )


def test_contrast_is_the_distance_between_object_and_ring():
    images, mask = np.zeros((2, 3, 16, 16)), np.zeros((2, 16, 16), dtype=bool)
    mask[0, 4:9, 4:9] = True
    images[0, 0][mask[0]] = 0.5  # a red square on black; the second image has no object
    found = diagnosis.colour_contrast(images, mask, margin=2)
    assert found[0] == pytest.approx(0.5) and np.isnan(found[1])


def test_thin_parts_are_what_no_square_covers():
    mask = np.zeros((1, 20, 20), dtype=bool)
    mask[0, 2:10, 2:14] = True  # a body, and two legs of two pixels
    legs = np.zeros_like(mask)
    legs[0, 10:18, 4:6] = legs[0, 10:18, 10:12] = True
    assert np.array_equal(diagnosis.thin_parts(mask | legs, 5), legs)
    assert diagnosis.recall(mask, legs).value == 0
    assert diagnosis.recall(mask | legs, legs).value == 1
    with pytest.raises(ValueError, match="part"):
        diagnosis.recall(mask, np.zeros_like(mask))


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(1)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    found = diagnosis.rank_correlation(np.append(x, np.nan), np.append(y, 0))
    assert found.value == pytest.approx(spearmanr(x, y).statistic) and found.n == 40
    assert found.ci95[0] < found.value < found.ci95[1]
    assert diagnosis.rank_correlation([1, 2], [1, 2]) is None
    assert diagnosis.rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_leakage_compares_other_objects_with_the_background():
    mask, other = np.zeros((2, 2, 16, 16), dtype=bool)
    mask[:, :4, :4], other[0, 8:12, 8:12] = True, True
    glow = np.zeros((2, 4, 4))
    glow[:, 0, 0] = 1
    assert diagnosis.leakage(glow, mask, other).value == 0.5  # others are as dark as background
    assert diagnosis.leakage(glow, mask, other).n == 1
    glow[0, 2, 2] = 0.5
    assert diagnosis.leakage(glow, mask, other).value == 1
    assert diagnosis.leakage(glow, mask, np.zeros_like(other)) is None


# -------------------------------------------------------------------------------- the chapter


CASES = {
    "none of the four": {"concept": "fish", "n_images": 5, "steps": 6, "seed": 2},
    "as little as can be": {"n_images": 1, "steps": 1, "rule": "percentile", "difficulty": 1.0},
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def executed(request, clueless, tmp_path_factory) -> Run:
    return run_oddly("02_attention", clueless, tmp_path_factory.mktemp("chapter"), request.param)


class TestChapter(ChapterHolds):
    name, figures = "02_attention", 12
    typed = frozenset({"0.5"})  # the AUC of chance


def test_results_have_every_concept_with_its_interval(executed):
    given, notebook, _ = executed
    found = gather_results(notebook, "02_attention")
    concepts = {"bird", "dog", "car", "person", given.get("concept", "bird")}
    for concept in concepts:
        for name in ("m_hat.{}.auc", "m_pre.{}.acc", "m_pre.{}.iou", "m_pre.{}.miou"):
            record = found[name.format(concept)]
            assert record["n"] == given["n_images"] and record["source"] == "live"
            assert record["ci95"][0] <= record["value"] <= record["ci95"][1]
            assert (record["paper"] is not None) == (concept == "bird"), name
    assert found["m_hat.bird.auc"]["paper"] == 0.971


def test_artifacts_of_a_run_serve_the_next(executed, clueless, monkeypatch):
    given, notebook, folder = executed
    monkeypatch.setattr(
        "cdlib.attention.profile.concept_attention", lambda *_, **__: pytest.fail("made again")
    )
    before = sorted(path.name for path in folder.iterdir())
    pipe, concept = load_model(clueless, device="cpu"), given.get("concept", "bird")
    data = load_dataset(
        "pocket", concept, limit=given["n_images"], difficulty=given.get("difficulty", 0.3)
    )
    settings = json.loads(next(folder.glob("attention_profile-*/manifest.json")).read_text())
    profile = stages.profile_artifact(
        pipe, data.images, **settings["params"], seed=given.get("seed", 0), store=Store(folder)
    )
    assert sorted(path.name for path in folder.iterdir()) == before
    found = gather_results(notebook, "02_attention")
    auc = pixel_auc(profile["m_hat"], data.masks)
    assert found[f"m_hat.{concept}.auc"]["value"] == pytest.approx(auc)
    m_pre = preliminary_mask(profile["m_hat"], given.get("rule", "otsu"), seed=given.get("seed", 0))
    whole = m_pre.repeat_interleave(4, 1).repeat_interleave(4, 2)
    right = (whole == data.masks).double().mean().item()
    assert found[f"m_pre.{concept}.acc"]["value"] == pytest.approx(right)
