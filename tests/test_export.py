"""What is exported is read back, exactly, by those it is meant for; and is there whole or not."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

import cdlib
from cdlib.datasets import writing
from cdlib.datasets.writing import to_bytes

NAMES = ["bird-a", "bird_b", "bird 3.1", "ünder"]


def pictures(n: int = 4, height: int = 12, width: int = 20):
    draw = torch.Generator().manual_seed(n)
    images = torch.rand(n, 3, height, width, generator=draw)
    masks = torch.zeros(n, height, width, dtype=torch.bool)
    for k in range(n - 1):  # the last one stays empty
        masks[k, k : k + 5, 2 * k : 2 * k + 7] = True
        masks[k, 10, 18] = True
    return images, masks


@pytest.fixture
def hugging_face(tmp_path):
    """`datasets.load_dataset` of a folder, with a cache of its own."""
    import datasets

    def read(folder, **how):
        how = {"split": "train", "cache_dir": str(tmp_path / "cache"), **how}
        return datasets.load_dataset("imagefolder", data_dir=str(folder), **how)

    return read


@pytest.fixture
def coco():
    from pycocotools.coco import COCO

    return lambda folder: COCO(folder / "annotations.json")


# ------------------------------------------------------------------------------- ImageFolder


def test_datasets_reads_images_masks_and_columns(tmp_path, hugging_face):
    images, masks = pictures()
    columns = {"kind": ["a", "b", "c", "d"], "area": [0.1, 0.2, 0.3, 0.0]}
    folder = cdlib.export_imagefolder(tmp_path / "out", images, masks, names=NAMES, columns=columns)
    found = hugging_face(folder)
    assert set(found.column_names) == {"image", "mask", "kind", "area"} and len(found) == 4
    for k, row in enumerate(found):
        assert np.array_equal(np.asarray(row["image"]), to_bytes(images[k]))
        assert row["mask"].mode == "L"
        assert np.array_equal(np.asarray(row["mask"]), 255 * masks[k].numpy().astype(np.uint8))
        assert row["kind"] == columns["kind"][k] and row["area"] == columns["area"][k]


def test_soft_masks_keep_their_bytes_and_images_need_no_mask(tmp_path, hugging_face):
    images, _ = pictures()
    soft = torch.rand(4, 12, 20)
    found = hugging_face(cdlib.export_imagefolder(tmp_path / "soft", images, soft))
    assert all(
        np.array_equal(np.asarray(row["mask"]), to_bytes(soft[k])) for k, row in enumerate(found)
    )
    found = hugging_face(cdlib.export_imagefolder(tmp_path / "bare", images))
    assert found.column_names == ["image"] and not (tmp_path / "bare" / "masks").exists()


def test_the_books_own_loader_reads_it_too(tmp_path):
    images, masks = pictures(3, 32, 32)
    folder = cdlib.export_imagefolder(tmp_path / "out", images, masks, names=["a", "b", "c"])
    data = cdlib.load_dataset(folder, "bird", size=32)
    assert data.names == ["a", "b", "c"] and torch.equal(data.masks, masks)
    assert torch.equal((data.images * 255).round(), (images * 255).round())


# --------------------------------------------------------------------------------------- COCO


def test_pycocotools_reads_the_masks_back(tmp_path, coco):
    images, masks = pictures()
    concepts = ["bird", "dog", "bird", "dog"]
    folder = cdlib.export_coco(tmp_path / "out", images, masks, concepts, names=NAMES)
    found = coco(folder)
    assert found.getImgIds() == [1, 2, 3, 4]
    assert {c["name"]: c["id"] for c in found.loadCats(found.getCatIds())} == {"bird": 1, "dog": 2}
    for k, name in enumerate(NAMES):
        about = found.loadImgs(k + 1)[0]
        assert about["file_name"] == f"images/{name}.png"
        assert (about["height"], about["width"]) == (12, 20)
        with Image.open(folder / about["file_name"]) as picture:
            assert np.array_equal(np.asarray(picture), to_bytes(images[k]))
        annotations = found.loadAnns(found.getAnnIds(imgIds=k + 1))
        if not masks[k].any():
            assert annotations == []
            continue
        (one,) = annotations
        assert np.array_equal(found.annToMask(one).astype(bool), masks[k].numpy())
        assert one["area"] == masks[k].sum() and one["iscrowd"] == 0
        rows, columns = np.nonzero(masks[k].numpy())
        x, y = columns.min(), rows.min()
        assert one["bbox"] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
        assert found.loadCats(one["category_id"])[0]["name"] == concepts[k]


def test_evaluation_by_coco_finds_exported_masks_perfect(tmp_path, coco):
    from pycocotools.cocoeval import COCOeval

    images, masks = pictures()
    truth = coco(cdlib.export_coco(tmp_path / "out", images, masks, "bird"))
    asked = ("image_id", "category_id", "segmentation", "bbox", "area")
    found = [{**{key: a[key] for key in asked}, "score": 1.0} for a in truth.anns.values()]
    scores = COCOeval(truth, truth.loadRes(found), "segm")
    scores.evaluate()
    scores.accumulate()
    scores.summarize()
    assert scores.stats[0] == 1.0


def test_soft_masks_are_cut_above_one_half(tmp_path, coco):
    images, _ = pictures(1)
    soft = torch.full((1, 12, 20), 0.5)
    soft[0, 3:5, 4:9] = 0.51
    found = coco(cdlib.export_coco(tmp_path / "out", images, soft, "bird"))
    (one,) = found.anns.values()
    assert one["area"] == 10 and one["bbox"] == [4, 3, 5, 2]


# --------------------------------------------------------------------------- whole or not at all


def export(kind: str, folder, images=None, masks=None, **how):
    made = pictures()
    images = made[0] if images is None else images
    masks = made[1] if masks is None else masks
    if kind == "coco":
        return cdlib.export_coco(folder, images, masks, how.pop("concepts", "bird"), **how)
    return cdlib.export_imagefolder(folder, images, masks, **how)


def content(folder) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("kind", ["imagefolder", "coco"])
def test_a_folder_that_exists_is_refused_unless_told(tmp_path, kind):
    export(kind, tmp_path / "out")
    before = content(tmp_path / "out")
    with pytest.raises(ValueError, match="exists already; replace=True"):
        export(kind, tmp_path / "out")
    assert content(tmp_path / "out") == before
    images, masks = pictures(2)
    export(kind, tmp_path / "out", images, masks, replace=True)
    assert len(content(tmp_path / "out")) < len(before)
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["imagefolder", "coco"])
@pytest.mark.parametrize("replace", [False, True])
def test_a_writer_that_fails_leaves_what_was_there(tmp_path, monkeypatch, kind, replace):
    if replace:
        export(kind, tmp_path / "out")
    before = content(tmp_path)
    module = f"cdlib.datasets.{kind}"

    def fail(path, values):
        if path.stem == "00002":
            raise OSError("disk full")

    monkeypatch.setattr(f"{module}.write_png", fail)
    with pytest.raises(OSError, match="disk full"):
        export(kind, tmp_path / "out", replace=replace)
    assert content(tmp_path) == before


def test_what_a_killed_writer_left_is_put_right(tmp_path):
    export("coco", tmp_path / "out")
    before = content(tmp_path / "out")
    os.rename(tmp_path / "out", tmp_path / ".out.old")  # killed between the two renames
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part" / "half").write_text("x")
    with pytest.raises(ValueError, match="exists already"):
        export("coco", tmp_path / "out")
    assert content(tmp_path / "out") == before
    export("coco", tmp_path / "out", replace=True)
    assert os.listdir(tmp_path) == ["out"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(ValueError, match="is a file"):
        export("coco", tmp_path / "out", replace=True)


def test_the_folder_appears_with_its_last_file(tmp_path):
    with writing.folder_written_whole(tmp_path / "deep" / "out") as aside:
        (aside / "a").write_text("x")
        assert not (tmp_path / "deep" / "out").exists()
    assert content(tmp_path) == {"deep/out/a": b"x"}


def test_metadata_is_a_line_for_each_image(tmp_path):
    folder = export("imagefolder", tmp_path / "out", names=NAMES)
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["file_name"] for line in lines] == [f"images/{n}.png" for n in NAMES]


# ---------------------------------------------------------------------------------- bad input

REFUSED = [
    ({"images": torch.zeros(4, 12, 20)}, "images.*N, 3, H, W"),
    ({"images": torch.zeros(0, 3, 12, 20)}, "images"),
    ({"images": torch.full((4, 3, 12, 20), 1.5)}, r"images.*\[0, 1\]"),
    ({"images": torch.full((4, 3, 12, 20), float("nan"))}, r"images.*\[0, 1\]"),
    ({"images": torch.zeros(4, 3, 12, 20, dtype=torch.uint8)}, "images.*uint8"),
    ({"masks": torch.zeros(4, 6, 10)}, r"masks.*\(4, 12, 20\)"),
    ({"masks": torch.full((4, 12, 20), -0.1)}, "masks"),
    ({"names": ["a", "b", "c"]}, "names.*4"),
    ({"names": "abcd"}, "names"),
    ({"names": ["a", "b", "c", "A"]}, "names.*twice"),
    ({"names": ["a", "b", "c", "../d"]}, "names.*'../d'"),
    ({"names": ["a", "b", "c", ".d"]}, "names"),
]


@pytest.mark.parametrize("kind", ["imagefolder", "coco"])
@pytest.mark.parametrize(("how", "says"), REFUSED)
def test_what_does_not_fit_is_refused(tmp_path, kind, how, says):
    with pytest.raises(ValueError, match=says):
        export(kind, tmp_path / "out", **how)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "how", "says"),
    [
        ("imagefolder", {"columns": {"kind": [1, 2]}}, "kind.*4"),
        ("imagefolder", {"columns": {"mask": [1, 2, 3, 4]}}, "columns.*'mask'"),
        ("coco", {"concepts": ["bird"]}, "concepts.*4"),
        ("coco", {"concepts": " "}, "concepts"),
    ],
)
def test_what_does_not_fit_one_of_them_is_refused(tmp_path, kind, how, says):
    with pytest.raises(ValueError, match=says):
        export(kind, tmp_path / "out", **how)
    assert not list(tmp_path.iterdir())
