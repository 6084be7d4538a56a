"""A folder of your own: images/ and, if there are any, masks/."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from cdlib.checks import did_you_mean, one_of
from cdlib.datasets.examples import Dataset, Example, to_tensor
from cdlib.world import SPLITS

SUFFIXES = (".png", ".jpg", ".jpeg")


def load_folder(folder: Path, concept: str, split: str, limit: int | None, size: int) -> Dataset:
    images, masks = folder / "images", folder / "masks"
    if not images.is_dir():
        raise ValueError(f"source={str(folder)!r}: there is no images/ in it.")
    splits = [name for name in SPLITS if (images / name).is_dir()]
    if splits:
        one_of("split", split, splits)
        images, masks = images / split, masks / split
    else:
        split = "all"
    files, drawn = files_by_stem(images), files_by_stem(masks) if masks.is_dir() else {}
    if not files:
        raise ValueError(f"source={str(folder)!r}: no {', '.join(SUFFIXES)} files in {images}.")
    if orphans := sorted(set(drawn) - set(files)):
        raise ValueError(
            f"source={str(folder)!r}: masks/ has {orphans[0]!r}, images/ has not."
            + did_you_mean(orphans[0], files)
        )
    stems = list(files)[:limit]
    examples = [_from_files(files[stem], drawn.get(stem), split, size) for stem in stems]
    return Dataset(examples, concept, split)


def files_by_stem(folder: Path) -> dict[str, Path]:
    """The image files of a folder by stem, in order of name; a stem may not come twice."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.stem in files:
            raise ValueError(f"{folder}: {path.name} and {files[path.stem].name} share a name.")
        files[path.stem] = path
    return files


def _from_files(image_file: Path, mask_file: Path | None, split: str, size: int) -> Example:
    picture = open_picture(image_file, "RGB")
    width, height = _fit(picture.size, size)
    image = torch.zeros(3, size, size)
    image[:, :height, :width] = to_tensor(
        np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
    )
    valid = torch.zeros(size, size, dtype=torch.bool)
    valid[:height, :width] = True
    mask = None
    if mask_file is not None:
        grey = open_picture(mask_file, "L")
        if grey.size != picture.size:
            raise ValueError(
                f"{mask_file.name}: the mask is {grey.size[0]}x{grey.size[1]} pixels, its image "
                f"{picture.size[0]}x{picture.size[1]}."
            )
        # Averaged and cut at one half: keeps the area, where any non-zero value would dilate it.
        scaled = grey.point(lambda v: 255 * (v > 127)).resize((width, height), Image.Resampling.BOX)
        mask = torch.zeros(size, size, dtype=torch.bool)
        mask[:height, :width] = torch.from_numpy(np.asarray(scaled) > 127)
    return Example(image, mask, None, image_file.stem, split, valid=valid)


def open_picture(path: Path, mode: str) -> Image.Image:
    """The picture as its photographer held the camera."""
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(file).convert(mode)
    except OSError as error:
        raise ValueError(f"{path}: not an image that can be read ({error}).") from error


def _fit(size: tuple[int, int], canvas: int) -> tuple[int, int]:
    """(width, height) with a long side of `canvas`, the proportions kept."""
    scale = canvas / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
