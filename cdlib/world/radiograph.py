"""A radiograph-like domain for the paper's medical case, with the finding's mask.

Drawn, not learned: a ribcage around two dark lungs, spine, heart and diaphragm, and one of two
findings, a "mass" (a dense rounded nodule in a lung) or an "effusion" (fluid that fills a lung's
base up to a meniscus), or none. It borrows the look and the prompts of the chest case, nothing
else: no statement about real radiographs follows from it.
"""

from __future__ import annotations

import numpy as np

from .canvas import fractal_noise, lattice_noise

FINDINGS = ("mass", "effusion")
NO_FINDING = "no finding"


def _soft(distance: np.ndarray, width: float) -> np.ndarray:
    return 1 / (1 + np.exp(np.clip(distance / width, -40, 40)))


def _ellipse(x, y, cx, cy, rx, ry) -> np.ndarray:
    """Distance-like value of an ellipse, in image widths near its rim."""
    k = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)
    return (k - 1) * min(rx, ry)


def _anatomy(rng, x, y, size: int):
    """The density of a chest without finding, (H, W) in [0, 1], and each lung's field."""
    middle, wide = 0.5 + rng.uniform(-0.02, 0.02), rng.uniform(0.92, 1.08)
    top, base = rng.uniform(0.10, 0.16), rng.uniform(0.76, 0.84)
    body = _soft(_ellipse(x, y, middle, 0.62, 0.50 * wide, 0.66), 0.02)
    density = 0.10 + 0.50 * body
    lungs, centres = [], []
    for side in (-1, 1):
        cx, half = middle + side * 0.205 * wide, rng.uniform(0.135, 0.155) * wide
        dome = base - 0.05 * np.cos((x - cx) / half) + rng.uniform(-0.02, 0.02)
        cy, tall = (top + base) / 2 + 0.05, (base - top) / 2 + 0.09
        field = _soft(_ellipse(x, y, cx, cy, half, tall), 0.012)
        lungs.append(field * _soft(y - dome, 0.010) * _soft(top - y, 0.02))
        centres.append((cx, half, top, base))
    density = density - 0.36 * np.maximum(*lungs)
    ribs = np.zeros_like(density)
    spacing, droop = rng.uniform(0.082, 0.095), rng.uniform(0.5, 0.8)
    for k in range(9):
        line = 0.13 + k * spacing + droop * (np.abs(x - middle) - 0.18) ** 2 * 2.2
        ribs = np.maximum(ribs, np.exp(-(((y - line) / 0.013) ** 2)))
    density = density + 0.075 * ribs * body
    density = density + 0.20 * np.exp(-(((x - middle) / 0.045) ** 2)) * body
    heart = _ellipse(x, y, middle + 0.07, rng.uniform(0.60, 0.66), rng.uniform(0.13, 0.17), 0.17)
    density = density + 0.24 * _soft(heart, 0.012) * (0.35 + 0.65 * np.maximum(*lungs))
    vessels = np.clip(fractal_noise(rng, size, (10, 20)), 0, 1) * np.maximum(*lungs)
    return density + 0.07 * vessels, lungs, centres


def _mass(rng, x, y, lungs, centres) -> np.ndarray:
    side = int(rng.integers(2))
    cx, half, top, base = centres[side]
    r = rng.uniform(0.055, 0.10)
    px = cx + rng.uniform(-0.4, 0.4) * half
    py = rng.uniform(top + 0.14, base - 0.14)
    lobes = 1 + 0.08 * np.sin(3 * np.arctan2(y - py, x - px) + rng.uniform(0, 6.28))
    return _soft(_ellipse(x, y, px, py, r, r * rng.uniform(0.8, 1.2)) - r * (lobes - 1), 0.010)


def _effusion(rng, x, y, lungs, centres) -> np.ndarray:
    side = int(rng.integers(2))
    cx, half, top, base = centres[side]
    level = base - rng.uniform(0.12, 0.32)
    outward = (x - cx) / half * (1 if side else -1)
    meniscus = level - 0.07 * np.clip(outward, -1, 1.2) ** 3
    return lungs[side] * _soft(meniscus - y, 0.012)


def render_radiograph(split: str, index: int, size: int, concept: str | None = None):
    """Radiograph `index` of `split`; `concept` fixes the finding, else a third have none."""
    from . import SPLITS, Scene, SceneObject, bounding_box, to_uint8

    kind = 0 if concept is None else 1 + FINDINGS.index(concept)
    key = (SPLITS.index(split), int(index), kind, 777)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
    choices = (*FINDINGS, NO_FINDING)
    finding = concept or choices[rng.integers(3)]
    grid = (np.arange(size) + 0.5) / size
    x, y = grid[None, :] + np.zeros((size, 1)), grid[:, None] + np.zeros((1, size))
    density, lungs, centres = _anatomy(rng, x, y, size)
    texture = 0.03 * lattice_noise(rng, size, 48, 48)
    gain, offset = rng.uniform(0.95, 1.15), rng.uniform(-0.03, 0.05)
    cover = np.zeros((size, size))
    if finding != NO_FINDING:
        cover = (_mass if finding == "mass" else _effusion)(rng, x, y, lungs, centres)
    dense = density + cover * rng.uniform(0.26, 0.36)
    image, plate = (
        to_uint8(np.repeat(((d + texture) * gain + offset)[None], 3, 0)) for d in (dense, density)
    )
    mask = cover > 0.5
    objects = ()
    if finding != NO_FINDING:
        objects = (SceneObject(finding, "white", mask, bounding_box(mask)),)
    word = finding if finding == NO_FINDING else f"chest {finding}"
    caption = f"final report examination {word}"
    return Scene(image, plate, caption, objects, "chest", split, int(index), int(size))
