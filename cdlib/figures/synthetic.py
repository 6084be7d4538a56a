"""Figures of chapter 5: made-up images with their masks, composites, and how good both are.

Images are (3, H, W) in [0, 1], masks and maps (h, w), tensors or arrays; nothing is computed here
but what a plot needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cdlib.figures import BLUE, CYCLE, INK, PAGE, QUIET, RED, interval, panels, plt, show_image
from cdlib.figures.attention import show_map, spotlight
from cdlib.figures.finetuning import region_outline, tight


def loop(
    images: ArrayLike, m_hats: ArrayLike, m_pre: ArrayLike, removed: ArrayLike, refined: ArrayLike
) -> Figure:
    """The method on images that it made itself, a row each: image, M_hat, M_pre, removed, M."""
    heads = ("image of $D'$", "$\\hat{M}$", "$M_{pre}$", "removed", "$M$")
    fig, axes = panels(len(images), len(heads), width=0.85 * PAGE, extra=0.2)
    for k, row in enumerate(axes):
        show_image(row[0], images[k])
        show_map(row[1], m_hats[k])
        show_image(row[2], images[k])
        region_outline(row[2], m_pre[k], np.asarray(images[k]).shape[-1])
        show_image(row[3], removed[k])
        spotlight(row[4], images[k], refined[k])
    for ax, head in zip(axes[0], heads, strict=True):
        ax.set_title(head)
    return tight(fig)


def gallery(images: ArrayLike, masks: ArrayLike, titles: Sequence[str]) -> Figure:
    """Images above, what their masks hold below, each with a word on it."""
    fig, axes = panels(2, len(images), width=PAGE * min(1, len(images) / 6), extra=0.35)
    for k, title in enumerate(titles):
        show_image(axes[0, k], images[k], title)
        axes[0, k].title.set_fontsize(7.5)
        spotlight(axes[1, k], images[k], masks[k])
    for ax, label in zip(axes[:, 0], ("image", "$M$"), strict=True):
        ax.set_ylabel(label)
    return tight(fig)


def areas(shares: Mapping[str, ArrayLike], bounds: tuple[float, float]) -> Figure:
    """How much of an image the masks of each set cover, as shares of the set, and the bounds."""
    fig, axes = panels(1, 1, width=0.85 * PAGE, aspect=2.8)
    ax = axes[0, 0]
    top = max(0.5, *(float(np.max(np.asarray(one), initial=0)) for one in shares.values()))
    end = min(1.0, top + 0.025)
    _histograms(ax, shares, np.linspace(0, end, 26))
    for bound in bounds:
        if bound <= end:
            ax.axvline(bound, color=INK, linestyle="--", linewidth=1)
    ax.set(xlabel="share of the image that $M$ covers", ylabel="share of the set")
    ax.legend(loc="upper right")
    return fig


def feathers(images: Sequence[ArrayLike], titles: Sequence[str], box: Sequence[int]) -> Figure:
    """One composite with several edges, cut to a box (x0, y0, x1, y1) so that its pixels show."""
    x0, y0, x1, y1 = box
    fig, axes = panels(1, len(images), width=0.8 * PAGE, extra=0.25)
    for ax, image, title in zip(axes[0], images, titles, strict=True):
        show_image(ax, image[:, y0:y1, x0:x1], title)
    return tight(fig)


def quality(found: Mapping[str, Mapping[str, Sequence]], measures: Mapping[str, str]) -> Figure:
    """A panel a measure, a point with interval a set of images.

    found: set to measure to estimate, without what could not be measured. measures: to their title.
    """
    fig, axes = panels(1, len(measures), aspect=0.62, extra=0.55)
    for ax, (measure, title) in zip(axes[0], measures.items(), strict=True):
        for k, of_set in enumerate(found.values()):
            if measure in of_set:
                interval(ax, k, of_set[measure], colour=CYCLE[k], linestyle="none")
        ax.set(title=title, xlim=(-0.6, len(found) - 0.4))
        ax.set_xticks(range(len(found)), list(found), rotation=55, ha="right", fontsize=7)
        ax.tick_params(axis="x", labelcolor=INK)
        ax.tick_params(axis="y", labelsize=7)
    return fig


def neighbours(fakes: ArrayLike, nearest: ArrayLike, distances: Sequence[float]) -> Figure:
    """Made-up images above, the training image nearest to each below, and how far it is."""
    fig, axes = panels(2, len(fakes), extra=0.22)
    for k, distance in enumerate(distances):
        show_image(axes[0, k], fakes[k], f"{distance:.1f}")
        show_image(axes[1, k], nearest[k])
    for ax, label in zip(axes[:, 0], ("image of $D'$", "nearest in $D$"), strict=True):
        ax.set_ylabel(label)
    return tight(fig)


def distances(by_set: Mapping[str, ArrayLike]) -> Figure:
    """How far the images of each set are from their nearest training image."""
    fig, axes = panels(1, 1, width=0.85 * PAGE, aspect=2.8)
    top = max(float(np.max(np.asarray(one))) for one in by_set.values())
    _histograms(axes[0, 0], by_set, np.linspace(0, 1.05 * top or 1.0, 31))
    axes[0, 0].set(xlabel="distance of features to the nearest image of $D$")
    axes[0, 0].set_ylabel("share of the set")
    axes[0, 0].legend(loc="upper right")
    return fig


def fid_by_guidance(found: Mapping[float, Sequence], paper: Mapping[float, float]) -> Figure:
    """FID against s, here with intervals and in the paper; two scales, for they do not compare."""
    fig, axes = panels(1, 2, aspect=1.7, extra=0.2)
    here, there = axes[0]
    if found:
        here.plot(list(found), [one[0] for one in found.values()], color=BLUE)
    for s, estimate in found.items():
        interval(here, s, estimate, colour=BLUE)
    there.plot(list(paper), list(paper.values()), "o-", color=INK)
    for ax, title in ((here, "pocket FID, here"), (there, "FID on CUB, the paper's")):
        ax.set(title=title, xlabel="concept guidance $s$", ylim=(0, 1.05 * ax.get_ylim()[1]))
        ax.set_xticks(list(paper), [f"{s:g}" for s in paper])
    return fig


def signs_of_trust(
    signs: Mapping[str, tuple[ArrayLike, ArrayLike]], ious: ArrayLike, names: tuple[str, str]
) -> Figure:
    """A column a sign: above, against the true IoU of real images; below, how the sets have it.

    signs: what is looked at to (values of real images, values of synthetic ones), in 0..1; names:
    of the two sets. NaN where an image has no such value.
    """
    fig, axes = plt.subplots(2, len(signs), figsize=(PAGE, 4.4), squeeze=False, sharex="col")
    for (above, below), (label, (real, fake)) in zip(axes.T, signs.items(), strict=True):
        above.plot(real, ious, "o", color=BLUE, alpha=0.6, markersize=4)
        above.set(ylim=(-0.03, 1.03), xlim=(-0.03, 1.03))
        _histograms(below, dict(zip(names, (real, fake), strict=True)), np.linspace(0, 1, 16))
        below.set_xlabel(label)
    axes[0, 0].set_ylabel(f"true IoU of $M$, {names[0]}")
    axes[1, 0].set_ylabel("share of the set")
    fig.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def _histograms(ax: Axes, sets: Mapping[str, ArrayLike], bins: np.ndarray) -> None:
    """Sets over one another as shares of each, the first filled and the others as lines."""
    for k, (name, values) in enumerate(sets.items()):
        values = np.asarray(values, dtype=float)
        values = values[~np.isnan(values)]
        colour = QUIET if k == 0 else (RED, *CYCLE)[k - 1]
        how = {"histtype": "stepfilled", "alpha": 0.45} if k == 0 else {"histtype": "step"}
        weights = np.full(len(values), 1 / max(len(values), 1))
        line = {} if k == 0 else {"linewidth": 1.6}
        ax.hist(values, bins, weights=weights, color=colour, label=name, **how, **line)
