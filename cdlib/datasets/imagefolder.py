"""Images and masks as Hugging Face's `datasets` reads them: an ImageFolder with metadata.jsonl.

export_imagefolder("birds", images, masks, names=names)
datasets.load_dataset("imagefolder", data_dir="birds", split="train")   # "image" and "mask"
cdlib.load_dataset("birds", "bird")                                     # the same folder
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cdlib.datasets.writing import check_pictures, folder_written_whole, per_image, write_png

RESERVED = ("file_name", "mask_file_name", "image", "mask")


def export_imagefolder(
    folder: Path | str,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    masks: torch.Tensor | None = None,  # (N, H, W), bool or in [0, 1]
    *,
    names: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    replace: bool = False,
) -> Path:
    """Write images/NAME.png, masks/NAME.png and metadata.jsonl; gives the folder's path.

    Colours and soft masks become bytes, to the nearest; a mask is grey, the object white. In
    metadata.jsonl is a line for each image: "file_name", "mask_file_name", which ImageFolder makes
    the columns "image" and "mask", and what `columns` has.

    names: without suffix; by default the images' numbers. ImageFolder reads a split from names in
    which "train", "test" or the like is a word, so leave those out.
    columns: more of JSON about each image, by name: where it is from, its prompt.
    replace: write anew a folder that exists.

    The folder is there whole or not at all. ValueError for a folder that exists, and for images,
    masks, names or columns that do not fit.
    """
    names = check_pictures(images, masks, names)
    more = {key: per_image(key, values, len(names)) for key, values in (columns or {}).items()}
    if taken := [key for key in more if key in RESERVED or key.endswith("file_name")]:
        raise ValueError(f"columns: {taken[0]!r} is ImageFolder's own name.")
    with folder_written_whole(folder, replace) as aside:
        rows = [{"file_name": f"images/{name}.png"} for name in names]
        _write_all(aside / "images", names, images)
        if masks is not None:
            _write_all(aside / "masks", names, masks)
            for row, name in zip(rows, names, strict=True):
                row["mask_file_name"] = f"masks/{name}.png"
        for k, row in enumerate(rows):
            row.update({key: values[k] for key, values in more.items()})
        lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        (aside / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return Path(folder)


def _write_all(folder: Path, names: Sequence[str], pictures: torch.Tensor) -> None:
    folder.mkdir()
    for name, picture in zip(names, pictures, strict=True):
        write_png(folder / f"{name}.png", picture)
