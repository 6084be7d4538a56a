"""Where a scene takes place: seven backgrounds, each a sky or wall above a ground, with clutter.

Every function returns the clean plate, (3, size, size) in [0, 1], and the height of its horizon.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Brush, Colour, blend, darken, fractal_noise, lattice_noise


def _mix(low, high, t: np.ndarray) -> np.ndarray:
    """(3, H, W) colours between `low` and `high` by `t` (H, W), clipped to [0, 1]."""
    t = np.clip(t, 0, 1)
    low, high = np.asarray(low)[:, None, None], np.asarray(high)[:, None, None]
    return low + (high - low) * t


def _rows(size: int) -> np.ndarray:
    return ((np.arange(size) + 0.5) / size)[:, None]


def _jitter(rng: np.random.Generator, colour: Colour, amount: float = 0.05) -> Colour:
    return tuple(np.clip(np.asarray(colour) + rng.uniform(-amount, amount, 3), 0, 1))


def _join(upper: np.ndarray, lower: np.ndarray, edge, softness: float) -> np.ndarray:
    """`upper` above the line `edge` (a height, or one for each column), `lower` below it."""
    size = upper.shape[1]
    t = np.clip((_rows(size) - edge) / max(softness, 1 / size) + 0.5, 0, 1)
    return upper + (lower - upper) * t


def _sky(rng, size: int, top: Colour, low: Colour, clouds: float = 0.6) -> np.ndarray:
    sky = _mix(_jitter(rng, top), _jitter(rng, low), _rows(size) * 1.8 + np.zeros((size, size)))
    cover = fractal_noise(rng, size, (3, 6, 12, 24), stretch=1.8) - rng.uniform(0.1, 0.7)
    return sky + (0.97 - sky) * np.clip(cover * 1.4, 0, 1) * clouds


def _ridge(rng, size: int, height: float, rough: float, knots: int = 6) -> np.ndarray:
    """(1, size) heights of a skyline around `height`."""
    return height + rough * lattice_noise(rng, size, 2, knots)[:1]


def _ground(rng, size: int, near: Colour, far: Colour, grain: float, stretch: float) -> np.ndarray:
    """A plane going away from us: from `far` to `near` down the image, with grain."""
    tone = _rows(size) * 1.6 - 0.6 + 0.22 * fractal_noise(rng, size, (4, 8), stretch=2.0)
    ground = _mix(_jitter(rng, far), _jitter(rng, near), tone)
    return ground * (1 + grain * fractal_noise(rng, size, (12, 24, 48), stretch=stretch))


def _tree(brush: Brush, rng, leaf: Colour, pine: bool) -> None:
    brush.capsule((0, 0.2), (0, 0.98), 0.10, 0.12, (0.32, 0.22, 0.14))
    if pine:
        for k, half in enumerate((0.34, 0.48, 0.62)):
            top = -0.95 + 0.42 * k
            brush.polygon([(0, top), (half, top + 0.62), (-half, top + 0.62)], leaf, 0.03)
    else:
        for _ in range(4):
            cx, cy = rng.uniform(-0.32, 0.32), rng.uniform(-0.55, 0.0)
            brush.ellipse(cx, cy, rng.uniform(0.36, 0.52), rng.uniform(0.32, 0.46), leaf)


def _stand(plate, rng, painter, x: float, foot: float, scale: float, **how) -> None:
    """Paint one piece of clutter with its foot at (x, foot) and its shadow below it."""
    darken(plate, (x, foot), (scale * 0.9, scale * 0.22), 0.28)
    brush = Brush(plate.shape[1], (x, foot - scale * 0.95), scale, flip=rng.random() < 0.5)
    painter(brush, rng, **how)
    brush.over(plate)


def _stone(brush: Brush, rng, colour: Colour) -> None:
    brush.ellipse(0, 0.72, rng.uniform(0.6, 0.95), rng.uniform(0.25, 0.42), colour)


def _tuft(brush: Brush, rng, colour: Colour) -> None:
    for x in rng.uniform(-0.5, 0.5, 5):
        brush.capsule((x * 0.5, 0.95), (x * 1.5, rng.uniform(-0.2, 0.4)), 0.09, 0.03, colour)


def _flower(brush: Brush, rng, colour: Colour) -> None:
    brush.capsule((0, 0.95), (0, 0.2), 0.07, 0.06, (0.20, 0.45, 0.16))
    brush.ellipse(0, 0.1, 0.36, 0.36, colour)
    brush.ellipse(0, 0.1, 0.13, 0.13, (0.95, 0.85, 0.30))


def _pole(brush: Brush, rng, colour: Colour) -> None:
    brush.capsule((0, 0.95), (0, -0.85), 0.05, 0.035, colour)
    brush.capsule((0, -0.85), (0.3, -0.9), 0.04, 0.05, colour)
    brush.ellipse(0.32, -0.84, 0.11, 0.07, (0.98, 0.94, 0.75))


def _bin(brush: Brush, rng, colour: Colour) -> None:
    brush.polygon([(-0.42, -0.2), (0.42, -0.2), (0.34, 0.92), (-0.34, 0.92)], colour, 0.05)


def _parasol(brush: Brush, rng, colour: Colour) -> None:
    brush.capsule((0, 0.95), (0.05, -0.5), 0.045, 0.04, (0.85, 0.82, 0.75))
    brush.polygon([(0.05, -0.8), (0.85, -0.15), (-0.75, -0.15)], colour, 0.06)


def _cactus(brush: Brush, rng, colour: Colour) -> None:
    brush.capsule((0, 0.95), (0, -0.7), 0.20, 0.17, colour)
    for s in (-1, 1):
        y = rng.uniform(-0.1, 0.4)
        brush.capsule((s * 0.1, y), (s * 0.48, y - 0.05), 0.12, 0.11, colour)
        brush.capsule((s * 0.48, y - 0.05), (s * 0.5, y - 0.5), 0.11, 0.10, colour)


def _buoy(brush: Brush, rng, colour: Colour) -> None:
    brush.polygon([(-0.18, -0.3), (0.18, -0.3), (0.42, 0.7), (-0.42, 0.7)], colour, 0.08)
    brush.capsule((-0.3, 0.3), (0.3, 0.3), 0.09, 0.09, (0.95, 0.94, 0.9))


BRIGHT = ((0.86, 0.25, 0.22), (0.95, 0.80, 0.28), (0.92, 0.92, 0.95), (0.40, 0.52, 0.86))


def _scatter(plate, rng, count: int, horizon: float, choices) -> None:
    """`count` pieces of clutter on the ground, far ones first and smaller."""
    feet = np.sort(rng.uniform(horizon + 0.06, 1.02, count))
    for foot in feet:
        painter, colour, height = choices[rng.integers(len(choices))]
        near = (foot - horizon) / (1 - horizon)
        scale = height * (0.45 + 0.55 * near) * rng.uniform(0.75, 1.25)
        _stand(plate, rng, painter, rng.uniform(0, 1), foot, scale, colour=_jitter(rng, colour))


def grass(rng, size: int, clutter: int):
    horizon = rng.uniform(0.28, 0.48)
    sky = _sky(rng, size, (0.42, 0.64, 0.90), (0.80, 0.90, 0.97))
    hills = _mix((0.30, 0.46, 0.34), (0.42, 0.56, 0.36), 0.5 + 0.5 * lattice_noise(rng, size, 8, 8))
    ground = _ground(rng, size, (0.30, 0.54, 0.18), (0.50, 0.68, 0.30), 0.16, 0.45)
    plate = _join(sky, hills, _ridge(rng, size, horizon - 0.06, 0.05), 0.01)
    plate = _join(plate, ground, horizon, 0.02)
    for x in rng.uniform(0, 1, rng.integers(0, 3)):
        leaf = _jitter(rng, (0.20, 0.42, 0.17))
        _stand(plate, rng, _tree, x, horizon + 0.03, rng.uniform(0.08, 0.15), leaf=leaf, pine=False)
    tuft, stone = (_tuft, (0.24, 0.48, 0.14), 0.055), (_stone, (0.55, 0.54, 0.50), 0.06)
    flower = (_flower, BRIGHT[rng.integers(4)], 0.035)
    _scatter(plate, rng, clutter * 2, horizon, (tuft, tuft, flower, flower, stone))
    return plate, horizon


def beach(rng, size: int, clutter: int):
    horizon = rng.uniform(0.24, 0.40)
    shore = horizon + rng.uniform(0.08, 0.18)
    sky = _sky(rng, size, (0.38, 0.66, 0.93), (0.86, 0.93, 0.97), 0.5)
    sea = _mix((0.16, 0.50, 0.68), (0.36, 0.72, 0.78), _rows(size) * 3 - 0.7)
    sea = sea * (1 + 0.10 * fractal_noise(rng, size, (24, 48), stretch=4))
    sand = _ground(rng, size, (0.88, 0.77, 0.55), (0.80, 0.68, 0.48), 0.05, 1)
    line = _ridge(rng, size, shore, 0.025, 5)
    plate = _join(_join(sky, sea, horizon, 0.008), np.full_like(sand, 0.95), line - 0.012, 0.02)
    plate = _join(plate, sand, line + 0.012, 0.03)
    stone, shell = (_stone, (0.60, 0.54, 0.46), 0.06), (_stone, (0.95, 0.88, 0.84), 0.03)
    parasol = (_parasol, BRIGHT[rng.integers(4)], 0.13)
    _scatter(plate, rng, clutter, shore, (stone, shell, parasol))
    return plate, shore


def snow(rng, size: int, clutter: int):
    horizon = rng.uniform(0.28, 0.46)
    sky = _sky(rng, size, (0.62, 0.72, 0.84), (0.86, 0.89, 0.93), 0.6)
    peaks = _mix((0.52, 0.60, 0.72), (0.88, 0.91, 0.96), 0.4 + fractal_noise(rng, size, (8, 16)))
    ground = _ground(rng, size, (0.90, 0.93, 0.97), (0.84, 0.88, 0.94), 0.025, 1.5)
    drift = fractal_noise(rng, size, (5, 10), stretch=2.5)
    ground = ground * (1 - 0.14 * np.clip(drift, 0, 1) * np.array([1.3, 1.0, 0.55])[:, None, None])
    plate = _join(sky, peaks, _ridge(rng, size, horizon - 0.10, 0.08, 7), 0.01)
    plate = _join(plate, ground, _ridge(rng, size, horizon, 0.015), 0.02)
    pine, stone = (_tree, (0.20, 0.36, 0.32), 0.13), (_stone, (0.50, 0.53, 0.58), 0.06)
    for x in rng.uniform(0, 1, rng.integers(1, 5)):
        leaf = _jitter(rng, pine[1])
        _stand(plate, rng, _tree, x, horizon + 0.03, rng.uniform(0.08, 0.16), leaf=leaf, pine=True)
    twig = (_tuft, (0.40, 0.33, 0.26), 0.05)
    _scatter(plate, rng, clutter, horizon, (stone, twig))
    return plate, horizon


def street(rng, size: int, clutter: int):
    horizon = rng.uniform(0.40, 0.54)
    plate = _sky(rng, size, (0.55, 0.68, 0.84), (0.84, 0.88, 0.92), 0.5)
    x, columns, rows = 0.0, (np.arange(size) + 0.5) / size, _rows(size)
    while x < 1:  # a row of house fronts, each with its own wall colour and windows
        wide, roof = rng.uniform(0.20, 0.36), rng.uniform(0.02, 0.20)
        brick = ((0.62, 0.40, 0.33), (0.70, 0.64, 0.55), (0.52, 0.54, 0.58), (0.76, 0.70, 0.48))
        wall = np.asarray(_jitter(rng, brick[rng.integers(4)]))[:, None, None]
        pitch, lit = wide / rng.integers(2, 4), rng.uniform(0.25, 0.75)
        pane = np.clip((np.abs((columns - x) / pitch % 1 - 0.5) - 0.24) * pitch * size, 0, 1)
        floor = np.clip((np.abs((rows - roof) / 0.13 % 1 - 0.55) - 0.28) * 0.13 * size, 0, 1)
        hole = 1 - np.maximum(pane[None, :], floor)
        front = wall * (1 - hole) + hole * np.array([0.24, 0.29, 0.36])[:, None, None] * (0.7 + lit)
        left, right = (columns - x) * size + 0.5, (x + wide - columns) * size
        inside = np.clip(left, 0, 1) * np.clip(right, 0, 1)
        plate += (front - plate) * inside[None, None, :] * np.clip((rows - roof) * size, 0, 1)
        x += wide
    kerb = horizon + rng.uniform(0.05, 0.12)
    walk = _ground(rng, size, (0.66, 0.64, 0.61), (0.60, 0.58, 0.56), 0.04, 1)
    road = _ground(rng, size, (0.36, 0.36, 0.38), (0.42, 0.42, 0.44), 0.06, 1)
    stripe = kerb + (1 - kerb) * rng.uniform(0.35, 0.65)
    dash = (np.abs(rows - stripe) < 0.014) & ((columns[None, :] * 3 + rng.random()) % 1 < 0.55)
    road = np.where(dash, 0.86, road)
    plate = _join(_join(plate, walk, horizon, 0.01), road, kerb, 0.012)
    for post in rng.uniform(0, 1, rng.integers(0, 3)):
        _stand(plate, rng, _pole, post, kerb, rng.uniform(0.18, 0.24), colour=(0.24, 0.25, 0.27))
    box, rubble = (_bin, BRIGHT[rng.integers(4)], 0.07), (_stone, (0.45, 0.44, 0.42), 0.04)
    _scatter(plate, rng, clutter, horizon, (box, rubble))
    return plate, kerb


def forest(rng, size: int, clutter: int):
    horizon = rng.uniform(0.42, 0.58)
    leaves = fractal_noise(rng, size, (6, 12, 24, 48))
    plate = _mix((0.10, 0.22, 0.12), (0.46, 0.62, 0.34), 0.45 + 0.45 * leaves)
    columns = (np.arange(size) + 0.5) / size
    for depth in np.sort(rng.uniform(0, 1, rng.integers(6, 11))):
        x, half = rng.uniform(0, 1), 0.010 + 0.028 * depth
        across = (columns - x) / half
        bark = blend((0.36, 0.40, 0.30), _jitter(rng, (0.30, 0.21, 0.14)), depth)
        side = (0.62 + 0.5 * np.sqrt(np.maximum(0, 1 - across**2)) - 0.15 * across)[None, None, :]
        cover = np.clip((1 - np.abs(across)) * half * size + 0.5, 0, 1)[None, None, :]
        plate += (np.asarray(bark)[:, None, None] * side - plate) * cover
    ground = _ground(rng, size, (0.34, 0.27, 0.15), (0.27, 0.34, 0.17), 0.18, 1)
    plate = _join(plate, ground, _ridge(rng, size, horizon, 0.02, 9), 0.03)
    tuft, stone = (_tuft, (0.22, 0.40, 0.16), 0.07), (_stone, (0.42, 0.42, 0.38), 0.07)
    _scatter(plate, rng, clutter * 2, horizon, (tuft, tuft, stone))
    return plate, horizon


def sea(rng, size: int, clutter: int):
    horizon = rng.uniform(0.26, 0.44)
    sky = _sky(rng, size, (0.40, 0.60, 0.88), (0.90, 0.88, 0.84), 0.7)
    depth = _rows(size) * 1.7 - 0.7 + np.zeros((size, size))
    water = _mix(_jitter(rng, (0.28, 0.52, 0.66)), _jitter(rng, (0.07, 0.26, 0.44)), depth)
    swell = fractal_noise(rng, size, (12, 24, 48), stretch=3.5)
    water = water * (1 + 0.20 * swell) + 0.30 * np.clip(swell - 0.75, 0, 1)
    plate = _join(sky, water, horizon, 0.008)
    rock, buoy = (_stone, (0.36, 0.35, 0.34), 0.10), (_buoy, (0.88, 0.32, 0.16), 0.06)
    _scatter(plate, rng, (clutter + 1) // 2, horizon, (rock, buoy))
    return plate, horizon


def desert(rng, size: int, clutter: int):
    horizon = rng.uniform(0.30, 0.48)
    plate = _sky(rng, size, (0.46, 0.66, 0.90), (0.96, 0.86, 0.70), 0.25)
    for k in range(3):  # dunes, nearer ones lower, warmer and with a shaded side
        crest = _ridge(rng, size, horizon + 0.16 * k, 0.07, 4)
        sand = blend((0.92, 0.72, 0.46), (0.86, 0.58, 0.32), k / 2)
        lee = 0.5 + 0.5 * np.sin((_rows(size) - crest) * rng.uniform(5, 9) + rng.uniform(-0.5, 0.5))
        ripple = fractal_noise(rng, size, (24, 48), stretch=3)
        dune = _mix(blend(sand, (0.55, 0.34, 0.20), 0.5), _jitter(rng, sand), 0.35 + 0.65 * lee)
        plate = _join(plate, dune * (1 + 0.05 * ripple), crest, 0.012)
    cactus, stone = (_cactus, (0.30, 0.46, 0.24), 0.12), (_stone, (0.62, 0.42, 0.30), 0.07)
    twig = (_tuft, (0.55, 0.45, 0.26), 0.05)
    _scatter(plate, rng, clutter, horizon, (cactus, stone, twig))
    return plate, horizon


# name -> (painter, how a caption says where)
PLACES: dict[str, tuple[Callable, str]] = {
    "grass": (grass, "on the grass"),
    "beach": (beach, "on the beach"),
    "snow": (snow, "in the snow"),
    "street": (street, "on the street"),
    "forest": (forest, "in the forest"),
    "sea": (sea, "on the sea"),
    "desert": (desert, "in the desert"),
}
