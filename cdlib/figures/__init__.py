"""Plots, and nothing but plots: what is shown is computed elsewhere.

One style for the whole book, set when this package is imported: one typeface, colours that people
who see few colours tell apart (Okabe and Ito, 2008), white paper in light and dark mode alike.
Figures are drawn at the width of a page, `PAGE` inches, so that their letters keep their size.

Images may be (3, H, W) tensors or (H, W, 3) arrays, in [0, 1] or bytes; masks and maps are (h, w).
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

PAGE = 7.3  # inches, the width of the text
INK, QUIET, PAPER = "#1f2933", "#6b7785", "#ffffff"
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PINK, SKY, YELLOW = "#cc79a7", "#56b4e9", "#f0e442"
CYCLE = (BLUE, RED, GREEN, ORANGE, PINK, SKY)
MASK = RED  # a predicted mask
TRUTH = "#00e5ff"  # the outline of the true one, seen on any background
HEAT = "magma"

STYLE = {
    "figure.constrained_layout.use": True,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so all machines draw alike
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "regular",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=CYCLE),
    "axes.grid": True,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "image.interpolation": "nearest",
    "image.cmap": HEAT,
}
mpl.rcParams.update(STYLE)


def panels(
    rows: int, columns: int, *, width: float = PAGE, aspect: float = 1.0, extra: float = 0.0
) -> tuple[Figure, np.ndarray]:
    """A figure with a (rows, columns) array of axes, each `aspect` times as wide as it is high.

    extra: inches of height for titles and labels, on top of the panels themselves.
    """
    height = width / columns / aspect * rows + extra
    return plt.subplots(rows, columns, figsize=(width, height), squeeze=False)


def as_picture(image: ArrayLike) -> np.ndarray:
    """Any image as (H, W, 3) in [0, 1], any map or mask as (h, w) float64. ValueError otherwise."""
    if isinstance(image, torch.Tensor):
        image = image.detach().float().cpu().numpy()
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[0] == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] != 3):
        raise ValueError(f"image: shape {pixels.shape} is neither an RGB image nor a map.")
    if pixels.dtype == np.uint8:
        return pixels / 255
    return np.clip(pixels, 0, 1) if pixels.ndim == 3 else pixels.astype(np.float64)


def bare(axes: Axes) -> Axes:
    """Take the frame, ticks and grid away and keep title and labels."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def show_image(axes: Axes, image: ArrayLike, title: str = "", **how: object) -> None:
    """An image, map or mask on axes without a frame; `how` goes to imshow."""
    picture = as_picture(image)
    if picture.ndim == 2 and np.asarray(image).dtype == bool:
        how = {"cmap": "gray", "vmin": 0, "vmax": 1, **how}
    bare(axes).imshow(picture, **how)
    if title:
        axes.set_title(title)


def image_grid(
    images: Sequence[ArrayLike],
    titles: Sequence[str] = (),
    *,
    columns: int | None = None,
    rows: Sequence[str] = (),
    width: float = PAGE,
    **how: object,
) -> Figure:
    """Images side by side, row by row.

    titles: one for each image, or for each column (then they stand above the first row alone).
    rows: a label for each row, written at its left.
    """
    if not len(images):
        raise ValueError("images: give at least one.")
    columns = columns or len(images)
    n_rows = -(-len(images) // columns)
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    repeats = n_rows if len(titles) > columns else 1
    fig, axes = panels(n_rows, columns, width=width, extra=0.17 * lines * repeats)
    for k, ax in enumerate(axes.flat):
        if k >= len(images):
            ax.axis("off")
            continue
        show_image(ax, images[k], titles[k] if k < len(titles) else "", **how)
    for label, ax in zip(rows, axes[:, 0], strict=False):
        ax.set_ylabel(label)
    return fig


def overlay(
    axes: Axes,
    image: ArrayLike,
    on_top: ArrayLike,
    title: str = "",
    *,
    colour: str = MASK,
    strength: float = 0.55,
) -> None:
    """A mask (bool) tinted in `colour`, or a heat map (float) glowing, over its image.

    A map coarser than its image is brought to its size by repeating cells; its own range is shown.
    """
    picture, top = as_picture(image), np.asarray(as_picture(on_top))
    is_mask = np.asarray(on_top).dtype == bool
    top = _stretch_to(top, picture.shape[:2])
    if is_mask:
        tint, weight = np.asarray(to_rgb(colour)), strength * top[..., None]
    else:
        span = float(np.ptp(top)) or 1.0
        level = (top - top.min()) / span
        tint = mpl.colormaps[HEAT](level)[..., :3]
        weight = strength * (0.4 + 0.6 * level[..., None])
    show_image(axes, picture * (1 - weight) + tint * weight, title)


def outline(
    axes: Axes, mask: ArrayLike, *, colour: str = TRUTH, line: float = 1.3, size: int | None = None
) -> None:
    """The border of a mask along its pixels' edges, on axes that show an image of `size` pixels."""
    mask = np.asarray(as_picture(mask)) > 0.5
    scale = (size or mask.shape[0]) / mask.shape[0]
    padded = np.pad(mask, 1)
    for axis in (0, 1):
        flat = padded if axis == 0 else padded.T
        rows, columns = np.nonzero(flat[1:] != flat[:-1])
        ends = np.stack([columns - 1, columns]) * scale - 0.5, np.stack([rows, rows]) * scale - 0.5
        x, y = ends if axis == 0 else ends[::-1]
        # one line with gaps: a line for each edge takes matplotlib seconds in a gallery
        x, y = (np.insert(values.astype(float), 2, np.nan, axis=0).T.ravel() for values in (x, y))
        axes.plot(x, y, color=colour, linewidth=line, solid_capstyle="round")


def frame(axes: Axes, box: Sequence[float], *, colour: str = YELLOW, line: float = 1.3) -> None:
    """A half-open pixel box (x0, y0, x1, y1) drawn along its pixels' edges."""
    x0, y0, x1, y1 = (value - 0.5 for value in box)
    corners = ([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0])
    axes.plot(*corners, color=colour, linewidth=line, solid_joinstyle="miter")


def interval(
    axes: Axes, x: float, estimate: Sequence, *, colour: str = BLUE, **how: object
) -> None:
    """A point with its 95% interval: `estimate` is (value, (low, high), ...)."""
    value, (low, high) = estimate[0], estimate[1]
    axes.errorbar(
        x, value, [[value - low], [high - value]], color=colour, marker="o", capsize=3, **how
    )


def _stretch_to(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, values.shape, strict=True))
    return values[rows[:, None], columns]
