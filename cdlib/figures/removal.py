"""Figures of chapter 4: an object going away, what is put in its place, and masks from the change.

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
    HEAT,
    INK,
    ORANGE,
    PAGE,
    PINK,
    QUIET,
    RED,
    SKY,
    as_picture,
    bare,
    interval,
    panels,
    plt,
    show_image,
)
from cdlib.figures.attention import show_map, spotlight, true_outline
from cdlib.figures.finetuning import region_outline, tight

FOUND = "#8d99a6"  # an object's pixel that the mask has
ERRORS = (RED, PINK, ORANGE, BLUE, SKY, GREEN)  # the kinds of error, missed pixels first


def removal_steps(
    noised: Sequence[ArrayLike],
    guesses: Sequence[ArrayLike],
    titles: Sequence[str],
    region: ArrayLike,
    ends: tuple[ArrayLike, ArrayLike],
) -> Figure:
    """Above, what the latent shows on the way; below, the clean picture that the model sees in it.

    region: (h, w), the cells that the model paints, outlined. ends: image and clean plate, which
    stand at the left, apart.
    """
    fig, axes = panels(2, len(noised) + 1, extra=0.42)
    side = as_picture(noised[0]).shape[0]
    for ax, picture, title in zip(axes[:, 0], ends, ("image", "clean plate"), strict=True):
        show_image(ax, picture, title)
    for column, title in enumerate(titles, start=1):
        show_image(axes[0, column], noised[column - 1], title)
        show_image(axes[1, column], guesses[column - 1])
    for ax in [axes[0, 0], *axes[:, 1:].flat]:
        region_outline(ax, region, side)
    axes[0, 1].set_ylabel("latent")
    axes[1, 1].set_ylabel("estimate")
    return tight(fig)


def side_by_side(
    rows: Mapping[str, ArrayLike], regions: ArrayLike, outlined: Sequence[str] = ()
) -> Figure:
    """A column a scene, a row a way to fill it; rows named in `outlined` show the region."""
    columns = len(regions)
    fig, axes = panels(len(rows), columns, width=0.9 * PAGE)
    for row, (label, images) in zip(axes, rows.items(), strict=True):
        for ax, image, region in zip(row, images, regions, strict=True):
            show_image(ax, image)
            if label in outlined:
                region_outline(ax, region, as_picture(image).shape[0])
        row[0].set_ylabel(label)
    return tight(fig)


def painters(
    estimates: Mapping[str, Mapping[str, Sequence]],
    levels: Mapping[str, Mapping[str, float]],
    units: Mapping[str, str],
) -> Figure:
    """One panel a measure, one point with interval a way to fill the region.

    estimates: measure to painter to estimate. levels: measure to horizontal lines by name, for what
    no painter can be expected to pass, or what happens where nothing is painted.
    """
    fig, axes = plt.subplots(1, len(estimates), figsize=(PAGE, 2.9))
    for ax, (measure, by_painter) in zip(np.atleast_1d(axes), estimates.items(), strict=True):
        for k, estimate in enumerate(by_painter.values()):
            interval(ax, k, estimate, colour=BLUE, linestyle="none")
        for (name, value), style in zip(levels.get(measure, {}).items(), ("--", ":"), strict=False):
            ax.axhline(value, color=QUIET, linestyle=style, linewidth=1.2, label=name)
        ax.set(title=measure, ylabel=units.get(measure, ""), xlim=(-0.5, len(by_painter) - 0.5))
        ax.set_xticks(range(len(by_painter)), list(by_painter), rotation=35, ha="right")
        ax.tick_params(axis="x", labelcolor=INK)
    by_label = {}
    for ax in np.atleast_1d(axes):
        by_label |= {label: line for line, label in zip(*ax.get_legend_handles_labels())}  # noqa: B905
    if by_label:
        fig.legend(by_label.values(), by_label.keys(), loc="outside lower center", ncols=2)
    return fig


def difference_and_masks(
    image: ArrayLike,
    removed: ArrayLike,
    difference: ArrayLike,  # (H, W)
    changed: ArrayLike,  # (H, W) bool, above the threshold
    region: ArrayLike,  # (H, W) bool, M_pre at the image's size
    mask: ArrayLike,  # (H, W) bool, M
    truth: ArrayLike,
    modes: ArrayLike,  # (3, 2): means, variances, weights
    cut: float,
) -> Figure:
    """Above: image, removal, difference, what lies above the threshold, and M. Below: the histogram
    of the difference, inside and outside the region, with both fitted modes and the threshold."""
    fig = plt.figure(figsize=(PAGE, 4.3))
    axes = fig.subplot_mosaic("abcde;hhhhh", height_ratios=(1.0, 1.35))
    difference, region = np.asarray(difference, dtype=float), np.asarray(region)
    show_image(axes["a"], image, "image $x$")
    show_image(axes["b"], removed, "removed $\\tilde x$")
    bare(axes["c"]).imshow(difference, cmap=HEAT, vmin=0)
    axes["c"].set_title("difference $d$")
    show_image(axes["d"], np.asarray(changed), "$d$ above the cut")
    spotlight(axes["e"], image, mask, "$M$")
    region_outline(axes["d"], region)
    for name in "ce":
        true_outline(axes[name], truth)
    _histogram(axes["h"], difference, region, np.asarray(modes), cut)
    return fig


def _histogram(ax, difference: np.ndarray, region: np.ndarray, modes: np.ndarray, cut: float):
    bins = np.linspace(0, max(float(difference.max()), 1e-3), 61)
    parts = [difference[~region], difference[region]]
    labels = ["pixels outside $M_{pre}$", "pixels inside"]
    ax.hist(parts, bins, stacked=True, color=["#c9d1da", BLUE], label=labels)
    width = (bins[1] - bins[0]) * difference.size
    x = np.linspace(0, bins[-1], 400)
    for k, (name, colour) in enumerate((("low mode", GREEN), ("high mode", RED))):
        mean, variance, weight = modes[:, k]
        if variance > 0:
            bell = np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
            ax.plot(x, np.maximum(width * weight * bell, 1e-9), color=colour, label=name)
            ax.plot([mean], [0.7], "^", color=colour, clip_on=False, zorder=4)
    ax.axvline(cut, color=INK, linewidth=1.4, label="cut")
    ax.set(xlabel="difference $d$", ylabel="pixels", yscale="log", ylim=(0.7, None))
    ax.set_xlim(0, bins[-1])
    ax.legend(loc="upper right", ncols=2)


def progressive(
    images: ArrayLike,
    m_hats: ArrayLike,
    m_pre: ArrayLike,
    removed: ArrayLike,
    differences: ArrayLike,
    refined: ArrayLike,
    truths: ArrayLike,
) -> Figure:
    """The whole way, a row a scene: image, M_hat, M_pre, removed, difference, M, truth."""
    heads = ("image", "$\\hat{M}$", "$M_{pre}$", "removed", "difference", "$M$", "truth")
    fig, axes = panels(len(images), len(heads), extra=0.2)
    for k, row in enumerate(axes):
        show_image(row[0], images[k])
        show_map(row[1], m_hats[k], truths[k])
        spotlight(row[2], images[k], m_pre[k])
        show_image(row[3], removed[k])
        bare(row[4]).imshow(np.asarray(differences[k]), cmap=HEAT, vmin=0)
        spotlight(row[5], images[k], refined[k])
        spotlight(row[6], images[k], truths[k])
        for ax in (row[2], row[5]):
            true_outline(ax, truths[k])
    for ax, head in zip(axes[0], heads, strict=True):
        ax.set_title(head)
    return tight(fig)


def stage_scores(
    table: Mapping[str, Mapping[str, Sequence]], paper: Mapping[str, float], measure: str = "IoU"
) -> Figure:
    """One group of points a concept, one colour a stage, with intervals; crosses are the paper's.

    table: concept to stage to estimate. paper: stage to number, for the concept "bird".
    """
    fig, axes = panels(1, 1, width=0.85 * PAGE, aspect=2.4)
    ax = axes[0, 0]
    stages = list(dict.fromkeys(stage for scores in table.values() for stage in scores))
    for k, scores in enumerate(table.values()):
        for j, stage in enumerate(stages):
            if stage in scores:
                x = k + 0.16 * (j - (len(stages) - 1) / 2)
                interval(ax, x, scores[stage], colour=CYCLE[j], linestyle="none")
    for j, stage in enumerate(stages):
        ax.plot([], [], "o", color=CYCLE[j], label=stage)
    if "bird" in table and paper:
        at = list(table).index("bird")
        for j, stage in enumerate(stages):
            if stage in paper:
                x = at + 0.16 * (j - (len(stages) - 1) / 2)
                ax.plot(x, paper[stage], "x", color=INK, markersize=7, markeredgewidth=2)
        ax.plot([], [], "x", color=INK, markeredgewidth=2, label="the paper, on photographs")
    ax.set(ylabel=measure, xlim=(-0.6, len(table) - 0.4), ylim=(0, 1))
    ax.set_xticks(range(len(table)), list(table))
    ax.tick_params(axis="x", labelcolor=INK)
    ax.grid(axis="x", visible=False)
    fig.legend(loc="outside lower center", ncols=len(stages) + 1)
    return fig


def paint_errors(image: ArrayLike, hit: ArrayLike, kinds: Sequence[ArrayLike]) -> np.ndarray:
    """(H, W, 3): the faded image, found pixels grey, each kind of error in its colour."""
    picture = 0.3 * as_picture(image).mean(2, keepdims=True).repeat(3, axis=2) + 0.7
    picture[np.asarray(hit)] = to_rgb(FOUND)
    for kind, colour in zip(kinds, ERRORS, strict=False):
        picture[np.asarray(kind)] = to_rgb(colour)
    return picture


def worst_cases(
    images: ArrayLike,
    m_pre: ArrayLike,
    removed: ArrayLike,
    refined: ArrayLike,
    truths: ArrayLike,
    kinds: Mapping[str, ArrayLike],  # name to (n, H, W) bool
    titles: Sequence[str],
) -> Figure:
    """Column by column: image, M_pre, removed, M, and M's errors by kind."""
    n = len(images)
    fig, axes = panels(5, n, extra=0.62)
    for k in range(n):
        show_image(axes[0, k], images[k], titles[k])
        spotlight(axes[1, k], images[k], m_pre[k])
        show_image(axes[2, k], removed[k])
        spotlight(axes[3, k], images[k], refined[k])
        truth = np.asarray(truths[k])
        hit, wrong = truth & np.asarray(refined[k]), [kind[k] for kind in kinds.values()]
        show_image(axes[4, k], paint_errors(images[k], hit, wrong))
        for ax in axes[[0, 1, 3], k]:
            true_outline(ax, truth)
    labels = ("image", "$M_{pre}$", "removed", "$M$", "errors")
    for ax, label in zip(axes[:, 0], labels, strict=True):
        ax.set_ylabel(label)
    tight(fig)
    marks = [Patch(color=c, label=name) for name, c in zip(kinds, ERRORS, strict=False)]
    marks.insert(0, Patch(color=FOUND, label="found"))
    fig.legend(handles=marks, loc="outside lower center", ncols=4)
    return fig


def error_budget(shares: Mapping[str, Sequence]) -> Figure:
    """Kinds of error as shares of the object's pixels, with intervals; missed ones first."""
    fig, axes = panels(1, 1, width=0.8 * PAGE, aspect=2.6)
    ax = axes[0, 0]
    for k, (estimate, colour) in enumerate(zip(shares.values(), ERRORS, strict=False)):
        value, (low, high) = estimate[0], estimate[1]
        ax.barh(k, value, color=colour, height=0.66)
        ax.errorbar(value, k, xerr=[[value - low], [high - value]], color=INK, capsize=3)
    ax.set_yticks(range(len(shares)), list(shares))
    ax.tick_params(axis="y", labelcolor=INK)
    ax.invert_yaxis()
    ax.set_axisbelow(True)
    ax.set(xlabel="pixels, as a share of all pixels of the object", xlim=(0, None))
    ax.grid(axis="y", visible=False)
    return fig


def against_iou(suspects: Mapping[str, ArrayLike], ious: ArrayLike) -> Figure:
    """The IoU of M against each suspect, one point an image."""
    fig, axes = panels(1, len(suspects), aspect=0.85, extra=0.3)
    for ax, (label, x) in zip(axes[0], suspects.items(), strict=True):
        ax.plot(np.asarray(x), ious, "o", color=BLUE, alpha=0.6, markersize=4)
        ax.set(ylim=(-0.02, 1.02))
        ax.set_xlabel(label, fontsize=8)
        if ax is not axes[0, 0]:
            ax.set_yticklabels([])
    axes[0, 0].set_ylabel("IoU of $M$")
    return fig
