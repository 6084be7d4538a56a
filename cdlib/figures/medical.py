"""Figures of chapter 8: drawn radiographs, their attention maps, and three groups of values.

Images are (3, H, W) in [0, 1], masks and maps (h, w), tensors or arrays; nothing is computed here
but what a plot needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from cdlib.figures import (
    BLUE,
    CYCLE,
    GREEN,
    INK,
    ORANGE,
    PAGE,
    QUIET,
    RED,
    SKY,
    frame,
    interval,
    overlay,
    panels,
    plt,
    show_image,
)
from cdlib.figures.attention import show_map, true_outline
from cdlib.figures.finetuning import tight

REGIONS = {"outside": "#c9d1da", "body": SKY, "lungs": ORANGE, "finding": RED}
MODES = (GREEN, BLUE, INK)  # of a mixture, the lowest first; the highest is always RED


def chests(images: ArrayLike, regions: Mapping[str, ArrayLike], titles: Sequence[str]) -> Figure:
    """Radiographs above; below, the regions that each pixel belongs to, in colours.

    regions: name to (n, H, W) bool, names as in REGIONS.
    """
    fig, axes = panels(2, len(images), extra=0.5)
    for k, title in enumerate(titles):
        show_image(axes[0, k], images[k], title)
        painted = np.ones((*np.asarray(regions["body"][k]).shape, 3))
        for name, masks in regions.items():
            painted[np.asarray(masks[k])] = to_rgb(REGIONS[name])
        show_image(axes[1, k], painted)
    tight(fig)
    marks = [Patch(color=REGIONS[name], label=name) for name in regions]
    fig.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    return fig


def maps_and_boxes(
    images: ArrayLike,
    m_hats: ArrayLike,
    truths: ArrayLike,
    boxes: Sequence[Sequence[Sequence[float]]],
) -> Figure:
    """Images above with the finding's outline and box, and below their maps with the outline."""
    fig, axes = panels(2, len(images))
    for k, (above, below) in enumerate(axes.T):
        show_image(above, images[k])
        true_outline(above, truths[k])
        for box in boxes[k]:
            frame(above, box)
        show_map(below, m_hats[k], truths[k])
    axes[0, 0].set_ylabel("image")
    axes[1, 0].set_ylabel("$\\hat{M}$")
    return tight(fig)


def auc_strips(
    values: Mapping[str, ArrayLike], means: Mapping[str, Sequence], paper: float | None = None
) -> Figure:
    """Each image's AUC as a dot, a strip for each kind, with their mean and its interval.

    values: kind to (N,), NaN for none. means: kind to estimate. paper: a number to compare with.
    """
    fig, ax = plt.subplots(figsize=(PAGE, 2.8))
    rng = np.random.default_rng(0)  # to set dots of one height apart
    for k, (kind, aucs) in enumerate(values.items()):
        aucs = np.asarray(aucs)
        x = k + rng.uniform(-0.22, 0.22, len(aucs))
        ax.plot(x, aucs, "o", color=SKY, alpha=0.5, markersize=3.5, zorder=1)
        interval(ax, k, means[kind], colour=BLUE, linestyle="none", zorder=3)
    ax.axhline(0.5, color=QUIET, linestyle=":", linewidth=1, label="chance")
    if paper is not None:
        ax.axhline(paper, color=RED, linestyle="--", linewidth=1.2, label="the paper, on MS-CXR")
    ax.set_xticks(range(len(values)), list(values))
    ax.tick_params(axis="x", labelcolor=INK)
    ax.grid(axis="x", visible=False)
    ax.set(ylabel="pixel AUC of an image", xlim=(-0.6, len(values) - 0.4), ylim=(None, 1.01))
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def modes(
    m_hats: Sequence[ArrayLike],
    regions: Sequence[Mapping[str, ArrayLike]],
    fits: Sequence[Mapping[str, tuple[ArrayLike, float]]],
    titles: Sequence[str],
) -> Figure:
    """Histograms of maps by region, a row a map and a column a mixture, with its modes and its cut.

    m_hats: (H, W) each, of the image's size. regions: of each image, name to bool (H, W). fits: of
    each image, a mixture's name to its modes (3, K) (means, variances, weights) and its cut.
    """
    names = list(fits[0])
    fig, axes = plt.subplots(
        len(m_hats), len(names), figsize=(PAGE, 2.1 * len(m_hats) + 0.4), squeeze=False
    )
    for row, m_hat, parts, by_name, title in zip(axes, m_hats, regions, fits, titles, strict=True):
        values = np.asarray(m_hat, dtype=np.float64)
        span = np.linspace(values.min(), max(values.max(), values.min() + 1e-9), 49)
        for ax, (name, (gaussians, cut)) in zip(row, by_name.items(), strict=True):
            _region_histogram(ax, values, parts, span)
            _bells(ax, np.asarray(gaussians), span, values.size)
            ax.axvline(cut, color=INK, linestyle="--", linewidth=1.3)
            ax.set(yscale="log", ylim=(0.7, None), xlim=(span[0], span[-1]))
            ax.set_title(f"{title}: {name}")
        row[0].set_ylabel("pixels")
    for ax in axes[-1]:
        ax.set_xlabel("value of $\\hat{M}$")
    marks = [Patch(color=REGIONS[name], label=name) for name in regions[0]]
    marks += [plt.Line2D([], [], color=INK, linestyle="--", label="cut")]
    fig.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    return fig


def _region_histogram(ax, values: np.ndarray, parts: Mapping, bins: np.ndarray) -> None:
    pieces = [values[np.asarray(mask)] for mask in parts.values()]
    ax.hist(pieces, bins, stacked=True, color=[REGIONS[name] for name in parts])


def _bells(ax, gaussians: np.ndarray, bins: np.ndarray, pixels: int) -> None:
    """The modes, in pixels a bin; one without width, of a constant map, is left out."""
    x = np.linspace(bins[0], bins[-1], 400)
    count = gaussians.shape[1]
    colours = [*MODES[: count - 1], RED]
    for (mean, variance, weight), colour in zip(gaussians.T, colours, strict=False):
        if variance > 0:
            bell = np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
            height = pixels * (bins[1] - bins[0]) * weight * bell
            ax.plot(x, np.maximum(height, 1e-9), color=colour, linewidth=1.5)


def region_cover(shares: Mapping[str, Mapping[str, Sequence]]) -> Figure:
    """How much of each region masks cover: a group of bars a region, a colour a kind of mask.

    shares: kind of mask to region to estimate.
    """
    fig, ax = plt.subplots(figsize=(0.85 * PAGE, 2.8))
    regions = list(dict.fromkeys(region for found in shares.values() for region in found))
    width = 0.8 / len(shares)
    for j, (kind, found) in enumerate(shares.items()):
        for k, region in enumerate(regions):
            if region in found:
                value, (low, high) = found[region][0], found[region][1]
                x = k + width * (j - (len(shares) - 1) / 2)
                ax.bar(x, value, 0.92 * width, color=CYCLE[j], label=kind if k == 0 else None)
                ax.errorbar(x, value, [[value - low], [high - value]], color=INK, capsize=2)
    ax.set_xticks(range(len(regions)), regions)
    ax.tick_params(axis="x", labelcolor=INK)
    ax.grid(axis="x", visible=False)
    ax.set_axisbelow(True)
    ax.set(ylabel="share of the region in the mask", ylim=(0, 1.02))
    fig.legend(loc="outside lower center", ncols=len(shares))
    return fig


def mask_rows(
    images: ArrayLike, rows: Mapping[str, ArrayLike], truths: ArrayLike, titles: Sequence[str] = ()
) -> Figure:
    """A column an image: the image, then a row for each kind of mask (bool) or map (float).

    rows: label to (n, H, W) masks, or (n, h, w) maps. The line is the true outline.
    """
    fig, axes = panels(1 + len(rows), len(images), extra=0.3 if titles else 0.0)
    for k, image in enumerate(images):
        show_image(axes[0, k], image, titles[k] if titles else "")
        true_outline(axes[0, k], truths[k])
        for ax, found in zip(axes[1:, k], rows.values(), strict=True):
            one = np.asarray(found[k])
            if one.dtype == bool:
                overlay(ax, image, one)
                true_outline(ax, truths[k])
            else:
                show_map(ax, one, truths[k])
    for ax, label in zip(axes[:, 0], ("image", *rows), strict=True):
        ax.set_ylabel(label)
    return tight(fig)
