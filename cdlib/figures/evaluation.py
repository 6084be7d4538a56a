"""Figures of chapter 7: masks side by side, scores with their intervals, and what they depend on.

Images are (3, H, W) in [0, 1], masks (H, W) bool, tensors or arrays; estimates are (value, (low,
high), ...). Nothing is computed here but what a plot needs.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cdlib.figures import (
    BLUE,
    CYCLE,
    INK,
    PAGE,
    QUIET,
    SKY,
    bare,
    interval,
    panels,
    plt,
    show_image,
)
from cdlib.figures.attention import spotlight, true_outline
from cdlib.figures.finetuning import tight
from cdlib.figures.tables import DASH, Table, number, span, table

if TYPE_CHECKING:
    from cdlib.paper import Masks

SPOKEN = {"acc": "Acc", "iou": "IoU", "miou": "mIoU"}
KINDS = {"m_pre": "$M_{pre}$", "m_refined": "$M$", "unet": "U-Net"}  # of masks, in ablations
MARKS = "osD^vP"
SEVEN = (*CYCLE, INK)  # as many colours as the figure of all concepts has methods


def maths(words: str) -> str:
    """A method's name with its symbols set as such: "U-Net on M_pre" has "$M_{pre}$"."""
    return re.sub(r"\b([MD])('?)(?:_(\w+))?(?!\w)", _symbol, words)


def _symbol(found: re.Match) -> str:
    letter, prime, below = found.groups()
    return f"${letter}{prime}" + (f"_{{{below}}}$" if below else "$")


def mask_rows(
    images: ArrayLike,
    rows: Mapping[str, ArrayLike],
    truths: ArrayLike,
    titles: Sequence[str] = (),
) -> Figure:
    """A column a scene: the image, then a row for each method's mask, the true outline on all."""
    beside = 1.25  # inches for the labels at the left
    aspect = PAGE / (PAGE - beside)  # of a panel with its share of them
    fig, axes = panels(len(rows) + 1, len(images), aspect=aspect, extra=0.2 if titles else 0)
    for k, (image, truth) in enumerate(zip(images, truths, strict=True)):
        show_image(axes[0, k], image, titles[k] if titles else "")
        for ax, masks in zip(axes[1:, k], rows.values(), strict=True):
            spotlight(ax, image, masks[k])
        for ax in axes[:, k]:
            true_outline(ax, truth)
    for ax, label in zip(axes[:, 0], ("image", *rows), strict=True):
        words = textwrap.fill(label, 20)  # symbols have no spaces in them
        ax.set_ylabel(words, rotation=0, ha="right", va="center", labelpad=4)
    return tight(fig)


def method_scores(
    estimates: Mapping[str, Sequence],
    trainings: Mapping[str, Sequence[float]],
    paper: Mapping[str, float],
    measure: str = "IoU",
) -> Figure:
    """A row a method: its score with interval, a tick for each training, the paper's cross."""
    fig, axes = panels(1, 1, width=0.92 * PAGE, aspect=1.9)
    ax = axes[0, 0]
    for y, (name, estimate) in enumerate(estimates.items()):
        _across(ax, y, estimate, BLUE)
        if len(trainings.get(name, ())) > 1:
            ax.plot(trainings[name], [y + 0.28] * len(trainings[name]), "|", color=BLUE)
        if name in paper:
            ax.plot(paper[name], y, "x", color=INK, markersize=7, markeredgewidth=2, zorder=4)
    handles = {"mean of trainings, 95% interval over images": ("o", BLUE)}
    if any(len(values) > 1 for values in trainings.values()):
        handles["single trainings"] = ("|", BLUE)
    if paper:
        handles["the paper, on photographs"] = ("x", INK)
    for label, (mark, colour) in handles.items():
        ax.plot([], [], mark, color=colour, label=label)
    _name_rows(ax, list(estimates))
    ax.set(xlabel=measure, xlim=(0, 1))
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def concept_scores(table: Mapping[str, Mapping[str, Sequence]], measure: str = "IoU") -> Figure:
    """A group of points for each concept, a colour and mark for each method, with intervals."""
    fig, axes = panels(1, 1, aspect=2.3)
    ax = axes[0, 0]
    methods = list(dict.fromkeys(name for scores in table.values() for name in scores))
    for j, name in enumerate(methods):
        how = {"colour": SEVEN[j % len(SEVEN)], "linestyle": "none", "markersize": 4.5}
        for k, scores in enumerate(table.values()):
            if name in scores:
                x = k + 0.12 * (j - (len(methods) - 1) / 2)
                interval(ax, x, scores[name], **how)
        ax.plot([], [], "o", color=how["colour"], label=name)
    ax.set(ylabel=measure, xlim=(-0.6, len(table) - 0.4), ylim=(0, 1))
    ax.set_xticks(range(len(table)), list(table))
    ax.tick_params(axis="x", labelcolor=INK)
    ax.grid(axis="x", visible=False)
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def error_places(
    errors: Mapping[str, Mapping[str, Sequence[float]]], ends: Sequence[float]
) -> Figure:
    """A bar a method: to the left what it misses of the object, to the right what it adds to it.

    errors, ends: name to what `cdlib.evaluation.errors_by_distance` gives, and its ends; at
    most three. The farther from the outline, the darker, and the farther from the bar's middle.
    """
    fig, axes = panels(1, 1, width=0.92 * PAGE, aspect=2.1)
    ax, shades = axes[0, 0], (SKY, BLUE, INK)
    words = [*(f"up to {end:g} px from the outline" for end in ends), f"more than {ends[-1]:g} px"]
    for y, parts in enumerate(errors.values()):
        for kind, way in (("missed", -1), ("added", 1)):
            starts = np.cumsum([0, *parts[kind][:-1]])
            for k, (start, size) in enumerate(zip(starts, parts[kind], strict=True)):
                ax.barh(y, way * 100 * size, 0.7, way * 100 * start, color=shades[k], zorder=2,
                        label=words[k] if y == 0 and way == 1 else None)  # fmt: skip
    ax.axvline(0, color=INK, linewidth=0.8, zorder=3)
    _name_rows(ax, list(errors))
    widest = max(abs(end) for end in ax.get_xlim())
    ax.set(xlim=(-widest, widest), xlabel="missed  |  added, in % of the object's area")
    ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def against_size(
    shares: ArrayLike,
    ious: Mapping[str, ArrayLike],
    bins: Mapping[str, Sequence[tuple[float, Sequence]]],
) -> Figure:
    """Each image's IoU against how much of it the object covers, a panel a method.

    bins: method to (mean share, estimate of the IoU) for images of like size.
    """
    fig, axes = panels(1, len(ious), aspect=0.95, extra=0.4)
    for ax, (name, values) in zip(axes[0], ious.items(), strict=True):
        ax.plot(100 * np.asarray(shares), values, "o", color=QUIET, alpha=0.5, markersize=3.5)
        for centre, estimate in bins[name]:
            interval(ax, 100 * centre, estimate, colour=BLUE, linestyle="none", zorder=4)
        ax.set(ylim=(-0.02, 1.02), title=name)
        if ax is not axes[0, 0]:
            ax.set_yticklabels([])
    fig.supxlabel("the object's share of the image, %", fontsize=9)
    axes[0, 0].set_ylabel("IoU of each image")
    return fig


def against_difficulty(
    levels: Sequence[float], curves: Mapping[str, Sequence[Sequence]], trained_at: float
) -> Figure:
    """IoU in scenes of other difficulties, a line a method; dotted where its training was."""
    fig, axes = panels(1, 1, width=0.8 * PAGE, aspect=1.9)
    ax = axes[0, 0]
    for k, (name, estimates) in enumerate(curves.items()):
        _line(ax, levels, estimates, CYCLE[k % len(CYCLE)], MARKS[k % len(MARKS)], name)
    ax.axvline(trained_at, color=QUIET, linestyle=":", linewidth=1.2)
    ax.annotate(
        "as in training", (trained_at, 0.02), xytext=(4, 0), textcoords="offset points",
        color=QUIET, fontsize=8,
    )  # fmt: skip
    ax.set(xlabel="difficulty of the scenes", ylabel="IoU", ylim=(0, 1))
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def reliability(curves: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]]) -> Figure:
    """What a probability is worth: the share that is object of the pixels said to be so likely.

    curves: name to (mean probability, share that is object, share of all pixels) by bin. Below, how
    many pixels each bin has.
    """
    fig, (top, below) = plt.subplots(
        2, 1, figsize=(0.7 * PAGE, 4.4), sharex=True, height_ratios=(2.6, 1)
    )
    top.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1.2, label="as likely as said")
    for k, (name, (said, found, weight)) in enumerate(curves.items()):
        said, found, weight = (np.asarray(values, dtype=float) for values in (said, found, weight))
        seen = weight > 0
        how = {"color": CYCLE[k % len(CYCLE)], "marker": MARKS[k % len(MARKS)], "markersize": 4.5}
        top.plot(said[seen], found[seen], label=name, **how)
        below.plot(said[seen], weight[seen], linewidth=1.2, **how)
    top.set(ylabel="share that is object", ylim=(-0.02, 1.02), xlim=(-0.02, 1.02))
    below.set(xlabel="probability of object, as predicted", ylabel="pixels", yscale="log")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def how_many(
    curves: Mapping[str, Mapping[str, Mapping[int, Sequence]]], levels: Mapping[str, float]
) -> Figure:
    """IoU against a number of images.

    curves: a panel's x axis to the lines in it, a line's name to number to estimate. levels:
    horizontal lines by name.
    """
    fig, axes = panels(1, len(curves), aspect=1.35, extra=0.6)
    drawn = [one for lines in curves.values() for by_n in lines.values() for one in by_n.values()]
    lowest = min([one[1][0] for one in drawn] + list(levels.values()))
    bottom = np.clip(np.floor(10 * lowest) / 10, 0, 0.9)  # differences are small beside 1
    for ax, (name, lines) in zip(axes[0], curves.items(), strict=True):
        for (label, estimates), colour, mark in zip(lines.items(), CYCLE, "os", strict=False):
            _line(ax, list(estimates), list(estimates.values()), colour, mark, label)
        for k, (label, value) in enumerate(levels.items()):
            ax.axhline(
                value, color=(QUIET, INK)[k % 2], linestyle=("--", ":")[k % 2], linewidth=1.2,
                label=label if ax is axes[0, 0] else None,
            )  # fmt: skip
        ticks = sorted({number for estimates in lines.values() for number in estimates})
        ax.set(xlabel=name, ylim=(bottom, 1), xticks=ticks)
    axes[0, 0].set_ylabel("IoU")
    if fig.axes[0].get_legend_handles_labels()[0]:
        fig.legend(loc="outside lower center", ncols=2)
    return fig


def ablation_gains(table: pd.DataFrame, choices: Mapping[str, str]) -> Figure:
    """A row a setting, grouped by choice: IoU in points above or below the choice's reference.

    table: as from `ablation_table`; an empty one gives a figure that says so.
    """
    if table.empty:
        fig, axes = panels(1, 1, width=0.6 * PAGE, aspect=6)
        bare(axes[0, 0]).text(0.5, 0.5, "not measured for this model", ha="center", va="center")
        return fig
    lines = [
        (choice, setting)
        for choice in choices
        for setting in (None, *dict.fromkeys(table.loc[table["choice"] == choice, "setting"]))
        if (table["choice"] == choice).any()
    ]
    fig, ax = plt.subplots(figsize=(PAGE, 0.6 + 0.2 * len(lines)))
    ax.axvline(0, color=QUIET, linewidth=1.2)
    kinds = [kind for kind in KINDS if (table["kind"] == kind).any()]
    labels = []
    for y, (choice, setting) in enumerate(lines):
        rows = table[(table["choice"] == choice) & (table["setting"] == setting)]
        labels.append(choices[choice] if setting is None else rows["words"].iloc[0])
        for row in rows.itertuples():
            k = kinds.index(row.kind)
            at, colour = y + 0.22 * (k - (len(kinds) - 1) / 2), CYCLE[k]
            if row.reference:
                ax.plot(0, at, "|", color=colour, markersize=8)
            else:
                _across(ax, at, (row.gain, (row.gain_low, row.gain_high)), colour, 3.5)
    for kind, colour in zip(kinds, CYCLE, strict=False):
        ax.plot([], [], "o", color=colour, label=KINDS[kind])
    _name_rows(ax, labels)
    for label, (_, setting) in zip(ax.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if setting is None else "normal")
    ax.set(xlabel="IoU, points above the reference (|)")
    fig.legend(loc="outside lower center", ncols=len(kinds))
    return fig


def beside_paper(
    rows: Mapping[str, Masks],
    here: Mapping[str, Mapping[str, Sequence]],
    words: Mapping[str, str],
    more: Sequence[str] = (),
) -> Table:
    """One of the paper's tables with this run's numbers at the right of its own.

    here: method to score to estimate. words: method to its name. more: methods that the paper does
    not have, as rows below.
    """
    lines = [(row.method, row.scores, here.get(row.here, {})) for row in rows.values()]
    lines += [(words[name], {}, here[name]) for name in more if name in here]
    found = []
    for method, reported, measured in lines:
        line = {"method": method}
        line |= {f"{SPOKEN[k]}, paper": number(reported.get(k), "fraction") for k in SPOKEN}
        for score, head in SPOKEN.items():
            estimate = measured.get(score)
            line[f"{head}, here"] = DASH if estimate is None else number(estimate[0], "fraction")
        iou = measured.get("iou")
        line["95% interval of IoU"] = DASH if iou is None else span(iou[1], "fraction")
        found.append(line)
    return table(found)


def _across(ax, y: float, estimate: Sequence, colour: str, size: float = 5) -> None:
    """A point with its interval, lying."""
    value, (low, high) = estimate[0], estimate[1]
    ax.errorbar(
        value, y, xerr=[[value - low], [high - value]], color=colour, marker="o", capsize=2.5,
        markersize=size, linestyle="none",
    )  # fmt: skip


def _name_rows(ax, labels: Sequence[str]) -> None:
    """One row for each label, the first at the top."""
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", labelcolor=INK, length=0)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)


def _line(ax, x: Sequence[float], estimates: Sequence, colour: str, mark: str, label: str) -> None:
    """A line through estimates, with a band for their intervals."""
    values = [one[0] for one in estimates]
    low, high = ([one[1][end] for one in estimates] for end in (0, 1))
    ax.plot(x, values, color=colour, marker=mark, markersize=5, label=label or None)
    ax.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
