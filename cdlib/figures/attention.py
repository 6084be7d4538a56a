"""Figures of chapter 2: words over images, attention by layer and timestep, thresholds, masks.

Maps are (h, w), coarser than their images: they are drawn cell by cell at the image's size, each in
its own range, with the outline of the true mask over them. Images, maps and masks are tensors or
arrays; nothing is computed here but what a plot needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from cdlib.figures import (
    BLUE,
    CYCLE,
    GREEN,
    HEAT,
    INK,
    ORANGE,
    PAGE,
    QUIET,
    RED,
    as_picture,
    bare,
    interval,
    outline,
    panels,
    plt,
    show_image,
)


def true_outline(axes: Axes, truth: ArrayLike) -> None:
    """The true mask's outline, with an edge of ink so that it shows on bright paper too."""
    outline(axes, truth, colour=INK, line=1.9)
    outline(axes, truth, line=0.9)


def spotlight(axes: Axes, image: ArrayLike, mask: ArrayLike, title: str = "") -> None:
    """What a mask (of the image's size) holds, in its colours; the rest fades to grey paper."""
    picture = as_picture(image)
    faded = 0.3 * picture.mean(2, keepdims=True) + 0.7
    show_image(axes, np.where(np.asarray(mask)[..., None], picture, faded), title)


def show_map(axes: Axes, m: ArrayLike, truth: ArrayLike | None = None, title: str = "") -> None:
    """One attention map in its own range, drawn over the pixels of its image (truth's size)."""
    m = np.asarray(m, dtype=np.float64)
    side = m.shape[0] if truth is None else np.asarray(truth).shape[0]
    bare(axes).imshow(m, cmap=HEAT, extent=(-0.5, side - 0.5, side - 0.5, -0.5))
    if truth is not None:
        true_outline(axes, truth)
    if title:
        axes.set_title(title)


def noising(images: Sequence[ArrayLike], titles: Sequence[str]) -> Figure:
    """One image at rising noise, the real one first."""
    fig, axes = panels(1, len(images), extra=0.35)
    for ax, image, title in zip(axes[0], images, titles, strict=True):
        show_image(ax, image, title)
    return fig


def word_maps(
    image: ArrayLike,
    maps: ArrayLike,  # (tokens, h, w)
    tokens: Sequence[str],
    shares: Sequence[float],
    truth: ArrayLike,
    columns: int = 6,
) -> Figure:
    """An image and the map of every token of its caption, with the share that each token gets."""
    rows = -(-(len(tokens) + 1) // columns)
    fig, axes = panels(rows, columns, extra=0.36 * rows)
    show_image(axes.flat[0], image, "the image\n")
    true_outline(axes.flat[0], truth)
    for k, (token, share) in enumerate(zip(tokens, shares, strict=True), start=1):
        show_map(axes.flat[k], maps[k - 1], truth, f"{token}\n{share:.0%}")
    for ax in axes.flat[len(tokens) + 1 :]:
        ax.axis("off")
    return fig


def layer_time_maps(
    maps: ArrayLike,  # (rows, columns, h, w)
    aucs: ArrayLike,  # (rows, columns)
    rows: Sequence[str],
    columns: Sequence[str],
    truth: ArrayLike,
) -> Figure:
    """Maps of one image by layer (rows) and timestep (columns), each with the AUC of its kind."""
    fig, axes = panels(len(rows), len(columns), extra=0.17 * (len(rows) + 1))
    for i, j in np.ndindex(len(rows), len(columns)):
        head = f"{columns[j]}\n" if i == 0 else ""
        show_map(axes[i, j], maps[i][j], truth, f"{head}{aucs[i][j]:.2f}")
        axes[i, j].title.set_fontsize(8)
    for label, ax in zip(rows, axes[:, 0], strict=True):
        ax.set_ylabel(label)
    return fig


def auc_by_timestep(
    timesteps: Sequence[int], by_layer: Mapping[str, ArrayLike], mean: ArrayLike
) -> Figure:
    """AUC of single-timestep maps against t: a line for each layer, and the layers' mean in ink."""
    fig, ax = plt.subplots(figsize=(PAGE, 3.0))
    few = len(by_layer) <= len(CYCLE)
    dashes = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
    for k, (name, aucs) in enumerate(by_layer.items()):
        how = {"color": CYCLE[k], "linestyle": dashes[k]} if few else {"color": QUIET, "alpha": 0.5}
        ax.plot(timesteps, aucs, linewidth=1.3, label=name if few else None, **how)
    ax.plot(timesteps, mean, color=INK, linewidth=2.4, label="mean of all layers")
    ax.axhline(0.5, color=QUIET, linewidth=0.8, linestyle=":")
    ax.text(timesteps[-1], 0.5, "chance", color=QUIET, ha="right", va="bottom", fontsize=8)
    ax.set(xlabel="timestep $t$ (noise grows to the right)", ylabel="pixel AUC")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def auc_against_t0(curve: pd.DataFrame, t0: int, paper_peak: float | None = None) -> Figure:
    """AUC of M_hat against T_0 with its 95% band; the run's own T_0 marked, and the paper's peak.

    paper_peak: as a share of all timesteps, 0.8 for 40 of 50.
    """
    fig, ax = plt.subplots(figsize=(PAGE, 2.9))
    ax.fill_between(curve.t0, curve.low, curve.high, color=BLUE, alpha=0.18, linewidth=0)
    ax.plot(curve.t0, curve.auc, color=BLUE, marker="." if len(curve) < 60 else None)
    best, chosen = curve.loc[curve.auc.idxmax()], curve[curve.t0 == t0].iloc[0]
    ax.plot(best.t0, best.auc, "o", color=RED, label=f"best: $T_0$ = {best.t0:.0f}", zorder=3)
    ax.plot(
        chosen.t0, chosen.auc, "D", color=INK, markerfacecolor="none", markersize=8,
        label=f"used here: $T_0$ = {t0}", zorder=3,
    )  # fmt: skip
    if paper_peak:
        x = paper_peak * len(curve)
        ax.axvline(x, color=QUIET, linestyle="--", linewidth=1, label="the paper's peak, near 4/5")
    ax.set(xlabel="$T_0$, least noisy timesteps averaged", ylabel="pixel AUC")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def histogram_and_masks(
    image: ArrayLike,
    m_hat: ArrayLike,  # (h, w)
    truth: ArrayLike,
    modes: ArrayLike | None,  # (3, 2): means, variances, weights
    cuts: Mapping[str, float],
    before: ArrayLike,
    after: ArrayLike,
) -> Figure:
    """Above: the image, its M_hat, the mask before and after the majority filter, both of the
    image's size. Below: the histogram of M_hat with the two fitted modes and the thresholds."""
    fig = plt.figure(figsize=(PAGE, 4.6))
    axes = fig.subplot_mosaic("abcd;hhhh", height_ratios=(1.0, 1.25))
    show_image(axes["a"], image, "the image")
    show_map(axes["b"], m_hat, truth, "$\\hat{M}$")
    for name, mask, title in (("c", before, "above the threshold"), ("d", after, "$M_{pre}$")):
        spotlight(axes[name], image, mask, title)
        true_outline(axes[name], truth)
    values = np.asarray(m_hat, dtype=np.float64).ravel()
    ax = axes["h"]
    ax.hist(values, bins=48, density=True, color=BLUE, alpha=0.3, label="cells of $\\hat{M}$")
    if modes is not None:
        _draw_modes(ax, np.asarray(modes), values)
    for (name, cut), style in zip(cuts.items(), ("-", "--", "-.", ":"), strict=False):
        ax.axvline(cut, color=INK, linestyle=style, linewidth=1.4, label=name)
    ax.set(xlabel="value of $\\hat{M}$", ylabel="density", yticks=[])
    ax.legend(loc="upper right")
    return fig


def _draw_modes(ax: Axes, modes: np.ndarray, values: np.ndarray) -> None:
    """The two Gaussians, weighted, and their means; a constant map has modes without width."""
    x = np.linspace(values.min(), values.max(), 400)
    top = ax.get_ylim()[1]
    for k, (name, colour) in enumerate((("background mode", GREEN), ("object mode", RED))):
        mean, variance, weight = modes[:, k]
        if variance > 0:
            bell = np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
            ax.plot(x, weight * bell, color=colour, label=name)
            ax.plot([mean], [0], "^", color=colour, clip_on=False, zorder=4)
    ax.set_ylim(0, top * 1.05)


def mask_gallery(
    groups: Mapping[str, Sequence[int]],
    images: ArrayLike,
    m_hats: ArrayLike,
    masks: ArrayLike,
    truths: ArrayLike,
    ious: ArrayLike,
) -> Figure:
    """For each group of image numbers a pair of rows: M_hat, and M_pre over the image with its IoU.

    The cyan line is the true outline; masks are at the images' size.
    """
    columns = max(len(chosen) for chosen in groups.values())
    fig, axes = panels(2 * len(groups), columns, extra=0.17 * len(groups))
    for ax in axes.flat:
        ax.axis("off")
    for g, (label, chosen) in enumerate(groups.items()):
        for j, k in enumerate(chosen):
            show_map(axes[2 * g, j], m_hats[k], truths[k], f"IoU {ious[k]:.2f}")
            spotlight(axes[2 * g + 1, j], images[k], masks[k])
            true_outline(axes[2 * g + 1, j], truths[k])
            for ax in axes[2 * g : 2 * g + 2, j]:
                ax.axis("on")
        axes[2 * g, 0].set_ylabel(f"{label}\n$\\hat{{M}}$")
        axes[2 * g + 1, 0].set_ylabel("$M_{pre}$")
    return fig


def rule_scores(scores: Mapping[str, Mapping], ceilings: Mapping[str, float]) -> Figure:
    """IoU and accuracy of M_pre by threshold rule, with intervals, under what oracles reach."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 3.0), width_ratios=(1.5, 1))
    for k, row in enumerate(scores.values()):
        interval(left, k, row["iou"], colour=BLUE, linestyle="none")
        interval(right, k, row["acc"], colour=ORANGE, linestyle="none")
    for (name, value), style, colour in zip(
        ceilings.items(), ("-", "--"), (RED, GREEN), strict=False
    ):
        left.axhline(value, color=colour, linestyle=style, linewidth=1.3, label=name)
    for ax, what in ((left, "IoU"), (right, "accuracy")):
        ax.set(ylabel=what, xlim=(-0.5, len(scores) - 0.5))
        ax.set_xticks(range(len(scores)), list(scores))
    fig.legend(loc="outside upper left", ncols=2)
    return fig


def concept_scores(table: Mapping[str, Mapping], paper: Mapping[str, Mapping]) -> Figure:
    """AUC, accuracy, IoU and mIoU of every concept with intervals; crosses are the paper's."""
    names = ("auc", "acc", "iou", "miou")
    fig, axes = plt.subplots(1, 4, figsize=(PAGE, 2.5))
    titles = ("AUC of $\\hat{M}$", "accuracy", "IoU", "mIoU")
    for ax, name, title in zip(axes, names, titles, strict=True):
        for k, (concept, scores) in enumerate(table.items()):
            interval(ax, k, scores[name], colour=BLUE, linestyle="none")
            if concept in paper:
                ax.plot(k, paper[concept][name], "x", color=RED, markersize=7, markeredgewidth=2)
        ax.set(title=title, xlim=(-0.6, len(table) - 0.4))
        ax.set_xticks(range(len(table)), list(table), rotation=60, ha="right")
    return fig


def what_makes_it_hard(
    share: ArrayLike, contrast: ArrayLike, alone: ArrayLike, ious: ArrayLike
) -> Figure:
    """IoU of each image against its object's size and against its contrast; colour: company."""
    fig, axes = plt.subplots(1, 2, figsize=(PAGE, 2.9), sharey=True)
    alone, ious = np.asarray(alone), np.asarray(ious)
    labels = ("share of the image that is object", "colour distance to surroundings")
    for ax, x, label in zip(axes, (share, contrast), labels, strict=True):
        for who, marker, colour, name in (
            (alone, "o", BLUE, "alone"),
            (~alone, "^", RED, "with other objects"),
        ):
            ax.plot(np.asarray(x)[who], ious[who], marker, color=colour, alpha=0.7, label=name)
        ax.set(xlabel=label, ylim=(-0.02, 1.0))
    axes[0].set_ylabel("IoU of $M_{pre}$")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def named_maps(image: ArrayLike, maps: Mapping[str, ArrayLike], truth: ArrayLike) -> Figure:
    """An image and its maps by name, all with the outline of the truth."""
    fig, axes = panels(1, 1 + len(maps), extra=0.18)
    show_image(axes[0, 0], image, "the image")
    true_outline(axes[0, 0], truth)
    for ax, (name, m) in zip(axes[0, 1:], maps.items(), strict=True):
        show_map(ax, m, truth, name)
    return fig


def images_and_maps(images: ArrayLike, m_hats: ArrayLike, truths: ArrayLike) -> Figure:
    """Images side by side, each with its map at its right."""
    fig, axes = panels(1, 2 * len(images), extra=0.18)
    pairs = axes.reshape(-1, 2)
    for (left, right), image, m, truth in zip(pairs, images, m_hats, truths, strict=True):
        show_image(left, image, "image")
        true_outline(left, truth)
        show_map(right, m, truth, "$\\hat{M}$")
    return fig
