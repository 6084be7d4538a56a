"""Images and masks from folders, to train on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cdlib.checks import did_you_mean, whole_number
from cdlib.datasets.folders import files_by_stem, open_picture


def load_pairs(
    folders: Iterable[tuple[str | Path, str | Path]], size: int = 128
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Images (3, H, W) in [0, 1] and soft masks (H, W) in [0, 1] from (images, masks) folders.

    Both are png or jpg files; a mask is grey, white on the object, and has its image's stem and
    size. They are scaled to a short side of `size`, as the paper's are, so long sides differ:
    `segmenter_steps` learns from windows of `size`. A mask's pixel becomes the share of it that the
    object covers.

    Raises ValueError for a folder that is not there or empty, and for an image without its mask or
    a mask without its image.
    """
    size = whole_number("size", size, 1, 4096)
    pairs = [pair for folder in folders for pair in _pairs(*map(Path, folder))]
    if not pairs:
        raise ValueError("folders: give at least one pair of an images and a masks folder.")
    loaded = [_load(image, mask, size) for image, mask in pairs]
    return [image for image, _ in loaded], [mask for _, mask in loaded]


def _pairs(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    for folder in (images, masks):
        if not folder.is_dir():
            raise ValueError(f"folders: there is no folder {str(folder)!r}.")
    pictures, drawn = files_by_stem(images), files_by_stem(masks)
    if not pictures:
        raise ValueError(f"folders: there are no images in {str(images)!r}.")
    for here, there, names, others in (
        (images, masks, pictures, drawn), (masks, images, drawn, pictures),
    ):  # fmt: skip
        if alone := sorted(set(names) - set(others)):
            raise ValueError(
                f"folders: {str(here)!r} has {alone[0]!r}, {str(there)!r} has not."
                + did_you_mean(alone[0], others)
            )
    return [(pictures[stem], drawn[stem]) for stem in pictures]


def _load(image_file: Path, mask_file: Path, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    picture, grey = open_picture(image_file, "RGB"), open_picture(mask_file, "L")
    if grey.size != picture.size:
        raise ValueError(
            f"{mask_file}: the mask is {grey.size[0]}x{grey.size[1]} pixels, its image "
            f"{picture.size[0]}x{picture.size[1]}."
        )
    scale = size / min(picture.size)
    sides = tuple(max(size, round(side * scale)) for side in picture.size)
    pixels = np.asarray(picture.resize(sides, Image.Resampling.BICUBIC), dtype=np.float32) / 255
    covered = np.asarray(grey.resize(sides, Image.Resampling.BOX), dtype=np.float32) / 255
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), torch.from_numpy(covered)
