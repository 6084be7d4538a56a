"""Both sources give examples of one shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cdlib.datasets import Dataset, load_dataset
from cdlib.world import CONCEPTS, SPLITS, render_scene

# ------------------------------------------------------------------------- the pocket world


@pytest.mark.parametrize("concept", [*CONCEPTS, "mass", "effusion"])
def test_every_scene_holds_its_concept(concept):
    data = load_dataset("pocket", concept=concept, limit=4)
    assert len(data) == 4 and data.concept == concept and data.split == "test"
    assert data.images.shape == data.plates.shape == (4, 3, 64, 64)
    assert data.images.dtype == torch.float32
    assert data.images.min() >= 0 and data.images.max() <= 1
    assert data.masks.dtype == torch.bool and data.masks.any((1, 2)).all()
    assert data.valid.all()
    for example in data:
        inside = torch.zeros(64, 64, dtype=torch.bool)
        for x0, y0, x1, y1 in example.boxes:
            inside[y0:y1, x0:x1] = True
        assert not (example.mask & ~inside).any()


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(SPLITS), st.sampled_from(CONCEPTS), st.sampled_from([0.0, 0.3, 1.0]))
def test_examples_are_the_worlds_scenes(split, concept, difficulty):
    data = load_dataset(concept=concept, split=split, limit=2, size=32, difficulty=difficulty)
    for i, example in enumerate(data):
        scene = render_scene(split, i, 32, concept=concept, difficulty=difficulty)
        image = (example.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        assert np.array_equal(image, scene.image)
        named = [thing for thing in scene.objects if thing.name == concept]
        union = np.logical_or.reduce([thing.mask for thing in named])
        assert np.array_equal(example.mask.numpy(), union)
        assert example.boxes == tuple(thing.box for thing in named)
        assert example.split == split


def test_a_slice_is_a_dataset_and_an_index_an_example():
    data = load_dataset(limit=5, size=16)
    part = data[1:3]
    assert isinstance(part, Dataset) and part.concept == "bird"
    assert part.names == data.names[1:3] and len(set(data.names)) == 5
    assert torch.equal(part.images, data.images[1:3])
    assert torch.equal(data[-1].image, data.images[4])
    assert torch.equal(load_dataset(limit=3, size=16).images, data.images[:3])
    assert "5 images" in repr(data)


def test_splits_do_not_share_scenes():
    images = [load_dataset(split=split, limit=20, size=16).images for split in SPLITS]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        distance = (images[one][:, None] - images[other][None]).abs().mean((2, 3, 4))
        assert distance.min() > 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"concept": "brid"}, "concept='brid'.*Did you mean 'bird'"),
        ({"concept": None}, "concept=None"),
        ({"split": "testing"}, "split='testing'.*Did you mean 'test'"),
        ({"limit": 0}, "limit=0"),
        ({"limit": 2.0}, "limit=2.0"),
        ({"size": 8}, "size=8"),
        ({"difficulty": 2}, "difficulty=2"),
        ({"source": "poket"}, "source='poket'.*Did you mean 'pocket'"),
        ({"source": "cub"}, "source='cub': allowed are pocket, or an existing folder"),
    ],
)
def test_arguments_are_checked(how, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(**{"limit": 1, **how})


# --------------------------------------------------------------------------- a folder of files


def put(path, pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def grey_square(height: int, width: int) -> np.ndarray:
    """A mask whose middle half is the object."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : -height // 4, width // 4 : -width // 4] = 255
    return mask


def test_a_folder_is_laid_out_on_one_canvas(tmp_path):
    wide = np.full((40, 80, 3), 200, np.uint8)
    put(tmp_path / "images" / "b.jpg", wide)
    put(tmp_path / "images" / "a.png", wide.transpose(1, 0, 2))
    put(tmp_path / "masks" / "b.png", grey_square(40, 80))
    put(tmp_path / "masks" / "a.png", grey_square(80, 40))
    data = load_dataset(tmp_path, concept="teapot", size=32)
    assert data.names == ["a", "b"] and data.split == "all" and data.concept == "teapot"
    assert data.images.shape == (2, 3, 32, 32)
    tall, wide = data.valid
    assert tall[:, :16].all() and not tall[:, 16:].any()
    assert wide[:16].all() and not wide[16:].any()
    assert (data.images[1][:, ~wide] == 0).all()
    torch.testing.assert_close(
        data.images[1][:, wide], torch.full((3, 512), 200 / 255), atol=0.01, rtol=0
    )
    assert data.masks[1, 4:12, 8:24].all() and data.masks[1].sum() == 8 * 16
    assert data[0].boxes is None and data[0].plate is None


def test_a_mask_keeps_its_area_when_scaled(tmp_path):
    rng = np.random.default_rng(0)
    blob = (rng.random((256, 256)) < 0.5).astype(np.uint8)
    blob = np.kron(blob[:32, :32], np.ones((8, 8), np.uint8)) * 255
    put(tmp_path / "images" / "x.png", np.zeros((256, 256, 3), np.uint8))
    put(tmp_path / "masks" / "x.png", blob)
    mask = load_dataset(tmp_path, size=32)[0].mask
    assert np.array_equal(mask.numpy(), blob[::8, ::8] > 0)


def test_masks_are_optional_and_missed_when_asked_for(tmp_path):
    put(tmp_path / "images" / "x.png", np.zeros((16, 16, 3), np.uint8))
    data = load_dataset(tmp_path, size=16)
    assert data[0].mask is None and data.images.shape == (1, 3, 16, 16)
    with pytest.raises(ValueError, match="1 images have no mask, for example x"):
        _ = data.masks
    with pytest.raises(ValueError, match="no plate"):
        _ = data.plates


def test_a_folders_splits_are_folders(tmp_path):
    for split in ("train", "test"):
        for stem in ("1", "2"):
            put(tmp_path / "images" / split / f"{split}{stem}.png", np.zeros((16, 16, 3), np.uint8))
    put(tmp_path / "masks" / "test" / "test1.png", grey_square(16, 16))
    data = load_dataset(tmp_path, split="test", size=16)
    assert data.names == ["test1", "test2"] and data.split == "test"
    assert data[0].mask.any() and data[1].mask is None
    assert load_dataset(tmp_path, split="train", size=16, limit=1).names == ["train1"]
    with pytest.raises(ValueError, match="split='val': allowed are train, test"):
        load_dataset(tmp_path, split="val", size=16)


def test_a_photograph_is_turned_as_it_was_held(tmp_path):
    picture = Image.fromarray(np.zeros((16, 32, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by a quarter
    (tmp_path / "images").mkdir()
    picture.save(tmp_path / "images" / "x.jpg", exif=exif)
    valid = load_dataset(tmp_path, size=32)[0].valid
    assert valid[:, :16].all() and not valid[:, 16:].any()


def test_a_folder_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no images/ in it"):
        load_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "notes.txt").write_text("not a picture")
    with pytest.raises(ValueError, match="no .png, .jpg, .jpeg files"):
        load_dataset(tmp_path)
    put(tmp_path / "images" / "bird1.png", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="concept=''"):
        load_dataset(tmp_path, concept="")
    put(tmp_path / "masks" / "bird2.png", grey_square(16, 16))
    with pytest.raises(ValueError, match="masks/ has 'bird2'.*Did you mean 'bird1'"):
        load_dataset(tmp_path)
    (tmp_path / "masks" / "bird2.png").rename(tmp_path / "masks" / "bird1.png")
    put(tmp_path / "images" / "bird1.png", np.zeros((16, 20, 3), np.uint8))
    with pytest.raises(ValueError, match="mask is 16x16 pixels, its image 20x16"):
        load_dataset(tmp_path)
    put(tmp_path / "images" / "bird1.jpg", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="share a name"):
        load_dataset(tmp_path)
    (tmp_path / "images" / "bird1.jpg").unlink()
    (tmp_path / "images" / "bird1.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="bird1.png: not an image"):
        load_dataset(tmp_path)
