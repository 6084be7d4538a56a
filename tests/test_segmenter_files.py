"""Segmenters in files, and pairs of image and mask from folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from cdlib.segmenter import (
    Segmenter,
    export_onnx,
    load_pairs,
    load_segmenter,
    save_segmenter,
    train_segmenter,
)


@pytest.fixture(scope="module")
def net() -> Segmenter:
    """Trained for two steps, so that what batches are normalised by is no longer 0 and 1."""
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    how = {"width": 2, "steps": 2, "batch_size": 4, "seed": 7, "device": "cpu"}
    return train_segmenter(images, images[:, 0] > 0.5, **how)


# ----------------------------------------------------------------------------- safetensors


def test_a_saved_network_is_the_same_network(net, tmp_path):
    path = save_segmenter(net, tmp_path / "new" / "birds.safetensors")
    again = load_segmenter(path)
    images = torch.rand(2, 3, 40, 24)
    assert torch.equal(net.predict(images), again.predict(images))
    assert again.width == 2 and again.trained == net.trained and not again.training
    assert again.trained["seed"] == 7 and again.trained["steps"] == 2
    with safe_open(path, "pt") as file:  # plain data, for anyone to read
        assert json.loads(file.metadata()["cdlib.segmenter"])["width"] == 2


def test_files_that_hold_no_segmenter_are_refused(net, tmp_path):
    other, text = tmp_path / "other.safetensors", tmp_path / "text.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    text.write_text("no tensors here")
    for path in (tmp_path / "none.safetensors", other, text):
        with pytest.raises(ValueError, match="path"):
            load_segmenter(path)
    for save, name in ((save_segmenter, "net.pt"), (export_onnx, "net.onx")):
        with pytest.raises(ValueError, match="path.*must end in"):
            save(net, tmp_path / name)


# ------------------------------------------------------------------------------------ ONNX


@pytest.fixture(scope="module")
def session(net, tmp_path_factory):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = export_onnx(net, tmp_path_factory.mktemp("onnx") / "net.onnx")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (3, 3, 96, 32), (2, 3, 37, 50), (1, 3, 1, 130)])
def test_onnx_answers_as_pytorch_does(net, session, shape):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    (said,) = session.run(None, {"images": images.numpy()})
    wanted = net.predict(images).numpy()
    assert said.shape == wanted.shape
    np.testing.assert_allclose(said, wanted, atol=1e-4)


def test_export_is_silent_and_leaves_one_file(net, tmp_path, capfd, recwarn):
    export_onnx(net, tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "") and not recwarn.list
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
    assert all(not weight.requires_grad for weight in net.parameters())


# ----------------------------------------------------------------------------------- pairs


def write_pair(folder, stem: str, size: tuple[int, int], suffix: str = ".png") -> None:
    """A red picture of `size` (width, height) whose left half is the object."""
    width, height = size
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (255, 0, 0)).save(folder / "images" / f"{stem}{suffix}")
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, width // 2, height))
    mask.save(folder / "masks" / f"{stem}.png")


def test_pairs_come_from_all_folders_at_the_short_side(tmp_path):
    write_pair(tmp_path / "one", "b", (60, 40))
    write_pair(tmp_path / "one", "a", (40, 80), ".jpg")
    write_pair(tmp_path / "two", "a", (10, 10))
    folders = [(tmp_path / name / "images", tmp_path / name / "masks") for name in ("one", "two")]
    images, masks = load_pairs(folders, size=20)
    assert [tuple(image.shape) for image in images] == [(3, 40, 20), (3, 20, 30), (3, 20, 20)]
    assert all(mask.shape == image.shape[1:] for image, mask in zip(images, masks, strict=True))
    assert all(image[0].min() > 0.98 and image[1].max() < 0.02 for image in images)
    for mask in masks:
        assert mask.dtype == torch.float32 and mask.mean().item() == pytest.approx(0.5, abs=0.01)
        assert (mask[:, 0] == 1).all() and (mask[:, -1] == 0).all()
    net = train_segmenter(images, masks, size=16, width=2, steps=1, batch_size=4, device="cpu")
    assert net.trained["images"] == 3


def test_a_pixel_half_covered_is_a_half(tmp_path):
    write_pair(tmp_path, "a", (2, 2))
    _, (mask,) = load_pairs([(tmp_path / "images", tmp_path / "masks")], size=1)
    assert mask.item() == pytest.approx(0.5, abs=0.01)


def test_folders_that_do_not_fit_are_refused(tmp_path):
    write_pair(tmp_path, "bird_1", (20, 20))
    folder = (tmp_path / "images", tmp_path / "masks")
    with pytest.raises(ValueError, match="folders.*at least one"):
        load_pairs([])
    with pytest.raises(ValueError, match="folders.*nowhere"):
        load_pairs([(tmp_path / "images", tmp_path / "nowhere")])
    with pytest.raises(ValueError, match="size"):
        load_pairs([folder], size=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images"):
        load_pairs([(tmp_path / "empty", tmp_path / "masks")])
    Image.new("L", (10, 10)).save(tmp_path / "masks" / "bird_2.png")
    with pytest.raises(ValueError, match="'bird_2'.*Did you mean 'bird_1'"):
        load_pairs([folder])
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / "bird_2.png")
    with pytest.raises(ValueError, match="10x10"):
        load_pairs([folder])
