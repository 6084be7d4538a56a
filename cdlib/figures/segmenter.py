"""Figures of chapter 6: spoiled masks, what a step sees, training curves, and predictions.

Images are (3, H, W) in [0, 1], masks (h, w), tensors or arrays; nothing is computed here but what a
plot needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from cdlib.figures import BLUE, CYCLE, GREEN, ORANGE, PAGE, PINK, RED, panels, show_image
from cdlib.figures.attention import spotlight, true_outline
from cdlib.figures.finetuning import tight

# By what a network has learned from, in all figures of this chapter.
COLOURS = {"m_pre": ORANGE, "d_s": BLUE, "d_s_synthetic": GREEN, "supervised": RED, "given": PINK}


def masks_below(
    images: ArrayLike,
    rows: Mapping[str, ArrayLike],
    *,
    truths: ArrayLike | None = None,
    titles: Sequence[str] = (),
) -> Figure:
    """A column a scene: the image, and in a row each what masks of several makings hold of it.

    truths: true masks, outlined on the rows of masks. titles: one a column.
    """
    beside = 1.25  # inches for the labels at the left
    fig, axes = panels(
        len(rows) + 1, len(images), aspect=PAGE / (PAGE - beside), extra=0.2 if titles else 0.0
    )
    for k, image in enumerate(images):
        show_image(axes[0, k], image, titles[k] if titles else "")
        for ax, masks in zip(axes[1:, k], rows.values(), strict=True):
            spotlight(ax, image, np.asarray(masks[k]))
            if truths is not None:
                true_outline(ax, truths[k])
    for ax, label in zip(axes[:, 0], ("image", *rows), strict=True):
        ax.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=4)
    return tight(fig)


def windows(image: ArrayLike, mask: ArrayLike, drawn: ArrayLike, masks: ArrayLike) -> Figure:
    """A pair as it is, apart at the left, and what steps of training see of it."""
    fig, axes = panels(2, len(drawn) + 1, extra=0.2)
    for column, (picture, soft) in enumerate([(image, mask), *zip(drawn, masks, strict=True)]):
        show_image(axes[0, column], picture, "as it is" if not column else "")
        show_image(axes[1, column], np.asarray(soft, dtype=float), cmap="gray", vmin=0, vmax=1)
    axes[0, 1].set_title("as steps of training see it", loc="left")
    for ax, label in zip(axes[:, 0], ("image", "mask"), strict=True):
        ax.set_ylabel(label)
    return tight(fig)


def training_curves(logs: Mapping[str, Sequence[pd.DataFrame]], names: Mapping[str, str]) -> Figure:
    """Loss, and IoU with validation labels, against the step: a line for each training.

    logs: training set to tables of step, loss and val_iou. names: training set to words.
    """
    fig, axes = panels(1, 2, aspect=1.45, extra=0.45)
    for k, (name, tables) in enumerate(logs.items()):
        colour = COLOURS.get(name, CYCLE[k % len(CYCLE)])
        for j, log in enumerate(tables):
            how = {"color": colour, "linewidth": 1.2, "marker": "o", "markersize": 2.5}
            how["label"] = "_" if j else names[name]
            axes[0, 0].plot(log.step, log.loss, **how)
            axes[0, 1].plot(log.step, log.val_iou, **how)
    axes[0, 0].set(title="loss", ylim=(0, None))
    axes[0, 1].set(title="IoU with validation labels of the same making", ylim=(0, 1))
    for ax in axes[0]:
        _steps(ax)
    lines, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(lines, labels, loc="outside lower center", ncols=len(labels))
    return fig


def agreement_curves(logs: Mapping[str, pd.DataFrame]) -> Figure:
    """IoU with validation labels against the step, a line for each log; name in words to a log."""
    fig, axes = panels(1, 1, aspect=2.2, extra=0.45)
    ax = axes[0, 0]
    for k, (name, log) in enumerate(logs.items()):
        ax.plot(log.step, log.val_iou, color=CYCLE[k], marker="o", markersize=3, label=name)
    ax.set_ylabel("IoU with validation labels")
    fig.legend(loc="outside lower center", ncols=len(logs))
    _steps(ax)
    return fig


def _steps(ax: Axes) -> None:
    ax.set_xlabel("step of training")
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
