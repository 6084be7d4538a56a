"""Folders of pictures that are there whole or not at all, and what may go into them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cdlib.files import sync

_STEM = re.compile(r"[\w-][\w. -]*")


@contextmanager
def folder_written_whole(folder: Path | str, replace: bool = False) -> Iterator[Path]:
    """A new folder beside `folder` to fill; once the block has ended well, it takes its place.

    Until then, and for good if the block raises, `folder` is what it was. What a killed writer
    leaves beside it, the next one removes.

    replace: take the place of a folder that exists. Of a kill right between taking the old one
    away and putting the new one there, the old one is left as `.NAME.old`, and put back the next
    time. Without it such a folder is a ValueError.
    """
    folder = Path(folder)
    aside, old = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "old"))
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    if folder.exists() and not replace:
        raise ValueError(f"folder={str(folder)!r}: exists already; replace=True writes it anew.")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r}: is a file.")
    for leftover in (aside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        for path in [*aside.rglob("*"), aside]:
            sync(path)
        if folder.exists():
            os.rename(folder, old)
        os.rename(aside, folder)
        sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_png(path: Path, values: torch.Tensor) -> None:
    """An image (3, H, W) in RGB, or a mask (H, W) in grey: [0, 1] as bytes, to the nearest."""
    pixels = to_bytes(values)
    Image.fromarray(pixels).save(path)


def to_bytes(values: torch.Tensor) -> np.ndarray:
    """Bool, or float in [0, 1], as 0..255; the colours of (3, H, W) go last."""
    pixels = (values.detach().cpu().float() * 255).round().to(torch.uint8).numpy()
    return pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels


def check_pictures(
    images: torch.Tensor, masks: torch.Tensor | None, names: Sequence[str] | None
) -> list[str]:
    """The pictures' names, by default their numbers. ValueError for what no folder can hold.

    images: (N, 3, H, W) in [0, 1]. masks: (N, H, W), bool or in [0, 1].
    """
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"images: must be (N, 3, H, W) with N > 0, not {tuple(images.shape)}.")
    _check_range("images", images)
    expected = (len(images), *images.shape[2:])
    if masks is not None:
        if tuple(masks.shape) != expected:
            raise ValueError(f"masks: must be {expected}, not {tuple(masks.shape)}.")
        if masks.dtype != torch.bool:
            _check_range("masks", masks)
    if names is None:
        return [f"{k:05d}" for k in range(len(images))]
    names = per_image("names", names, len(images))
    for name in names:
        if not isinstance(name, str) or not _STEM.fullmatch(name):
            raise ValueError(f"names: {name!r} cannot name a file; letters, digits, -, _, . can.")
    if len({name.lower() for name in names}) < len(names):  # some file systems see no case
        twice = next(name for name in names if [n.lower() for n in names].count(name.lower()) > 1)
        raise ValueError(f"names: {twice!r} comes twice.")
    return names


def per_image(parameter: str, values: Sequence, n: int) -> list:
    """`values` as a list of n; otherwise a ValueError."""
    if isinstance(values, str) or len(values) != n:
        raise ValueError(f"{parameter}: must be {n}, one for each image, not {values!r:.60}.")
    return list(values)


def _check_range(name: str, values: torch.Tensor) -> None:
    if not values.is_floating_point():
        raise ValueError(f"{name}: must be floats in [0, 1], not {values.dtype}.")
    low, high = values.min().item(), values.max().item()
    if not (low >= 0 and high <= 1):  # also refuses NaN
        raise ValueError(f"{name}: values must lie in [0, 1], not [{low:.3g}, {high:.3g}].")
