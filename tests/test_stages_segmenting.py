"""Segmenters in the store: what is trained on which masks, kept, watched and loaded again."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cdlib import stages
from cdlib.datasets import Dataset, Example, export_imagefolder, load_dataset
from cdlib.masks import upsample_mask
from cdlib.segmenter import segmenter_steps, train_segmenter
from cdlib.stages import Labels, segmenting
from cdlib.store import Store

RUN = {
    "width": 2,
    "steps": 8,
    "batch_size": 4,
    "lr": 1e-2,
    "average": 0.5,
    "recolour": 0.3,
    "seed": 3,
}
STEP = "cdlib.segmenter.training._Run.step"


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def labels(split: str, n: int) -> Labels:
    """Scenes with masks that are wrong in ways of their own at each stage."""
    data = load_dataset("pocket", "bird", split, limit=n, size=32)
    m_pre = data.masks.unfold(1, 4, 4).unfold(2, 4, 4).any(-1).any(-1)
    m_refined = data.masks & upsample_mask(m_pre.roll(1, 2), (32, 32))
    return Labels(data, m_pre.float(), m_pre, data.plates, m_refined)


@pytest.fixture
def made(store) -> SimpleNamespace:
    """What a Distillation says to the stages that train on its labels."""
    all_of_it = {"train": labels("train", 6), "val": labels("val", 3)}
    names = {"width": "width", "segmenter_steps": "steps", "segmenter_batch": "batch_size"}
    names |= {"segmenter_rate": "lr", "segmenter_average": "average", "seed": "seed"}
    names |= {"segmenter_recolour": "recolour"}
    p = {name: RUN[key] for name, key in names.items()}
    return SimpleNamespace(
        p=SimpleNamespace(**p, n_seeds=2, precision="auto"), store=store,
        labels=all_of_it.__getitem__, pipe=SimpleNamespace(device=torch.device("cpu")),
    )  # fmt: skip


@pytest.fixture
def synthetic() -> dict:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return {
        "images": images,
        "m_refined": images[:, 0] > 0.5,
        "kept": torch.tensor([True, False, True]),
        "composites": images[:2].flip(-1),
        "composite_masks": images[:2, 1],
    }


def test_the_artifact_is_what_training_ends_with(store):
    images, masks = labels("train", 5).data.images, labels("train", 5).m_refined
    val = labels("val", 2)
    val = (val.data.images, val.m_refined)
    made = stages.segmenter_artifact(images, masks, *val, **RUN, device="cpu", store=store)
    *_, last = segmenter_steps(images, masks, val=val, every=1, device="cpu", **RUN)
    net = stages.load_trained(made)
    for name, weight in last.segmenter().state_dict().items():
        assert torch.equal(net.state_dict()[name], weight), name
    assert list(made["log"]) == ["step", "loss", "val_iou", "seconds"]
    assert made["log"].step.tolist() == [*range(1, 9)]
    assert made["log"].val_iou.tolist() == [row["val_iou"] for row in last.log]
    assert net.trained == last.segmenter().trained and net.width == 2
    assert not (store.root / ".unfinished" / made.key).exists()


def test_it_is_made_once_and_known_by_all_that_it_depends_on(store, monkeypatch):
    part = labels("train", 3)
    images, masks = part.data.images, part.m_refined
    run = {**RUN, "steps": 1, "store": store, "device": "cpu"}
    first = stages.segmenter_artifact(images, masks, **run)
    assert np.isnan(first["log"].val_iou).all()
    others = [
        stages.segmenter_artifact(images, ~masks, **run),
        stages.segmenter_artifact(images, masks, images, masks, **run),
        *(stages.segmenter_artifact(images, masks, **{**run, name: 2}) for name in ("seed", "lr")),
    ]
    assert len({made.key for made in [first, *others]}) == 5
    monkeypatch.setattr(STEP, lambda *_: pytest.fail("trained again"))
    assert stages.segmenter_artifact(images, masks, **run).key == first.key


def test_a_run_that_was_killed_goes_on(store, monkeypatch):
    part = labels("train", 4)
    asked = (part.data.images, part.m_refined)

    def killed(*args, **how):
        for state in segmenter_steps(*args, **how):
            yield state
            if state.step == 3:
                raise KeyboardInterrupt

    # the key is made of the function's module, so the stand-in has to say it is from there
    killed.__module__ = segmenter_steps.__module__
    monkeypatch.setattr(segmenting, "segmenter_steps", killed)
    with pytest.raises(KeyboardInterrupt):
        stages.segmenter_artifact(*asked, **RUN, device="cpu", store=store)
    monkeypatch.undo()
    begun = []
    original = segmenter_steps.__globals__["_Run"].step
    monkeypatch.setattr(STEP, lambda run, number: (begun.append(number), original(run, number))[1])
    made = stages.segmenter_artifact(*asked, **RUN, device="cpu", store=store)
    assert begun == [3, 4, 5, 6, 7]
    whole = train_segmenter(*asked, **RUN, device="cpu")
    for name, weight in stages.load_trained(made).state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name]), name


def test_training_sets_are_what_their_names_say(made, synthetic):
    sets = stages.training_sets(made, synthetic)
    assert tuple(sets) == segmenting.TRAINING_SETS
    part = made.labels("train")
    wanted = {
        "m_pre": upsample_mask(part.m_pre, (32, 32)), "d_s": part.m_refined,
        "supervised": part.data.masks,
    }  # fmt: skip
    for name, masks in wanted.items():
        assert torch.equal(sets[name][0], part.data.images)
        assert torch.equal(sets[name][1], masks.float()), name
    images, masks = sets["d_s_synthetic"]
    assert torch.equal(images[:6], part.data.images) and torch.equal(masks[:6], sets["d_s"][1])
    assert torch.equal(images[6:8], synthetic["images"][[0, 2]])
    assert torch.equal(masks[6:8], synthetic["m_refined"][[0, 2]].float())
    assert torch.equal(images[8:], synthetic["composites"])
    assert torch.equal(masks[8:], synthetic["composite_masks"])  # soft ones stay soft


def test_sets_that_cannot_be_are_left_out(made, synthetic):
    assert tuple(stages.training_sets(made)) == ("m_pre", "d_s", "supervised")
    part = made.labels("train")
    undrawn = [Example(e.image, None, None, e.name, e.split) for e in part.data]
    unlabelled = Labels(Dataset(undrawn, "bird", "train"), *list(vars(part).values())[1:])
    made.labels = lambda split: unlabelled
    assert tuple(stages.training_sets(made, synthetic)) == ("m_pre", "d_s", "d_s_synthetic")


def test_nothing_usable_adds_nothing(made, synthetic):
    synthetic["kept"][:] = False
    for name in ("composites", "composite_masks"):
        synthetic[name] = synthetic[name][:0]
    sets = stages.training_sets(made, synthetic)
    assert all(torch.equal(*pair) for pair in zip(sets["d_s"], sets["d_s_synthetic"], strict=True))


def test_every_set_has_its_trainings_watched_on_masks_of_its_kind(made, synthetic):
    trained = stages.trained_artifacts(made, synthetic)
    nets = stages.trained_nets(made, synthetic, ("d_s", "supervised"))
    assert tuple(trained) == segmenting.TRAINING_SETS and tuple(nets) == ("d_s", "supervised")
    val, sets = made.labels("val"), stages.training_sets(made, synthetic)
    watched = {"m_pre": upsample_mask(val.m_pre, (32, 32)), "supervised": val.data.masks}
    for name, artifacts in trained.items():
        assert [one.manifest["seed"] for one in artifacts] == [3, 4]
        net = stages.load_trained(artifacts[1])
        alone = train_segmenter(*sets[name], **{**RUN, "seed": 4}, device="cpu")
        said = net.predict(val.data.images)
        assert torch.equal(said, alone.predict(val.data.images)), name
        masks = watched.get(name, val.m_refined)
        iou = ((said >= 0.5) & masks).sum() / ((said >= 0.5) | masks).sum()
        assert artifacts[1]["log"].val_iou.iloc[-1] == pytest.approx(float(iou)), name
    assert torch.equal(nets["d_s"][1].predict(val.data.images[:1]), stages.load_trained(
        trained["d_s"][1]).predict(val.data.images[:1]))  # fmt: skip


# ------------------------------------------------------------------------ a folder of one's own


def write_folder(folder, split: str, n: int, start: int = 0) -> None:
    data = load_dataset("pocket", "bird", "train", limit=start + n, size=32)[start:]
    names = [f"{split}{k:02d}" for k in range(n)]
    export_imagefolder(folder / "aside" / split, data.images, data.masks, names=names)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(exist_ok=True)
        (folder / "aside" / split / kind).rename(folder / kind / split)


def test_a_folder_without_splits_is_watched_on_every_tenth_image(tmp_path):
    data = load_dataset("pocket", "bird", "train", limit=12, size=32)
    folder = export_imagefolder(tmp_path / "mine", data.images, data.masks)
    sorted((folder / "masks").iterdir())[3].unlink()
    sets, watched = stages.folder_sets(folder, "bird", size=32)
    kept = [k for k in range(12) if k != 3]
    wanted = [kept[k] for k in range(11) if k % 10]
    assert list(sets) == list(watched) == ["given"]
    for (images, masks), which in ((sets["given"], wanted), (watched["given"], [0, kept[10]])):
        torch.testing.assert_close(images, data.images[which], atol=3e-3, rtol=0)
        assert torch.equal(masks, data.masks[which].float())


def test_a_folders_own_splits_are_kept_apart(tmp_path):
    write_folder(tmp_path, "train", 3)
    sets, watched = stages.folder_sets(tmp_path, "bird", size=32)
    assert len(sets["given"][0]) == 2 and len(watched["given"][0]) == 1
    write_folder(tmp_path, "val", 2, start=3)
    sets, watched = stages.folder_sets(tmp_path, "bird", size=32)
    assert len(sets["given"][0]) == 3 and len(watched["given"][0]) == 2


def test_a_folder_with_too_few_masks_is_refused(tmp_path):
    data = load_dataset("pocket", "bird", "train", limit=2, size=32)
    for name, masks in (("one", data.masks[:1]), ("none", None)):
        images = data.images[: 1 if masks is not None else 2]
        folder = export_imagefolder(tmp_path / name, images, masks)
        with pytest.raises(ValueError, match="folder.*has masks for"):
            stages.folder_sets(folder, "bird", size=32)
