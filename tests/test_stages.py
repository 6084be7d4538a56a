"""Stages of fine-tuning and removal: what they keep is what the library gives, made once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import pocket_shaped

from cdlib import stages
from cdlib.baselines import crop_baseline, cv2_inpaint
from cdlib.datasets import Dataset, load_dataset
from cdlib.finetune import finetune
from cdlib.inpaint import remove, synthesise
from cdlib.masks import preliminary_mask, refine, upsample_mask
from cdlib.metrics import boundary_f, pooled_scores, psnr, ssim
from cdlib.stages import finetuning
from cdlib.store import Store
from cdlib.world import CONCEPTS

Y_F = "a photo of a bird"
RUN = {"y_f": Y_F, "steps": 8, "batch_size": 4, "n_samples": 2, "denoise_steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def pipe():
    return pocket_shaped()


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("pocket", concept="bird", split="test", limit=4)


@pytest.fixture(scope="module")
def m_pre(data) -> torch.Tensor:
    """Half a coarse truth: some of each bird is missed, as M_pre does."""
    cells = data.masks.unfold(1, 4, 4).unfold(2, 4, 4).float().mean((3, 4)) > 0.3
    cells[:, :, ::3] = False
    return cells


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def made(pipe, data, m_pre, store):
    return stages.m_prime_artifact(pipe, data.images, m_pre, **RUN, store=store)


# --------------------------------------------------------------------------------- m_pre, m'


def test_m_pre_is_that_of_the_map(store):
    maps = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1))
    m_hat = store.get("m_hat", lambda: {"m_hat": maps})
    assert torch.equal(
        stages.m_pre_artifact(m_hat, store=store)["m_pre"], preliminary_mask(maps, "gmm")
    )
    valid = torch.ones(3, 8, 8, dtype=torch.bool)
    valid[:, 4:] = False
    inside = stages.m_pre_artifact(m_hat, rule="otsu", valid=valid, store=store)["m_pre"]
    assert torch.equal(inside, preliminary_mask(maps, "otsu", valid=valid))


def test_m_prime_is_what_fine_tuning_ends_with(pipe, data, m_pre, made):
    settings = {"y_f": Y_F, "steps": 8, "batch_size": 4, "seed": 3, "every": 1}
    *_, last = finetune(pipe, data.images, m_pre, **settings)
    trained = last.pipeline(ema=True).unet.state_dict()
    m_prime = stages.load_m_prime(pipe, made)
    for name, weight in m_prime.unet.state_dict().items():
        assert torch.equal(weight, trained[name].half().float()), name
    log = made["log"].drop(columns="seconds")
    pd.testing.assert_frame_equal(log, pd.DataFrame(last.log)[list(log)].astype(log.dtypes))
    assert list(log) == ["step", "loss", "loss_f", "loss_b"] and list(log.step) == [*range(1, 9)]


def test_m_prime_is_a_frozen_pipeline_beside_m(pipe, made):
    before = {name: weight.clone() for name, weight in pipe.unet.state_dict().items()}
    m_prime = stages.load_m_prime(pipe, made)
    assert m_prime.vae is pipe.vae and m_prime.unet is not pipe.unet
    assert not m_prime.unet.training and not any(w.requires_grad for w in m_prime.unet.parameters())
    assert all(torch.equal(weight, before[n]) for n, weight in pipe.unet.state_dict().items())
    assert any((weight != before[n]).any() for n, weight in m_prime.unet.state_dict().items())


def test_samples_are_drawn_from_one_noise_as_training_goes(pipe, made):
    assert made["sample_steps"] == [0, 1, 2, 4, 8]
    how = {"steps": 2, "seed": 3}
    first = synthesise(pipe, 2, y_f=Y_F, **how), synthesise(pipe, 2, **how)
    assert torch.equal(made["samples_f"][0], first[0])
    assert torch.equal(made["samples_b"][0], first[1])
    assert made["samples_f"].shape == made["samples_b"].shape == (5, 2, 3, 64, 64)
    last = synthesise(stages.load_m_prime(pipe, made), 2, **how)
    assert torch.allclose(made["samples_b"][-1], last, atol=0.02)  # kept in half precision


def test_a_stopped_fine_tuning_goes_on(pipe, data, m_pre, made, tmp_path, monkeypatch):
    def stop_at_third(model, n, **how):
        if sum(1 for _ in tmp_path.rglob("[0-9].safetensors")) == 3:
            raise KeyboardInterrupt
        return synthesise(model, n, **how)

    stop_at_third.__module__ = synthesise.__module__  # so that the key is the same
    store = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "synthesise", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            stages.m_prime_artifact(pipe, data.images, m_pre, **RUN, store=store)
    assert not list(tmp_path.glob("m_prime-*"))
    steps = []

    def watched(*args, **settings):
        for state in finetune(*args, **settings):
            steps.append(state.step)
            yield state

    watched.__module__ = finetune.__module__
    monkeypatch.setattr(finetuning, "finetune", watched)
    again = stages.m_prime_artifact(pipe, data.images, m_pre, **RUN, store=store)
    assert steps[0] > 1 and steps[-1] == 8 and again.key == made.key
    assert all(torch.equal(again["unet"][name], made["unet"][name]) for name in made["unet"])
    assert torch.equal(again["samples_f"][0], made["samples_f"][0])
    assert torch.equal(again["samples_b"][-1], made["samples_b"][-1])
    assert list(again["log"].step) == [*range(1, 9)]
    assert not list((tmp_path / ".unfinished").iterdir())


def test_m_prime_is_made_again_when_anything_changes(pipe, data, m_pre, made, store):
    def ask(images=data.images, masks=m_pre, **changes):
        return stages.m_prime_artifact(pipe, images, masks, **RUN | changes, store=store).key

    assert ask() == made.key
    quick = {"steps": 1, "n_samples": 1, "denoise_steps": 1}
    others = [
        ask(**quick),
        ask(**quick, lora_rank=2),
        ask(**quick, lr=1e-3),
        ask(**quick, keep="float32"),
        ask(data.images.flip(3), **quick),
        ask(masks=~m_pre, **quick),
    ]
    assert len({made.key, *others}) == 7


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"keep": "float8"}, "keep='float8': allowed are float16"),
        ({"steps": 0}, "steps=0"),
        ({"checkpoint": "here"}, "checkpoint: is chosen"),
        ({"every": 3}, "every: is chosen"),
        ({"noise": "rectangel"}, "noise='rectangel'.*'rectangle'"),
    ],
)
def test_wrong_settings_are_named(pipe, data, m_pre, store, changes, says):
    with pytest.raises(ValueError, match=says):
        stages.m_prime_artifact(pipe, data.images, m_pre, **RUN | changes, store=store)


# ------------------------------------------------------------------------------------ removal


def test_removal_is_kept_as_it_was_made(pipe, data, m_pre, store):
    plain = remove(pipe, data.images, m_pre, steps=3, seed=2)
    kept = {
        precision: stages.removal_artifact(
            pipe, data.images, m_pre, steps=3, seed=2, precision=precision, store=store
        )
        for precision in ("fp32", "bf16")
    }
    assert torch.equal(kept["fp32"]["removed"], plain)
    assert torch.allclose(kept["bf16"]["removed"], plain, atol=0.2)
    assert kept["fp32"].key != kept["bf16"].key
    with pytest.raises(ValueError, match="precision='fp8'"):
        stages.removal_artifact(pipe, data.images, m_pre, precision="fp8", store=store)


# --------------------------------------------------------------------------------- evaluation


@pytest.fixture(scope="module")
def removed(data, m_pre) -> dict[str, torch.Tensor]:
    """A poor painter, who greys the region, and a perfect one."""
    hole = upsample_mask(m_pre, (64, 64))[:, None]
    return {
        "m": torch.where(hole, torch.tensor(0.5), data.images),
        "m_prime": torch.where(hole, data.plates, data.images),
    }


@pytest.fixture(scope="module")
def evaluated(data, removed, m_pre, store):
    return stages.evaluation_artifact(data, removed, m_pre, store=store)


def test_removals_are_measured_inside_the_object_against_the_plate(data, removed, evaluated):
    found = stages.removal_estimates(evaluated)
    for name, images in removed.items():
        inside = psnr(images, data.plates, data.masks), ssim(images, data.plates, data.masks)
        assert found[name]["psnr"].value == pytest.approx(inside[0].mean())
        assert found[name]["ssim"].value == pytest.approx(inside[1].mean())
        assert found[name]["psnr"].n == len(data)
    assert found["untouched"]["psnr"].value < found["m_prime"]["psnr"].value
    assert found["plate"].keys() == {"leakage"}


def test_leakage_is_the_share_of_images_in_which_the_concept_is_seen(data, removed, evaluated):
    found = stages.removal_estimates(evaluated)
    bird = CONCEPTS.index("bird")
    for name, images in {"untouched": data.images, "plate": data.plates, **removed}.items():
        seen = stages.seen_objects(images)[:, bird]
        assert found[name]["leakage"].value == seen.mean()
    assert found["untouched"]["leakage"].value > found["plate"]["leakage"].value


def test_baselines_and_the_better_of_two(data, m_pre, evaluated):
    pictures, pixels = evaluated["pictures"], upsample_mask(m_pre, (64, 64))
    assert torch.equal(pictures["m_crop"], crop_baseline(data.images, m_pre))
    by = {way: cv2_inpaint(data.images, pixels, method=way) for way in ("telea", "ns")}
    scores = {way: psnr(by[way], data.plates, data.masks).mean() for way in by}
    assert torch.equal(pictures["cv2_ns"], by["ns"])
    better = max(scores, key=scores.get)
    assert stages.better_cv2(evaluated) == f"cv2_{better}"
    found = stages.removal_estimates(evaluated)
    assert found["cv2"]["psnr"].value == pytest.approx(scores[better])


def test_masks_are_scored_against_the_truth(data, removed, m_pre, evaluated):
    masks, found = evaluated["masks"], stages.mask_estimates(evaluated)
    assert set(masks) == set(found) == {"m_pre", "m_crop", "m_refined", "m_refined_m"}
    assert torch.equal(masks["m_refined"], refine(data.images, removed["m_prime"], m_pre))
    for name, mask in masks.items():
        pooled = pooled_scores(mask, data.masks)
        assert {score: found[name][score].value for score in pooled} == pytest.approx(pooled)
        outline = boundary_f(mask, data.masks)
        assert found[name]["boundary_f"].value == pytest.approx(outline.mean())
        low, high = found[name]["iou"].ci95
        assert low <= found[name]["iou"].value <= high
    rows = evaluated["mask_images"].query("mask == 'm_refined'")
    assert list(rows.image) == data.names
    assert found["m_refined"]["iou"].value > found["m_refined_m"]["iou"].value


def strip(data: Dataset, *fields: str) -> Dataset:
    """The same examples with less known about them, as in a reader's own folder."""
    nothing = dict.fromkeys(fields)
    examples = [type(e)(**{**vars(e), **nothing}) for e in data]
    return Dataset(examples, data.concept, data.split)


def test_without_plates_masks_alone_are_scored(data, removed, m_pre, evaluated, store):
    made = stages.evaluation_artifact(strip(data, "plate"), removed, m_pre, store=store)
    assert set(made) == {"pictures", "masks", "mask_images", "mask_scores"}
    assert stages.mask_estimates(made) == stages.mask_estimates(evaluated)
    assert stages.removal_estimates(made) == {}


def test_without_masks_nothing_is_scored(data, removed, m_pre, store):
    made = stages.evaluation_artifact(strip(data, "plate", "mask"), removed, m_pre, store=store)
    assert set(made) == {"pictures", "masks"}
    assert stages.mask_estimates(made) == {} == stages.removal_estimates(made)


def test_the_judge_keeps_to_what_it_knows(store, m_pre):
    chests = load_dataset("pocket", concept="mass", split="test", limit=4)
    made = stages.evaluation_artifact(chests, {"m": chests.images}, m_pre, store=store)
    assert np.isnan(made["removals"].seen).all()
    found = stages.removal_estimates(made)
    assert found["m"].keys() == {"psnr", "ssim"} and "m_refined" not in made["masks"]


def test_pictures_that_do_not_fit_are_named(data, m_pre, store):
    with pytest.raises(ValueError, match=r"removed\['m'\]: must be \(4, 3, 64, 64\)"):
        stages.evaluation_artifact(data, {"m": data.images[:2]}, m_pre, store=store)


# -------------------------------------------------------------------------------------- judge


def test_the_judge_sees_what_is_there():
    for concept in ("car", "person"):
        scenes = load_dataset("pocket", concept=concept, split="test", limit=24)
        column = stages.concept_index(concept)
        assert stages.seen_objects(scenes.images)[:, column].mean() > 0.8
        assert stages.seen_objects(scenes.plates)[:, column].mean() < 0.2


def test_the_judge_is_asked_sensibly(data):
    with pytest.raises(ValueError, match="concept='brid'.*'bird'"):
        stages.concept_index("brid")
    with pytest.raises(ValueError, match="least=1.5"):
        stages.seen_objects(data.images, least=1.5)
    odds = stages.seen_odds(data.images)
    assert odds.shape == (4, len(CONCEPTS)) and ((odds >= 0) & (odds <= 1)).all()
    assert (stages.seen_objects(data.images, 0.9) == (odds >= 0.9)).all()
