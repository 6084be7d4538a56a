"""One loader for all sources."""

from __future__ import annotations

from pathlib import Path

from cdlib.checks import did_you_mean, one_of, whole_number
from cdlib.datasets.examples import Dataset
from cdlib.datasets.folders import load_folder
from cdlib.datasets.pocket import POCKET_SIZES, load_pocket
from cdlib.world import SPLITS

SOURCES = ("pocket",)


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
        return load_pocket(concept, split, limit or POCKET_SIZES[split], size, difficulty)
    folder = Path(source)
    if not folder.is_dir():
        raise ValueError(
            f"source={str(source)!r}: allowed are {', '.join(SOURCES)}, or an existing folder with "
            f"images/ in it.{did_you_mean(source, SOURCES)}"
        )
    if not isinstance(concept, str) or not concept.strip():
        raise ValueError(f"concept={concept!r}: must be the word for the folder's object.")
    return load_folder(folder, concept, split, limit, size)
