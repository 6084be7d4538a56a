"""Figures of chapter 3: rectangles of background, loss curves, samples before, during and after.

Images are (3, H, W) in [0, 1], masks and maps (h, w), tensors or arrays; nothing is computed here
but what a plot needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cdlib.figures import (
    BLUE,
    CYCLE,
    HEAT,
    INK,
    PAGE,
    QUIET,
    RED,
    YELLOW,
    bare,
    interval,
    outline,
    panels,
    show_image,
)
from cdlib.figures.attention import show_map, spotlight, true_outline


def tight(fig: Figure) -> Figure:
    """Panels close to one another, for grids of many small pictures."""
    fig.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    return fig


def region_outline(axes: Axes, region: ArrayLike, size: int | None = None) -> None:
    """The outline of M_pre on axes that show `size` pixels, in another colour than the truth's."""
    outline(axes, region, colour=INK, line=2.1, size=size)
    outline(axes, region, colour=YELLOW, line=1.0, size=size)


def too_coarse(
    images: ArrayLike, m_pre: ArrayLike, differences: ArrayLike, ideal: ArrayLike, truths: ArrayLike
) -> Figure:
    """Column by column: an image, its M_pre, |image - clean plate|, and the mask from that.

    Masks have the images' size; differences are (n, H, W), drawn on one scale.
    """
    n = len(images)
    fig, axes = panels(4, n, extra=0.1)
    top = float(np.asarray(differences).max()) or 1.0
    for k in range(n):
        show_image(axes[0, k], images[k])
        spotlight(axes[1, k], images[k], m_pre[k])
        bare(axes[2, k]).imshow(np.asarray(differences[k]), cmap=HEAT, vmin=0, vmax=top)
        spotlight(axes[3, k], images[k], ideal[k])
        for ax in axes[:, k]:
            true_outline(ax, truths[k])
    labels = ("image", "$M_{pre}$", "|image − plate|", "mask from it")
    for ax, label in zip(axes[:, 0], labels, strict=True):
        ax.set_ylabel(label)
    return tight(fig)


def rectangles(
    images: ArrayLike,
    m_pre: ArrayLike,  # (n, H, W), at the images' size
    drawn: ArrayLike,  # (n, draws, H, W), at the images' size
    frequency: ArrayLike,  # (n, h, w)
) -> Figure:
    """Column by column: an image with M_pre outlined, some drawn regions, and how often each cell
    is drawn. What keeps its colours in the middle rows is what the loss counts."""
    n, draws = len(images), len(drawn[0])
    fig, axes = panels(draws + 2, n, extra=0.1)
    for k in range(n):
        show_image(axes[0, k], images[k])
        for j in range(draws):
            spotlight(axes[1 + j, k], images[k], drawn[k][j])
        show_map(axes[-1, k], frequency[k])
        side = np.asarray(frequency[k]).shape[0]
        for ax, size in [(ax, None) for ax in axes[:-1, k]] + [(axes[-1, k], side)]:
            region_outline(ax, m_pre[k], size)
    axes[0, 0].set_ylabel("$M_{pre}$")
    for j in range(draws):
        axes[1 + j, 0].set_ylabel(f"draw {j + 1}")
    axes[-1, 0].set_ylabel("how often")
    return tight(fig)


def loss_curves(log: pd.DataFrame, window: int = 1) -> Figure:
    """The losses of the two prompts against the step: points as logged, and a running mean.

    log: columns step, loss_f, loss_b; NaN where no image of that kind came by. window: of the
    running mean, in rows.
    """
    fig, axes = panels(1, 2, aspect=1.6, extra=0.2)
    sides = (("loss_f", "$y_f$, whole image", BLUE), ("loss_b", "$y_b$, rectangle", RED))
    for ax, (name, title, colour) in zip(axes[0], sides, strict=True):
        known = log[["step", name]].astype(float).dropna()
        ax.plot(known.step, known[name], ".", color=colour, alpha=0.35, markersize=4)
        smooth = known[name].rolling(window, min_periods=1, center=True).mean()
        ax.plot(known.step, smooth, color=colour)
        ax.set(title=title, xlabel="step of fine-tuning", ylim=(0, None))
    axes[0, 0].set_ylabel("loss")
    return fig


def growth(samples: Mapping[str, ArrayLike], steps: Sequence[int]) -> Figure:
    """Samples as training goes: a block of rows for each prompt, one fixed noise a row.

    samples: prompt to (len(steps), n, 3, H, W).
    """
    n = len(next(iter(samples.values()))[0])
    fig, axes = panels(n * len(samples), len(steps), width=0.8 * PAGE, extra=0.3)
    for block, (prompt, drawn) in enumerate(samples.items()):
        for row, column in np.ndindex(n, len(steps)):
            show_image(axes[block * n + row, column], drawn[column][row])
        axes[block * n + (n - 1) // 2, 0].set_ylabel(prompt, loc="bottom" if n % 2 == 0 else None)
    for ax, step in zip(axes[0], steps, strict=True):
        ax.set_title(f"step {step}" if step else "$m$")
    return tight(fig)


def labelled_rows(rows: Mapping[str, ArrayLike]) -> Figure:
    """Rows of images, each with its label at its left; as many columns as the longest row has."""
    columns = max(len(images) for images in rows.values())
    fig, axes = panels(len(rows), columns)
    for row, (label, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(row, images, strict=False):
            show_image(ax, image)
        for ax in row[len(images) :]:
            ax.axis("off")
        row[0].set_ylabel(label)
    return tight(fig)


def guidance_sweep(images: ArrayLike, scales: Sequence[float]) -> Figure:
    """Samples by concept guidance: scales across, one fixed noise a row; (S, n, 3, H, W)."""
    n = len(images[0])
    fig, axes = panels(n, len(scales), extra=0.2)
    for row, column in np.ndindex(n, len(scales)):
        show_image(axes[row, column], images[column][row])
    for ax, s in zip(axes[0], scales, strict=True):
        ax.set_title(f"$s$ = {s:g}")
    return tight(fig)


def seen_by_scale(scales: Sequence[float], seen: Mapping[str, Sequence]) -> Figure:
    """The share of samples in which the judge sees something, against s, with intervals.

    seen: what is seen to one estimate for each scale.
    """
    fig, axes = panels(1, 1, width=0.75 * PAGE, aspect=2.3)
    ax: Axes = axes[0, 0]
    shift = 0.06 * (max(scales) - min(scales)) / max(len(scales), 1)
    for k, (name, estimates) in enumerate(seen.items()):
        x = np.asarray(scales) + shift * (k - (len(seen) - 1) / 2)
        ax.plot(x, [estimate.value for estimate in estimates], color=CYCLE[k], label=name)
        for at, estimate in zip(x, estimates, strict=True):
            interval(ax, at, estimate, colour=CYCLE[k], linewidth=1)
    for s, what in ((0, "$y_b$ alone"), (1, "$y_f$ alone")):
        if min(scales) < s < max(scales):
            ax.axvline(s, color=QUIET, linestyle=":", linewidth=1)
            ax.text(s, 1.04, what, color=QUIET, fontsize=7.5, ha="right" if s == 0 else "left")
    ax.set(xlabel="concept guidance $s$", ylabel="share of samples", ylim=(-0.03, 1.03))
    fig.legend(loc="outside lower center", ncols=len(seen))
    return fig
