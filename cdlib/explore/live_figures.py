"""What the live explorers show, as PNG. No pyplot: the explorers draw in threads of their own, and
pyplot's list of open figures belongs to the notebook's cells.

Images are (3, H, W) in [0, 1], maps (h, w), masks (H, W) bool, of any size and proportion.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from threading import Lock

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cdlib.explore.live_model import Drawing, Masked, Picture, Removal
from cdlib.figures import (
    BLUE,
    GREEN,
    HEAT,
    INK,
    PAGE,
    QUIET,
    RED,
    as_picture,
    bare,
    overlay,
    show_image,
)
from cdlib.figures.attention import spotlight, true_outline

DPI = 110
_PEN = Lock()  # matplotlib's text cache is shared by all threads and guarded by none


def _drawn_alone(draw: Callable[..., Figure]) -> Callable[..., bytes]:
    """Make PNG of the figure that a function draws, one at a time."""

    @wraps(draw)
    def png(*args: object, **kwargs: object) -> bytes:
        buffer = io.BytesIO()
        with _PEN:
            draw(*args, **kwargs).savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()

    return png


def thumbnail(image: torch.Tensor, side: int = 256) -> bytes:
    """PNG of an image, small ones enlarged pixel by pixel to about `side`."""
    pixels = (as_picture(image) * 255).round().astype(np.uint8)
    times = max(1, side // max(pixels.shape[:2]))
    buffer = io.BytesIO()
    Image.fromarray(pixels.repeat(times, 0).repeat(times, 1)).save(buffer, format="png")
    return buffer.getvalue()


@_drawn_alone
def mask_figure(picture: Picture, masked: Masked, word: str) -> Figure:
    """The image, M_hat, and what M_pre holds of the image; below the histogram with its cut."""
    height, width = picture.image.shape[1:]
    above, below = PAGE / 3.2 * min(height / width, 2), 1.5  # inches of the two rows
    high = above + below + 1.1
    fig = Figure(figsize=(PAGE, high), layout="none")  # a layout engine would double the time
    edges = {"left": 0.6 / PAGE, "right": 1 - 0.1 / PAGE, "top": 1 - 0.3 / high}
    edges |= {"bottom": 0.5 / high, "hspace": 0.35 / (above + below), "wspace": 0.04}
    axes = fig.subplot_mosaic("abc;hhh", height_ratios=(above, below), gridspec_kw=edges)
    show_image(axes["a"], picture.image, "image")
    _show_map(axes["b"], masked.m_hat, (height, width), f"$\\hat{{M}}$ of {_plain(word)}")
    score = "" if masked.scores is None else f", IoU {masked.scores['iou']:.2f}"
    spotlight(axes["c"], picture.image, masked.mask, f"$M_{{pre}}${score}")
    if picture.truth is not None:
        for name in "abc":
            true_outline(axes[name], picture.truth)
    _histogram(axes["h"], masked)
    return fig


@_drawn_alone
def removal_figure(picture: Picture, removal: Removal) -> Figure:
    """The image, the object's removal, what changed, and what the refined mask holds."""
    height, width = picture.image.shape[1:]
    fig = Figure(figsize=(PAGE, PAGE / 4 * min(height / width, 2) + 0.3), layout="constrained")
    axes = fig.subplots(1, 4)
    show_image(axes[0], picture.image, "image")
    show_image(axes[1], removal.removed, "removed")
    show_image(axes[2], removal.difference, "difference", cmap=HEAT)
    score = "" if removal.scores is None else f", IoU {removal.scores['iou']:.2f}"
    spotlight(axes[3], picture.image, removal.m_refined, f"$M${score}")
    if picture.truth is not None:
        true_outline(axes[3], picture.truth)
    return fig


@_drawn_alone
def drawing_figure(now: Drawing, before: Drawing | None, word: str) -> Figure:
    """A drawing and where the model put `word`; below the drawing before it, to compare."""
    shown = [drawing for drawing in (now, before) if drawing is not None]
    height, width = now.image.shape[1:]
    panel = PAGE / 2.4
    size = (2 * panel, (panel * min(height / width, 2) + 0.4) * len(shown))
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.subplots(len(shown), 2, squeeze=False)
    for (left, right), drawing, which in zip(axes, shown, ("now", "before"), strict=False):
        how = f"seed {drawing.seed}, {drawing.steps} steps, guidance {drawing.guidance:g}"
        show_image(left, drawing.image, f"{which}: {_plain(drawing.prompt, 40)}\n{how}")
        if word in drawing.maps:
            overlay(right, drawing.image, drawing.maps[word], f"{_plain(word)}\n")
        else:
            show_image(right, drawing.image, f"no {_plain(word)} in this prompt\n")
    return fig


def _show_map(axes: Axes, m: torch.Tensor, size: tuple[int, int], title: str) -> None:
    """A map over the pixels of an image of `size`, in its own range."""
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    bare(axes).imshow(m.numpy(), cmap=HEAT, extent=extent)
    axes.set_title(title)


def _histogram(axes: Axes, masked: Masked) -> None:
    """The values of M_hat, the two modes where the rule fits them, and the threshold.

    On a logarithmic scale: an object of a few cells is flat beside its background on any other.
    """
    values = masked.m_hat.double().numpy().ravel()
    counts, edges, _ = axes.hist(
        values, bins=48, histtype="stepfilled", color=BLUE, alpha=0.3, label="cells"
    )
    if masked.cut.means is not None:
        x = np.linspace(values.min(), values.max(), 400)
        modes = torch.stack([masked.cut.means, masked.cut.variances, masked.cut.weights])[:, 0]
        for (mean, variance, weight), name, colour in zip(
            modes.T.tolist(), ("background mode", "object mode"), (GREEN, RED), strict=True
        ):
            if variance > 0:
                bell = np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
                cells = weight * bell * len(values) * (edges[1] - edges[0])
                axes.plot(x, cells, color=colour, label=name)
    cut = masked.cut.threshold.item()
    if np.isfinite(cut):  # one of two modes may win everywhere
        axes.axvline(cut, color=INK, linewidth=1.4, label=f"threshold {cut:.4g}")
    axes.set(xlabel="value of $\\hat{M}$", ylabel="cells", yscale="log")
    axes.set_ylim(0.5, counts.max() * 3)
    axes.minorticks_off()
    axes.tick_params(colors=QUIET)
    axes.legend(loc="upper right")


def _plain(text: str, longest: int = 24) -> str:
    """A reader's words as a title: short, and not taken for mathematics."""
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return "“" + text.replace("$", "\\$") + "”"
