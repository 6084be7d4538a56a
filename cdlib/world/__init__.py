"""The pocket world: procedural scenes with exact ground truth.

`render_scene` draws scene `index` of a split: an image, its caption, one mask for every object and
the *clean plate*, the same scene without its objects. Masks make segmentation measurable, the clean
plate makes object removal measurable. A scene is a pure function of its arguments, and because
every length is a fraction of the image, the same scene can be drawn at any size. Nothing is
downloaded.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import numpy as np

from ..checks import one_of, whole_number
from .backgrounds import PLACES
from .canvas import Brush, Colour, darken
from .objects import PAINTERS

SPLITS = ("train", "val", "test")
DOMAINS = ("everyday", "radiograph")
CONCEPTS = tuple(PAINTERS)
PAPER_CONCEPTS = CONCEPTS[:4]  # bird, dog, car, person: the four datasets of the paper
BACKGROUNDS = tuple(PLACES)
MOST_OBJECTS = 3  # in one scene
COLOURS: dict[str, Colour] = {
    "red": (0.80, 0.14, 0.12),
    "yellow": (0.94, 0.80, 0.16),
    "green": (0.16, 0.56, 0.22),
    "blue": (0.14, 0.34, 0.80),
    "purple": (0.54, 0.22, 0.68),
    "brown": (0.48, 0.29, 0.15),
    "black": (0.10, 0.10, 0.12),
    "white": (0.92, 0.92, 0.91),
}


class Box(NamedTuple):
    """Tight pixel box, half-open: columns x0..x1-1, rows y0..y1-1."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class SceneObject:
    """One object: its word, its colour's word, what of it can be seen, and the box around that."""

    name: str
    colour: str
    mask: np.ndarray  # (H, W) bool
    box: Box


@dataclass(frozen=True)
class Scene:
    """A rendered scene; `image` and `plate` are (H, W, 3) uint8, objects go from far to near."""

    image: np.ndarray
    plate: np.ndarray
    caption: str
    objects: tuple[SceneObject, ...]
    background: str
    split: str
    index: int
    size: int

    def mask_of(self, name: str) -> np.ndarray:
        """(H, W) bool: the visible pixels of every object called `name`."""
        masks = [thing.mask for thing in self.objects if thing.name == name]
        return np.logical_or.reduce(masks) if masks else np.zeros(self.image.shape[:2], bool)


class _Placed(NamedTuple):
    name: str
    colour: str
    centre: tuple[float, float]
    foot: float
    scale: float
    flip: bool
    angle: float
    seed: int


def _check(split, index, size, domain, concept, difficulty, objects) -> None:
    from .radiograph import FINDINGS

    one_of("split", split, SPLITS)
    one_of("domain", domain, DOMAINS)
    if concept is not None:
        one_of("concept", concept, CONCEPTS if domain == "everyday" else FINDINGS)
    whole_number("index", index, 0)
    whole_number("size", size, 16, 2048)
    if not (isinstance(difficulty, Real) and 0 <= difficulty <= 1):
        raise ValueError(f"difficulty={difficulty!r}: must lie between 0 and 1.")
    if objects is not None:
        whole_number("objects", objects, 1, MOST_OBJECTS)
        if domain == "radiograph":
            raise ValueError(f"objects={objects!r}: only everyday scenes take a number.")


def render_scene(
    split: str,
    index: int,
    size: int = 64,
    *,
    domain: str = "everyday",
    concept: str | None = None,
    difficulty: float = 0.3,
    objects: int | None = None,
) -> Scene:
    """Draw scene `index` of `split` at `size` x `size` pixels.

    `concept` makes sure that the scene holds at least one such object (or such a finding, in the
    "radiograph" domain). `difficulty` in [0, 1] raises the odds of camouflage and the amount of
    clutter. `objects` asks for so many instead of a drawn number; now and then the last of them
    finds no room. A ValueError names whatever argument is not allowed.
    """
    _check(split, index, size, domain, concept, difficulty, objects)
    if domain == "radiograph":
        from .radiograph import render_radiograph

        return render_radiograph(split, index, size, concept)
    kind = 0 if concept is None else 1 + CONCEPTS.index(concept)
    key = (SPLITS.index(split), int(index), kind, round(1000 * difficulty))
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
    place = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    clutter = int(rng.integers(1, 4) + np.floor(4 * difficulty * rng.random() + 0.5))
    # Camouflage looks at the place as 64 pixels show it, so that a scene is the same at any size.
    preview = None if size == 64 else PLACES[place][0](copy.deepcopy(rng), 64, clutter)[0]
    plate, horizon = PLACES[place][0](rng, size, clutter)
    plate = np.clip(plate, 0, 1)
    behind = plate if preview is None else np.clip(preview, 0, 1)
    things = _arrange(rng, behind, horizon, concept, difficulty, objects)
    light = (-0.5 if rng.random() < 0.5 else 0.5, -0.6, 0.62)
    exposure = rng.uniform(0.86, 1.10) * (1 + rng.uniform(-0.05, 0.05, 3))[:, None, None]
    image, visible = _compose(plate, things, light)
    seen = tuple(
        SceneObject(thing.name, thing.colour, mask, bounding_box(mask))
        for thing, mask in zip(things, visible, strict=True)
    )
    caption = describe(rng, [(thing.name, thing.colour) for thing in things], place)
    return Scene(
        to_uint8(image * exposure), to_uint8(plate * exposure), caption, seen, place, split,
        int(index), int(size),
    )  # fmt: skip


def to_uint8(image: np.ndarray) -> np.ndarray:
    """(3, H, W) in [0, 1] to (H, W, 3) bytes."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy()


def bounding_box(mask: np.ndarray) -> Box:
    """The tight half-open box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _arrange(
    rng, plate, horizon: float, concept: str | None, difficulty: float, objects: int | None
) -> list[_Placed]:
    """One to three objects that do not hide one another, from far to near.

    An object that finds no room in a dozen tries is left out, so that about five scenes in six end
    up with one, and one in six with more. Where a number was asked for, all is placed anew instead.
    """
    drawn = 1 + int(rng.choice(MOST_OBJECTS, p=(0.66, 0.28, 0.06)))
    count = drawn if objects is None else objects
    names = [concept] if concept else [CONCEPTS[rng.integers(len(CONCEPTS))]]
    others = [name for name in CONCEPTS if name != names[0]]
    names += [others[k] for k in rng.permutation(len(others))[: count - 1]]
    things: list[_Placed] = []
    for _ in range(1 if objects is None else 12):
        again = _place_all(rng, names, horizon, plate, difficulty)
        things = max(things, again, key=len)
        if len(things) == count:
            break
    return sorted(things, key=lambda thing: thing.foot)


def _place_all(rng, names, horizon: float, plate, difficulty: float) -> list[_Placed]:
    """Each of `names` in turn, where there is room for it."""
    things: list[_Placed] = []
    for name in names:
        for _ in range(12):
            thing = _place(rng, name, horizon, len(names), plate, difficulty)
            if all(_apart(thing, other) for other in things):
                things.append(thing)
                break
    return things


def _apart(a: _Placed, b: _Placed) -> bool:
    dx, dy = abs(a.centre[0] - b.centre[0]), abs(a.centre[1] - b.centre[1])
    return max(dx, dy) > 0.82 * (a.scale + b.scale)


def _place(rng, name, horizon, count, plate, difficulty) -> _Placed:
    _, factor, manner = PAINTERS[name]
    low, high = ((0.26, 0.42), (0.20, 0.29), (0.15, 0.21))[count - 1]
    scale = min(rng.uniform(low, high) * factor, 0.48)
    x = rng.uniform(min(scale * 0.9, 0.5), max(1 - scale * 0.9, 0.5))
    if manner == "stands":
        foot = rng.uniform(max(horizon + 0.10, 2 * scale * 0.96), 0.98)
    else:
        foot = rng.uniform(2 * scale * 0.98, 0.95)
    foot = min(foot, 0.985)
    tilt = 0.30 if name == "fish" else 0.08
    centre = (float(x), float(foot - scale * 0.95))
    colour = _colour(rng, plate, centre, difficulty)
    seed = int(rng.integers(2**31))
    angle = float(rng.uniform(-tilt, tilt))
    return _Placed(name, colour, centre, float(foot), scale, rng.random() < 0.5, angle, seed)


def _colour(rng, plate, centre, difficulty: float) -> str:
    """Any colour; with odds growing with `difficulty`, the one nearest to what lies behind."""
    names = list(COLOURS)
    free, hide = names[rng.integers(len(names))], rng.random() < 0.7 * difficulty
    if not hide:
        return free
    size = plate.shape[1]
    r, c = (int(np.clip(t * size, 0, size - 1)) for t in (centre[1], centre[0]))
    behind = plate[:, max(r - size // 8, 0) : r + size // 8, max(c - size // 8, 0) : c + size // 8]
    behind = behind.mean((1, 2))
    return min(names, key=lambda name: float(np.sum((np.asarray(COLOURS[name]) - behind) ** 2)))


def _compose(plate: np.ndarray, things: list[_Placed], light) -> tuple[np.ndarray, list]:
    """The image with every object in place, and each object's visible mask."""
    size, image = plate.shape[1], plate.copy()
    cover = []
    for thing in things:
        rng = np.random.Generator(np.random.PCG64(thing.seed))
        painter, _, manner = PAINTERS[thing.name]
        wide = 0.85 if thing.name in ("car", "boat", "dog") else 0.5
        strength = 0.5 if manner == "stands" else 0.22
        foot, radii = (thing.centre[0], thing.foot), (thing.scale * wide, thing.scale * 0.16)
        darken(image, foot, radii, strength)
        pose = {"flip": thing.flip, "angle": thing.angle, "light": light}
        brush = Brush(size, thing.centre, thing.scale, **pose)
        tint = np.asarray(COLOURS[thing.colour]) * rng.uniform(0.88, 1.08)
        tint = tint + rng.uniform(-0.03, 0.03, 3)
        painter(brush, rng, tuple(np.clip(tint, 0, 1)))
        brush.over(image)
        alpha = np.zeros((size, size))
        alpha[brush.window] = brush.alpha
        cover = [a * (1 - alpha) for a in cover] + [alpha]
    return image, [a > 0.5 for a in cover]


def describe(rng: np.random.Generator, objects: list[tuple[str, str]], place: str) -> str:
    """A caption for `objects` (name, colour) at `place`: names one or two of them.

    Colours are named together or not at all (odds 0.6), the place with odds 0.75. Without objects
    the caption names the place alone.
    """
    if not objects:
        return "a photo of the " + place
    named = [objects[k] for k in rng.permutation(len(objects))[:2]]
    coloured = rng.random() < 0.6
    text = " and ".join(f"a {colour} {name}" if coloured else f"a {name}" for name, colour in named)
    if rng.random() < 0.75:
        text += " " + PLACES[place][1]
    return "a photo of " + text
