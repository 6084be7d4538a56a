"""Painting with signed distances: shaded, anti-aliased shapes on a resolution-free unit square.

A shape is a signed distance *d* (negative inside) on a pixel grid. Its coverage of a pixel is
``clip(1/2 - d / pixel, 0, 1)``, which anti-aliases an edge without supersampling, and its shading
comes from the normal of a pillow-shaped surface over it. As every length is a fraction of the
image, a scene drawn at 64 and at 256 pixels is the same scene.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

Colour = tuple[float, float, float]


def blend(a: Colour, b: Colour, t: float) -> Colour:
    """The colour a fraction `t` of the way from `a` to `b`."""
    return tuple((1 - t) * x + t * y for x, y in zip(a, b, strict=True))


@lru_cache(maxsize=64)
def _knots(size: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For `size` positions on a lattice of `n`: the knots left and right, and how far between."""
    position = (np.arange(size) + 0.5) / size * (n - 1)
    left = np.minimum(position.astype(int), n - 2)
    t = position - left
    return left, left + 1, t * t * (3 - 2 * t)  # smoothstep: no creases at the lattice lines


def lattice_noise(rng: np.random.Generator, size: int, rows: int, columns: int) -> np.ndarray:
    """(size, size) value noise in [-1, 1] with `rows` x `columns` lattice values.

    Interpolated without matrix products, whose rounding differs between machines and threads.
    """
    lattice = rng.uniform(-1, 1, (rows, columns))
    up, down, t = _knots(size, rows)
    lines = lattice[up] + t[:, None] * (lattice[down] - lattice[up])
    left, right, t = _knots(size, columns)
    return lines[:, left] + t * (lines[:, right] - lines[:, left])


def fractal_noise(
    rng: np.random.Generator, size: int, knots: tuple[int, ...] = (4, 8, 16, 32), stretch: float = 1
) -> np.ndarray:
    """(size, size) noise, one octave for each entry of `knots`, each half as strong as the last.

    `stretch` > 1 draws the features out sideways (waves, sand), < 1 upwards (blades of grass).
    """
    total = np.zeros((size, size))
    for octave, n in enumerate(knots):
        rows, columns = n, n
        if stretch > 1:
            columns = max(2, round(n / stretch))
        elif stretch < 1:
            rows = max(2, round(n * stretch))
        total += lattice_noise(rng, size, rows, columns) * 0.5**octave
    return total


class Brush:
    """A square window of the image, seen in the local frame of the thing painted there.

    The local frame has its origin at `centre`, its unit is `scale` image widths, *u* points right
    (left if `flip`), *v* points down, and the frame is turned by `angle` radians. What is painted
    accumulates as a premultiplied colour `rgb` (3, h, w) with coverage `alpha` (h, w).
    """

    def __init__(
        self,
        size: int,
        centre: tuple[float, float],
        scale: float,
        *,
        flip: bool = False,
        angle: float = 0.0,
        light: tuple[float, float, float] = (-0.5, -0.6, 0.62),
        reach: float = 1.3,
    ):
        x, y = centre
        low_x, high_x = (int(np.clip((x + s * reach * scale) * size, 0, size)) for s in (-1, 1))
        low_y, high_y = (int(np.clip((y + s * reach * scale) * size, 0, size)) for s in (-1, 1))
        self.window = (slice(low_y, high_y + 1), slice(low_x, high_x + 1))
        columns = (np.arange(low_x, min(high_x + 1, size)) + 0.5) / size - x
        rows = (np.arange(low_y, min(high_y + 1, size)) + 0.5) / size - y
        dx, dy = columns[None, :] / scale, rows[:, None] / scale
        c, s, mirror = np.cos(angle), np.sin(angle), (-1.0 if flip else 1.0)
        self.u, self.v = mirror * (c * dx + s * dy), c * dy - s * dx
        self.light = (mirror * (c * light[0] + s * light[1]), c * light[1] - s * light[0], light[2])
        self.pixel = 1 / (size * scale)
        self.rgb = np.zeros((3, *self.u.shape))
        self.alpha = np.zeros(self.u.shape)
        self.pattern: np.ndarray | float = 0.0  # relative change of brightness, where asked for

    def paint(
        self,
        distance: np.ndarray,
        normal: tuple[np.ndarray, np.ndarray] | None,
        colour: Colour,
        *,
        textured: bool = False,
        gloss: float = 0.0,
        opacity: float = 1.0,
    ) -> None:
        """Lay a shape over what is there; with a `normal` (nx, ny) it is lit, else flat."""
        cover = np.clip(0.5 - distance / self.pixel, 0, 1) * opacity
        shade: np.ndarray | float = 1.0
        if normal is not None:
            nx, ny = normal
            nz = np.sqrt(np.maximum(0.0, 1 - nx * nx - ny * ny))
            facing = nx * self.light[0] + ny * self.light[1] + nz * self.light[2]
            shade = 0.55 + 0.6 * np.maximum(facing, 0.0)
            if gloss:
                shade = shade + gloss * np.maximum(facing, 0.0) ** 12
        if textured:
            shade = shade * (1 + self.pattern)
        painted = np.minimum(np.asarray(colour)[:, None, None] * shade, 1.0)
        self.rgb += cover * (painted - self.rgb)
        self.alpha += cover * (1 - self.alpha)

    def ellipse(self, cx, cy, rx, ry, colour: Colour, angle: float = 0.0, **how) -> None:
        """An ellipsoid; distance by the first-order bound |k|(|k|-1)/|grad|."""
        x, y = self.u - cx, self.v - cy
        if angle:
            c, s = np.cos(angle), np.sin(angle)
            x, y = c * x + s * y, c * y - s * x
        nx, ny = x / rx, y / ry
        k = np.sqrt(nx * nx + ny * ny) + 1e-9
        slope = np.sqrt((nx / rx) ** 2 + (ny / ry) ** 2) + 1e-9
        if angle:
            nx, ny = c * nx - s * ny, s * nx + c * ny
        flat = how.pop("flat", False)
        self.paint(k * (k - 1) / slope, None if flat else (nx, ny), colour, **how)

    def capsule(self, start, end, r0: float, r1: float, colour: Colour, **how) -> None:
        """A limb from `start` to `end` whose radius goes from `r0` to `r1`."""
        (ax, ay), (bx, by) = start, end
        x, y, wx, wy = self.u - ax, self.v - ay, bx - ax, by - ay
        h = np.clip((x * wx + y * wy) / (wx * wx + wy * wy + 1e-12), 0, 1)
        x, y, r = x - h * wx, y - h * wy, r0 + h * (r1 - r0)
        flat = how.pop("flat", False)
        self.paint(np.sqrt(x * x + y * y) - r, None if flat else (x / r, y / r), colour, **how)

    def polygon(self, points, colour: Colour, rounding: float = 0.02, **how) -> None:
        """A convex polygon, its corners in order either way round, lit like a soft block."""
        p = np.asarray(points, float)
        edge = np.roll(p, -1, axis=0) - p
        turn = np.sign(edge[0, 0] * edge[1, 1] - edge[0, 1] * edge[1, 0])
        outward = turn * np.stack([edge[:, 1], -edge[:, 0]], 1)
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        offset = (outward * p).sum(1) - rounding
        distance = outward[0, 0] * self.u + outward[0, 1] * self.v - offset[0]
        for (ox, oy), o in zip(outward[1:], offset[1:], strict=True):
            distance = np.maximum(distance, ox * self.u + oy * self.v - o)
        centre, half = (p.max(0) + p.min(0)) / 2, (p.max(0) - p.min(0)) / 2 + 1e-9
        normal = ((self.u - centre[0]) / half[0] * 0.45, (self.v - centre[1]) / half[1] * 0.75)
        flat = how.pop("flat", False)
        self.paint(distance - rounding, None if flat else normal, colour, **how)

    def over(self, image: np.ndarray) -> None:
        """Composite what was painted onto `image` (3, H, W), in place."""
        part = image[(slice(None), *self.window)]
        part *= 1 - self.alpha
        part += self.rgb


def darken(image: np.ndarray, centre, radii, strength: float) -> None:
    """A soft contact shadow: `image` (3, H, W) loses light in a blurred ellipse, in place."""
    size = image.shape[1]
    (cx, cy), (rx, ry) = centre, radii
    x = ((np.arange(size) + 0.5) / size - cx) / rx
    y = ((np.arange(size) + 0.5) / size - cy) / ry
    image *= 1 - strength * np.exp(-1.6 * y * y)[:, None] * np.exp(-1.6 * x * x)[None, :]
