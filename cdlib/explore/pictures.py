"""Pictures for the page: images, the truth in them and clean plates, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from cdlib.datasets.writing import to_bytes
from cdlib.explore.graphs import latent_grid
from cdlib.models import check_images, latent_factor

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def picture_files(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor | None,  # (N, 3, H, W) in [0, 1]
    masks: torch.Tensor | None,  # (N, H, W) bool
    plates: torch.Tensor | None,  # (N, 3, H, W) in [0, 1]
    names: Sequence[str] | None,
) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """PNG files by name, and for each picture its name and the files of what there is of it.

    Raises ValueError unless all are of one number and of the size that the model draws.
    """
    if images is None:
        for name, given in (("masks", masks), ("plates", plates), ("names", names)):
            if given is not None:
                raise ValueError(f"{name}: belongs to images, and images is None.")
        return {}, []
    _check(pipe, images, masks, plates, names)
    kinds = {"image": images, "mask": masks, "plate": plates}
    files: dict[str, bytes] = {}
    shown: list[dict[str, Any]] = []
    for i in range(len(images)):
        entry = {"name": f"picture {i + 1}" if names is None else str(names[i])}
        for kind, stack in kinds.items():
            if stack is not None:
                entry[kind] = f"pictures/{i:02d}-{kind}.png"
                files[entry[kind]] = _png(stack[i])
        shown.append(entry)
    return files, shown


def _check(pipe, images, masks, plates, names) -> None:
    factor = latent_factor(pipe)
    height, width = (n * factor for n in latent_grid(pipe))
    expected = {"images": (len(images), 3, height, width), "masks": (len(images), height, width)}
    expected["plates"] = expected["images"]
    for name, stack in (("images", images), ("masks", masks), ("plates", plates)):
        if stack is not None and tuple(stack.shape) != expected[name]:
            raise ValueError(
                f"{name}: must be {expected[name]}, the size that the model draws, "
                f"not {tuple(stack.shape)}."
            )
    for stack in (images, plates):
        if stack is not None:
            check_images(pipe, stack)
    if masks is not None and masks.dtype != torch.bool:
        raise ValueError(f"masks: must be bool, not {masks.dtype}.")
    if names is not None and len(names) != len(images):
        raise ValueError(f"names: {len(names)} given for {len(images)} images.")


def _png(values: torch.Tensor) -> bytes:
    """(3, H, W) in [0, 1] or (H, W) bool as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(to_bytes(values)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
