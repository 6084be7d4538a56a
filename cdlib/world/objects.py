"""What can stand in a scene: eight kinds of object, each with its own pose and proportions.

Every function paints one object with a `Brush` whose local frame reaches from -1 to 1 both ways,
feet at v = 1. All randomness comes from `rng`, so a drawing is a function of its seed alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Brush, Colour, blend

DARK, PALE = (0.07, 0.07, 0.08), (0.97, 0.97, 0.95)
SKIN = ((0.96, 0.80, 0.69), (0.85, 0.62, 0.46), (0.62, 0.42, 0.29), (0.40, 0.26, 0.18))


def _shade(colour: Colour, t: float) -> Colour:
    """`colour` brightened (t > 0) or dimmed (t < 0)."""
    return blend(colour, PALE if t > 0 else DARK, abs(t))


def _coat(brush: Brush, rng: np.random.Generator) -> None:
    """Fur, feather or paint: stripes, spots or nothing, as a relative change of brightness."""
    kind = rng.integers(3)
    turn, phase, pitch = rng.uniform(0, np.pi), rng.uniform(0, 6.28), rng.uniform(7, 13)
    along = np.cos(turn) * brush.u + np.sin(turn) * brush.v
    across = np.cos(turn) * brush.v - np.sin(turn) * brush.u
    if kind == 0:
        brush.pattern = 0.18 * np.sin(pitch * along + 1.5 * np.sin(3 * across) + phase)
    elif kind == 1:
        brush.pattern = 0.22 * np.sin(pitch * along + phase) * np.sin(pitch * across - phase)


def bird(brush: Brush, rng: np.random.Generator, colour: Colour) -> None:
    _coat(brush, rng)
    wing, belly = _shade(colour, -0.3), _shade(colour, 0.35)
    beak = ((0.95, 0.62, 0.12), (0.35, 0.30, 0.26), (0.90, 0.82, 0.35))[rng.integers(3)]
    plump, tail = rng.uniform(0.40, 0.52), rng.uniform(0.35, 0.62)
    head, lift = rng.uniform(0.25, 0.32), rng.uniform(-0.08, 0.10)
    if rng.random() < 0.7:  # perched
        for foot in (-0.06, 0.14):
            brush.capsule((foot, 0.45), (foot + 0.05, 0.97), 0.045, 0.035, _shade(beak, -0.3))
        brush.capsule((-0.45, 0.22), (-0.45 - tail, 0.48 + lift), 0.17, 0.10, wing)
        brush.ellipse(0, 0.12, 0.68, plump, colour, -0.35 + lift, textured=True)
        brush.ellipse(0.17, 0.27, 0.42, 0.30, belly, -0.5)
        brush.ellipse(-0.18, 0.10, 0.48, 0.25, wing, 0.25 + rng.uniform(-0.2, 0.2), textured=True)
        hx, hy = 0.50, -0.42
    else:  # in flight, one wing towards us
        brush.capsule((-0.5, 0.1), (-0.55 - tail, 0.18 + lift), 0.13, 0.09, wing)
        raise_ = rng.uniform(-0.95, -0.55) * (1 if rng.random() < 0.75 else -0.8)
        brush.capsule((-0.05, 0.0), (-0.30, raise_ * 0.9), 0.20, 0.06, _shade(wing, -0.15))
        brush.ellipse(0, 0.05, 0.68, plump * 0.72, colour, -0.12 + lift, textured=True)
        brush.ellipse(0.05, 0.18, 0.45, 0.17, belly, -0.1)
        brush.capsule((0.05, 0.05), (0.12, raise_), 0.24, 0.07, wing, textured=True)
        hx, hy = 0.62, -0.12
    brush.polygon(
        [(hx + head * 0.7, hy - 0.09), (hx + head + 0.28, hy + 0.06), (hx + head * 0.7, hy + 0.15)],
        beak,
    )
    brush.ellipse(hx, hy, head, head, colour)
    brush.ellipse(hx + 0.10, hy - 0.05, 0.055, 0.055, DARK, flat=True)


def _legs(brush: Brush, rng, colour: Colour, xs, top: float, thick: float) -> None:
    """Four legs in a walking pose, the far pair dimmed and drawn first."""
    stride = rng.uniform(-0.16, 0.16, 4)
    for i, x in enumerate(xs):
        tint = _shade(colour, -0.35) if i % 2 == 0 else colour
        knee = (x + stride[i] * 0.4, (top + 0.95) / 2)
        foot = (x + stride[i], 0.94)
        brush.capsule((x, top), knee, thick * 1.25, thick, tint)
        brush.capsule(knee, foot, thick, thick * 0.85, tint)


def dog(brush: Brush, rng: np.random.Generator, colour: Colour) -> None:
    _coat(brush, rng)
    dark, long = _shade(colour, -0.32), rng.uniform(0.46, 0.58)
    deep, lift = rng.uniform(0.24, 0.30), rng.uniform(-0.12, 0.10)
    wag = rng.uniform(0.1, 0.55)
    brush.capsule((-long - 0.1, 0.05), (-long - 0.35, 0.05 - wag), 0.09, 0.05, colour)
    _legs(brush, rng, colour, (-long, -long + 0.14, long - 0.2, long - 0.06), 0.2, 0.085)
    brush.capsule((-long, 0.12), (long - 0.1, 0.06), deep * 0.92, deep, colour, textured=True)
    hx, hy = long + 0.12, -0.40 + lift
    brush.capsule((long - 0.15, -0.02), (hx - 0.03, hy + 0.05), 0.22, 0.18, colour)
    brush.ellipse(hx, hy, 0.25, 0.23, colour)
    brush.capsule((hx + 0.10, hy + 0.07), (hx + 0.34, hy + 0.12), 0.13, 0.09, _shade(colour, 0.12))
    brush.ellipse(hx + 0.42, hy + 0.07, 0.06, 0.05, DARK)
    ear = rng.uniform(0.20, 0.32)
    brush.capsule((hx - 0.12, hy - 0.12), (hx - 0.20, hy - 0.12 + ear), 0.10, 0.09, dark)
    brush.ellipse(hx + 0.10, hy - 0.05, 0.042, 0.042, DARK, flat=True)


def cat(brush: Brush, rng: np.random.Generator, colour: Colour) -> None:
    _coat(brush, rng)
    dark, wide = _shade(colour, -0.3), rng.uniform(0.34, 0.46)
    side, curl = rng.uniform(0.45, 0.75), rng.uniform(0.0, 0.7)
    brush.capsule((-0.25, 0.85), (-side - 0.1, 0.72), 0.09, 0.08, dark)
    brush.capsule((-side - 0.1, 0.72), (-side - 0.16, 0.72 - curl), 0.08, 0.06, dark)
    brush.ellipse(0, 0.48, wide, 0.52, colour, rng.uniform(-0.12, 0.12), textured=True)
    brush.ellipse(0.06, 0.45, wide * 0.5, 0.36, _shade(colour, 0.3))
    for x in (-0.16, 0.16):
        brush.capsule((x, 0.5), (x, 0.90), 0.10, 0.09, colour)
    hx, hy, r = rng.uniform(-0.08, 0.14), -0.34, rng.uniform(0.34, 0.40)
    for s in (-1, 1):
        tip = (hx + s * r * 0.88, hy - r - rng.uniform(0.12, 0.26))
        brush.polygon([tip, (hx + s * r * 0.95, hy - 0.08), (hx + s * 0.10, hy - r * 0.8)], dark)
    brush.ellipse(hx, hy, r, r * 0.88, colour, textured=True)
    for s in (-1, 1):
        brush.ellipse(hx + s * 0.15, hy - 0.04, 0.075, 0.085, (0.85, 0.86, 0.35), flat=True)
        brush.ellipse(hx + s * 0.15, hy - 0.04, 0.03, 0.075, DARK, flat=True)
    brush.ellipse(hx, hy + 0.12, 0.05, 0.035, (0.85, 0.50, 0.52), flat=True)


def car(brush: Brush, rng: np.random.Generator, colour: Colour) -> None:
    glass, low = blend((0.16, 0.22, 0.30), (0.62, 0.76, 0.86), rng.uniform(0, 0.8)), 0.70
    roof, bonnet = rng.uniform(-0.42, -0.16), rng.uniform(0.06, 0.22)
    front, back = rng.uniform(0.30, 0.62), rng.uniform(-0.85, -0.55)
    slant, wheel = rng.uniform(0.18, 0.34), rng.uniform(0.19, 0.24)
    cabin = [(back + slant * 0.6, roof), (front - slant, roof), (front, bonnet), (back, bonnet)]
    brush.polygon(cabin, _shade(colour, -0.08), 0.06, gloss=0.25)
    inner = [
        (back + slant * 0.6 + 0.06, roof + 0.08),
        (front - slant - 0.03, roof + 0.08),
        (front - 0.10, bonnet - 0.01),
        (back + 0.10, bonnet - 0.01),
    ]
    brush.polygon(inner, glass, 0.03, gloss=0.3)
    pillar = (back + front) / 2 + rng.uniform(-0.1, 0.1)
    brush.capsule((pillar, roof + 0.05), (pillar, bonnet), 0.035, 0.035, _shade(colour, -0.1))
    body = [(-0.97, bonnet), (0.93, bonnet + 0.05), (0.98, low), (-0.98, low)]
    brush.polygon(body, colour, 0.10, gloss=0.3)
    brush.capsule((-0.85, low - 0.02), (0.85, low - 0.02), 0.05, 0.05, _shade(colour, -0.55))
    brush.ellipse(0.90, bonnet + 0.18, 0.07, 0.06, (0.99, 0.95, 0.70), flat=True)
    brush.ellipse(-0.92, bonnet + 0.17, 0.05, 0.07, (0.75, 0.10, 0.08), flat=True)
    for x in (-0.55, 0.56):
        brush.ellipse(x, low + 0.04, wheel + 0.05, wheel + 0.05, (0.09, 0.09, 0.10))
        brush.ellipse(x, low + 0.04, wheel * 0.52, wheel * 0.52, (0.68, 0.69, 0.72))


def person(brush: Brush, rng: np.random.Generator, colour: Colour) -> None:
    _coat(brush, rng)
    skin = SKIN[rng.integers(len(SKIN))]
    hair = ((0.12, 0.08, 0.06), (0.45, 0.28, 0.13), (0.80, 0.66, 0.36), (0.6, 0.6, 0.6))
    hair = hair[rng.integers(4)]
    trousers = ((0.16, 0.18, 0.28), (0.30, 0.27, 0.24), (0.45, 0.42, 0.36), (0.22, 0.30, 0.45))
    trousers = trousers[rng.integers(4)]
    stance, wide = rng.uniform(0.05, 0.24), rng.uniform(0.20, 0.27)
    for s in (-1, 1):
        foot = (s * stance + rng.uniform(-0.05, 0.05), 0.93)
        knee = ((s * 0.11 + foot[0]) / 2 + rng.uniform(-0.03, 0.07), 0.55)
        brush.capsule((s * 0.10, 0.18), knee, 0.13, 0.10, trousers)
        brush.capsule(knee, foot, 0.10, 0.08, trousers)
        brush.ellipse(foot[0] + 0.04, 0.94, 0.12, 0.06, (0.14, 0.11, 0.10))
    for s in (-1, 1):
        raised = rng.uniform(-0.45, 0.35) if rng.random() < 0.35 else rng.uniform(0.0, 0.25)
        elbow = (s * (wide + rng.uniform(0.06, 0.20)), -0.14 + raised * 0.4)
        hand = (elbow[0] + s * rng.uniform(-0.10, 0.10), elbow[1] + 0.26 * np.sign(raised + 0.05))
        brush.capsule((s * wide * 0.85, -0.38), elbow, 0.095, 0.08, _shade(colour, -0.12))
        brush.capsule(elbow, hand, 0.075, 0.065, _shade(colour, -0.12))
        brush.ellipse(*hand, 0.07, 0.07, skin)
    if rng.random() < 0.4:  # long hair, behind the shoulders
        brush.capsule((0, -0.74), (0, -0.44), 0.22, 0.17, _shade(hair, -0.2))
    torso = [(-wide, -0.42), (wide, -0.42), (wide * 0.82, 0.20), (-wide * 0.82, 0.20)]
    brush.polygon(torso, colour, 0.10, textured=True)
    brush.capsule((0, -0.48), (0, -0.55), 0.08, 0.08, skin)
    brush.ellipse(0, -0.72, 0.17, 0.20, skin)
    brush.ellipse(-0.02, -0.84, 0.19, 0.12, hair, rng.uniform(-0.25, 0.25))


def fish(brush: Brush, rng: np.random.Generator, colour: Colour) -> None:
    _coat(brush, rng)
    fin, tall = _shade(colour, -0.28), rng.uniform(0.34, 0.50)
    fork, rise = rng.uniform(0.28, 0.45), rng.uniform(0.10, 0.24)
    for s in (-1, 1):
        brush.capsule((-0.50, 0.12), (-0.90, 0.12 + s * fork), 0.11, 0.10, fin)
    top = 0.12 - tall
    brush.polygon([(-0.30, top - rise), (0.25, top + 0.02), (-0.35, top + 0.16)], fin)
    brush.polygon([(-0.05, 0.12 + tall * 0.8), (0.12, 0.12 + tall * 0.8), (-0.18, 0.75)], fin)
    brush.ellipse(0.12, 0.12, 0.74, tall, colour, textured=True, gloss=0.3)
    brush.ellipse(0.16, 0.12 + tall * 0.35, 0.52, tall * 0.45, _shade(colour, 0.35), 0.0)
    brush.capsule((0.05, 0.15), (-0.20, 0.26 + rng.uniform(-0.1, 0.1)), 0.12, 0.06, fin)
    brush.ellipse(0.56, 0.02, 0.085, 0.085, PALE, flat=True)
    brush.ellipse(0.58, 0.02, 0.045, 0.045, DARK, flat=True)


def boat(brush: Brush, rng: np.random.Generator, colour: Colour) -> None:
    mast, sail = rng.uniform(-0.12, 0.12), _shade(PALE, -rng.uniform(0.0, 0.14))
    deck, height = rng.uniform(0.38, 0.50), rng.uniform(-0.95, -0.75)
    brush.capsule((mast, deck), (mast, height), 0.04, 0.03, (0.40, 0.27, 0.16))
    reach = rng.uniform(0.5, 0.72)
    main = [(mast + 0.07, height + 0.06), (mast + reach, deck - 0.12), (mast + 0.07, deck - 0.12)]
    brush.polygon(main, sail, 0.03)
    if rng.random() < 0.75:
        jib = rng.uniform(0.35, 0.6)
        luff, clew = mast - 0.07, (mast - jib, deck - 0.12)
        points = [(luff, height + 0.25), (luff, deck - 0.12), clew]
        brush.polygon(points, _shade(sail, -0.10), 0.03)
    hull = [(-0.95, deck), (0.98, deck), (0.62, 0.93), (-0.72, 0.93)]
    brush.polygon(hull, colour, 0.06, gloss=0.15)
    brush.capsule((-0.85, deck + 0.05), (0.88, deck + 0.05), 0.045, 0.045, _shade(colour, 0.6))


def balloon(brush: Brush, rng: np.random.Generator, colour: Colour) -> None:
    gores, phase = rng.integers(4, 8), rng.uniform(0, 6.28)
    bulge = np.sqrt(np.maximum(0.05, 1 - np.minimum(((brush.v + 0.3) / 0.72) ** 2, 0.95)))
    angle = np.arcsin(np.clip(brush.u / (0.7 * bulge), -1, 1))  # gores narrow towards the limb
    brush.pattern = rng.uniform(0.10, 0.32) * np.sign(np.sin(gores * angle * 2 + phase))
    wide, drop = rng.uniform(0.62, 0.72), rng.uniform(0.60, 0.72)
    for s in (-1, 1):
        brush.capsule((s * 0.28, 0.32), (s * 0.13, drop + 0.08), 0.025, 0.025, (0.30, 0.25, 0.2))
    neck = [(-wide * 0.78, 0.0), (wide * 0.78, 0.0), (0.20, 0.42), (-0.20, 0.42)]
    brush.polygon(neck, _shade(colour, -0.18), 0.05, textured=True)
    brush.ellipse(0, -0.28, wide, 0.68, colour, textured=True, gloss=0.25)
    basket = [(-0.19, drop), (0.19, drop), (0.15, 0.95), (-0.15, 0.95)]
    brush.polygon(basket, (0.52, 0.35, 0.18), 0.03)


# name -> (painter, local-unit scale that evens out the area, how it meets the ground)
PAINTERS: dict[str, tuple[Callable, float, str]] = {
    "bird": (bird, 1.06, "stands"),
    "dog": (dog, 1.02, "stands"),
    "car": (car, 0.98, "stands"),
    "person": (person, 1.32, "stands"),
    "cat": (cat, 1.06, "stands"),
    "fish": (fish, 0.98, "floats"),
    "boat": (boat, 1.00, "stands"),
    "balloon": (balloon, 1.05, "floats"),
}
