"""One shape of example for all sources: image, mask or boxes, name, split.

load_dataset("pocket", concept="bird", split="test")     # scenes drawn on the spot
load_dataset("my/birds", concept="bird", split="test")   # a folder of your own
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from cdlib.checks import did_you_mean, one_of, whole_number
from cdlib.world import CONCEPTS, SPLITS, Scene, render_scene
from cdlib.world.radiograph import FINDINGS

SOURCES = ("pocket",)
# The pocket world has no end; this is how much of it a split is when no limit is given.
POCKET_SIZES = {"train": 1000, "val": 100, "test": 200}
SUFFIXES = (".png", ".jpg", ".jpeg")

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Example:
    """One image with what is known about it.

    image: (3, H, W) float32 in [0, 1].
    mask: (H, W) bool, the concept's visible pixels; None where nobody drew them.
    boxes: half-open pixel boxes (x0, y0, x1, y1), one for each object; None where unknown.
    plate: (3, H, W), the same scene without its objects; None outside the pocket world.
    valid: (H, W) bool, False on the canvas beside the image; None where the image fills it.
    """

    image: torch.Tensor
    mask: torch.Tensor | None
    boxes: tuple[Box, ...] | None
    name: str
    split: str
    plate: torch.Tensor | None = None
    valid: torch.Tensor | None = None


class Dataset(Sequence[Example]):
    """Examples of one concept, one by one or stacked; a slice of it is a Dataset too."""

    def __init__(self, examples: Sequence[Example], concept: str, split: str) -> None:
        self.examples = tuple(examples)
        self.concept = concept
        self.split = split

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int | slice) -> Example | Dataset:
        if isinstance(index, slice):
            return Dataset(self.examples[index], self.concept, self.split)
        return self.examples[index]

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def __repr__(self) -> str:
        return f"Dataset({len(self)} images, concept={self.concept!r}, split={self.split!r})"

    @property
    def names(self) -> list[str]:
        return [example.name for example in self.examples]

    @cached_property
    def images(self) -> torch.Tensor:
        """(N, 3, H, W) float32 in [0, 1]."""
        return self._stack("image")

    @cached_property
    def masks(self) -> torch.Tensor:
        """(N, H, W) bool. ValueError if an image has no mask."""
        return self._stack("mask")

    @cached_property
    def plates(self) -> torch.Tensor:
        """(N, 3, H, W) float32 in [0, 1]. ValueError outside the pocket world."""
        return self._stack("plate")

    @cached_property
    def valid(self) -> torch.Tensor:
        """(N, H, W) bool: True where an image is, False on the canvas beside it."""
        full = torch.ones(self.images.shape[2:], dtype=torch.bool)
        return torch.stack([full if e.valid is None else e.valid for e in self.examples])

    def _stack(self, field: str) -> torch.Tensor:
        without = [e.name for e in self.examples if getattr(e, field) is None]
        if without or not self.examples:
            example = f", for example {without[0]}" if without else ""
            raise ValueError(f"{self!r}: {len(without)} images have no {field}{example}.")
        return torch.stack([getattr(e, field) for e in self.examples])


def load_dataset(
    source: str | Path = "pocket",
    concept: str = "bird",
    split: str = "test",
    limit: int | None = None,
    size: int = 64,
    difficulty: float = 0.3,
) -> Dataset:
    """Images that all contain `concept`, on a canvas of `size` x `size` pixels.

    source: "pocket", or a folder with images/ (png or jpg) and, if you have them, masks/ (grey
        images of the same stem and size, the object brighter than half). Images are scaled to a
        long side of `size` and laid at the top left of a black canvas, as in the paper's code;
        `valid` tells image from canvas.
    concept: in the pocket world one of its objects, or a finding of its radiographs ("mass",
        "effusion"); for a folder the word by which the model should look for its object.
    split: "train", "val" or "test". A folder's splits are folders inside images/ and masks/; one
        without them is a single set, given whole and called "all", whichever split is asked for.
    limit: the first so many; None is all of them (in the pocket world, which has no end, 1000
        train, 100 val, 200 test).
    difficulty: of the pocket world's scenes, from 0 to 1: how often they hide their objects.

    Raises ValueError for what is not there.
    """
    one_of("split", split, SPLITS)
    size = whole_number("size", size, 16, 2048)
    if limit is not None:
        limit = whole_number("limit", limit, 1)
    if source == "pocket":
        return _load_pocket(concept, split, limit or POCKET_SIZES[split], size, difficulty)
    folder = Path(source)
    if not folder.is_dir():
        raise ValueError(
            f"source={str(source)!r}: allowed are {', '.join(SOURCES)}, or an existing folder with "
            f"images/ in it.{did_you_mean(source, SOURCES)}"
        )
    if not isinstance(concept, str) or not concept.strip():
        raise ValueError(f"concept={concept!r}: must be the word for the folder's object.")
    return _load_folder(folder, concept, split, limit, size)


# ------------------------------------------------------------------------- the pocket world


def _load_pocket(concept: str, split: str, n: int, size: int, difficulty: float) -> Dataset:
    one_of("concept", concept, [*CONCEPTS, *FINDINGS])
    domain = "radiograph" if concept in FINDINGS else "everyday"
    scenes = (
        render_scene(split, i, size, domain=domain, concept=concept, difficulty=difficulty)
        for i in range(n)
    )
    return Dataset([_from_scene(scene, concept) for scene in scenes], concept, split)


def _from_scene(scene: Scene, concept: str) -> Example:
    return Example(
        image=_to_tensor(scene.image),
        mask=torch.from_numpy(scene.mask_of(concept)),
        boxes=tuple(tuple(thing.box) for thing in scene.objects if thing.name == concept),
        name=f"{concept}-{scene.split}-{scene.index:05d}",
        split=scene.split,
        plate=_to_tensor(scene.plate),
    )


# --------------------------------------------------------------------------- a folder of files


def _load_folder(folder: Path, concept: str, split: str, limit: int | None, size: int) -> Dataset:
    images, masks = folder / "images", folder / "masks"
    if not images.is_dir():
        raise ValueError(f"source={str(folder)!r}: there is no images/ in it.")
    splits = [name for name in SPLITS if (images / name).is_dir()]
    if splits:
        one_of("split", split, splits)
        images, masks = images / split, masks / split
    else:
        split = "all"
    files, drawn = _by_stem(images), _by_stem(masks) if masks.is_dir() else {}
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


def _by_stem(folder: Path) -> dict[str, Path]:
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
    picture = _open(image_file, "RGB")
    width, height = _fit(picture.size, size)
    image = torch.zeros(3, size, size)
    image[:, :height, :width] = _to_tensor(
        np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
    )
    valid = torch.zeros(size, size, dtype=torch.bool)
    valid[:height, :width] = True
    mask = None
    if mask_file is not None:
        grey = _open(mask_file, "L")
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


def _open(path: Path, mode: str) -> Image.Image:
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


def _to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(H, W, 3) bytes to (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)
