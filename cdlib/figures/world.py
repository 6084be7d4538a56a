"""Pictures of the pocket world: scenes, what they are made of, and how hard they are."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from cdlib.world import Scene

from . import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PAGE,
    PINK,
    RED,
    SKY,
    as_picture,
    bare,
    frame,
    interval,
    outline,
    overlay,
    panels,
    show_image,
)

OBJECTS = (RED, SKY, ORANGE)
HIT, EXTRA, MISSED = GREEN, PINK, ORANGE


def anatomy(scene: Scene, difference: ArrayLike) -> Figure:
    """A scene in six panels: image, masks, boxes, clean plate, difference, and its histogram.

    difference: (H, W), mean absolute difference of image and plate over the colour channels.
    """
    fig, axes = panels(2, 3, aspect=1.0, extra=0.5)
    (image, masks, boxes), (plate, changed, spread) = axes
    show_image(image, scene.image, "image")
    painted = as_picture(scene.image)
    for thing, colour in zip(scene.objects, OBJECTS, strict=False):
        share = 0.6 * thing.mask[..., None]
        painted = painted * (1 - share) + np.asarray(to_rgb(colour)) * share
    show_image(masks, painted, "one mask an object")
    show_image(boxes, scene.image, "tight boxes")
    for thing, colour in zip(scene.objects, OBJECTS, strict=False):
        frame(boxes, thing.box, colour=colour, line=2)
        boxes.annotate(
            thing.name,
            (thing.box.x0 - 0.5, thing.box.y0 - 0.5),
            (2, -2),
            textcoords="offset points",
            va="top",
            color="white",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 2},
        )
    show_image(plate, scene.plate, "clean plate")
    show_image(changed, difference, "|image − clean plate|", vmin=0)
    mask = np.logical_or.reduce([thing.mask for thing in scene.objects])
    outline(changed, mask)
    _spread(spread, np.asarray(difference), mask)
    return fig


def _spread(axes: Axes, difference: np.ndarray, mask: np.ndarray) -> None:
    """How large the difference is on the objects and beside them, where it is not nil."""
    bins = np.linspace(0, max(float(difference.max()), 0.1), 26)
    both = [difference[~mask & (difference > 1 / 255)], difference[mask]]
    labels = ["beside the objects", "on the objects"]
    axes.hist(both, bins, stacked=True, color=[ORANGE, BLUE], label=labels)
    axes.set(title="changed pixels", xlabel="difference")
    axes.set_yticks([])
    axes.legend(loc="upper right")


def gallery(scenes: Mapping[tuple[str, str], Scene]) -> Figure:
    """One scene for each (concept, background): concepts downwards, backgrounds across."""
    concepts = list(dict.fromkeys(concept for concept, _ in scenes))
    places = list(dict.fromkeys(place for _, place in scenes))
    fig, axes = panels(len(concepts), len(places), extra=0.2)
    fig.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    for row, concept in zip(axes, concepts, strict=True):
        for ax, place in zip(row, places, strict=True):
            show_image(ax, scenes[concept, place].image)
            if concept == concepts[0]:
                ax.set_title(place)
        row[0].set_ylabel(concept)
    return fig


def captioned(scenes: Sequence[Scene], columns: int = 4) -> Figure:
    """Scenes with their captions below them."""
    n_rows = -(-len(scenes) // columns)
    fig, axes = panels(n_rows, columns, extra=0.55 * n_rows)
    for ax in axes.flat[len(scenes) :]:
        ax.axis("off")
    for ax, scene in zip(axes.flat, scenes, strict=False):
        show_image(ax, scene.image)
        ax.set_xlabel(f"“{textwrap.fill(scene.caption, 24)}”", fontsize=8.5)
    return fig


def agreement(pred: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """(H, W, 3): hits, extra and missed pixels in their colours on white."""
    pred, truth = np.asarray(pred, bool), np.asarray(truth, bool)
    picture = np.ones((*pred.shape, 3))
    for where, colour in ((pred & truth, HIT), (pred & ~truth, EXTRA), (~pred & truth, MISSED)):
        picture[where] = to_rgb(colour)
    return picture


def difficulty_rows(rows: Mapping[float, tuple[ArrayLike, ArrayLike, ArrayLike]]) -> Figure:
    """For each difficulty its images, and below them where `pred` and `truth` agree.

    rows: difficulty to (images (n, 3, H, W), truth (n, H, W), pred (n, H, W)), one n for all.
    """
    n = len(next(iter(rows.values()))[0])
    fig, axes = panels(2 * len(rows), n, extra=0.45)
    fig.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    for k, (level, (images, truth, pred)) in enumerate(rows.items()):
        for column in range(n):
            show_image(axes[2 * k, column], images[column])
            below = axes[2 * k + 1, column]
            show_image(below, agreement(pred[column], truth[column]))
            for spine in below.spines.values():
                spine.set(visible=True, color="#d5dae0")
        axes[2 * k, 0].set_ylabel(f"difficulty {level:g}")
        axes[2 * k + 1, 0].set_ylabel("threshold")
    marks = [Patch(color=c, label=t) for c, t in _MEANING]
    fig.legend(handles=marks, loc="outside lower center", ncols=3)
    return fig


_MEANING = ((HIT, "object, found"), (EXTRA, "background, taken for object"), (MISSED, "missed"))


def scores_by_difficulty(
    estimates: Mapping[float, Sequence], per_image: Mapping[float, ArrayLike]
) -> Figure:
    """IoU against difficulty: one dot an image, and the pooled value with its interval."""
    fig, axes = panels(1, 1, width=0.72 * PAGE, aspect=2.3)
    ax, rng = axes[0, 0], np.random.default_rng(0)
    for k, (level, values) in enumerate(per_image.items()):
        x = k + rng.uniform(-0.16, 0.16, len(values))
        ax.scatter(x, values, s=9, color=BLUE, alpha=0.28, linewidths=0)
        interval(ax, k, estimates[level], colour=INK, markersize=6, zorder=3)
    ax.set_xticks(range(len(per_image)), [f"{level:g}" for level in per_image])
    ax.set(xlabel="difficulty", ylabel="IoU", ylim=(-0.02, 1.02))
    ax.grid(axis="x", visible=False)
    return fig


def radiographs(scenes: Sequence[Scene]) -> Figure:
    """Radiographs above, their clean plates with the finding's outline below."""
    fig, axes = panels(2, len(scenes), extra=0.45)
    for (above, below), scene in zip(axes.T, scenes, strict=True):
        finding = scene.objects[0].name if scene.objects else "no finding"
        show_image(above, scene.image, finding)
        show_image(below, scene.plate)
        for thing in scene.objects:
            outline(below, thing.mask)
    axes[0, 0].set_ylabel("image")
    axes[1, 0].set_ylabel("clean plate")
    return fig


def chain(images, heat, masks, truth) -> Figure:
    """The book's idea in four columns: image, heat map of a word, its mask, the truth."""
    fig, axes = panels(len(images), 4, width=0.9 * PAGE, extra=0.2)
    for row, image, warm, mask, true in zip(axes, images, heat, masks, truth, strict=True):
        show_image(row[0], image)
        overlay(row[1], image, warm, strength=0.85)
        overlay(row[2], image, mask, strength=0.65)
        show_image(row[3], true)
    for ax, title in zip(axes[0], ("image", "heat map of the word", "mask", "truth"), strict=True):
        ax.set_title(title)
    for ax in axes[:, 3]:
        bare(ax)
    return fig
