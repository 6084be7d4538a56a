"""Pictures of the pocket model: what it codes, how it was trained, what it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike

from . import BLUE, INK, ORANGE, PAGE, QUIET, RED, panels, show_image


def round_trip(
    images: ArrayLike, latents: ArrayLike, decoded: ArrayLike, decibels: Sequence[float]
) -> Figure:
    """Images, one channel of their latents, what comes back, and the error times four."""
    n = len(images)
    fig, axes = panels(4, n, extra=0.25)
    error = np.abs(np.asarray(images) - np.asarray(decoded)).mean(1)
    for k in range(n):
        show_image(axes[0, k], images[k])
        show_image(axes[1, k], np.asarray(latents[k][0]), cmap="RdBu_r", vmin=-3, vmax=3)
        show_image(axes[2, k], decoded[k], f"{decibels[k]:.1f} dB")
        show_image(axes[3, k], 4 * error[k], vmin=0, vmax=1)
    labels = ("image", "latent, channel 1", "decoded", "error × 4")
    for ax, label in zip(axes[:, 0], labels, strict=True):
        ax.set_ylabel(label)
    return fig


def noising(
    timesteps: Sequence[int], noisy: ArrayLike, guesses: ArrayLike, abar: ArrayLike
) -> Figure:
    """Above the two rates over all timesteps; below noised images and the model's guess of each.

    noisy, guesses: (len(timesteps), 3, H, W). abar: the scheduler's, one value a timestep.
    """
    n = len(timesteps)
    fig = _figure_with_wide_top(n)
    top, rows = fig.axes[0], np.array(fig.axes[1:]).reshape(2, n)
    abar = np.asarray(abar)
    top.plot(np.sqrt(abar), color=BLUE, label=r"signal $\sqrt{\bar\alpha_t}$")
    top.plot(np.sqrt(1 - abar), color=RED, label=r"noise $\sqrt{1-\bar\alpha_t}$")
    for t in timesteps:
        top.axvline(t, color=QUIET, linewidth=0.8, linestyle=":")
    top.set(xlabel="timestep $t$", xlim=(0, len(abar) - 1), ylim=(0, 1.02))
    top.legend(loc="center right", frameon=True, framealpha=0.9, edgecolor="none")
    for k, t in enumerate(timesteps):
        show_image(rows[0, k], noisy[k], f"$t={t}$")
        show_image(rows[1, k], guesses[k])
    rows[0, 0].set_ylabel("noised")
    rows[1, 0].set_ylabel("guess")
    return fig


def _figure_with_wide_top(columns: int) -> Figure:
    from matplotlib import pyplot as plt

    side = PAGE / columns
    fig = plt.figure(figsize=(PAGE, 2 * side + 2.2))
    grid = fig.add_gridspec(3, columns, height_ratios=(1.7, side, side))
    fig.add_subplot(grid[0, :])
    for row in (1, 2):
        for column in range(columns):
            fig.add_subplot(grid[row, column])
    return fig


def losses(training: Mapping) -> Figure:
    """The two stages' training losses, each the mean of the steps since the point before."""
    fig, axes = panels(1, 2, aspect=1.55, extra=0.2)
    stages = (("vae", "autoencoder", BLUE), ("denoiser", "U-Net and text encoder", RED))
    for ax, (stage, title, colour) in zip(axes[0], stages, strict=True):
        log = training[stage]["log"]
        ax.plot([row["step"] for row in log], [row["loss"] for row in log], color=colour)
        ax.set(title=title, xlabel="step", yscale="log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_ylabel("loss")
    return fig


def word_accuracy(per_word: Mapping[str, Mapping[str, float]], targets: Mapping[str, float]):
    """How often the judge finds in a sample what its prompt asked for, word by word."""
    fig, axes = panels(1, len(per_word), aspect=1.5, extra=0.1)
    for ax, (kind, shares) in zip(axes[0], per_word.items(), strict=True):
        words = list(shares)[::-1]
        ax.barh(words, [shares[word] for word in words], color=BLUE, height=0.66)
        ax.axvline(targets[kind], color=RED, linestyle="--", linewidth=1.2)
        ax.set(xlim=(0, 1.02), title=f"the {kind} that was asked for", xlabel="share of samples")
        ax.tick_params(axis="y", labelcolor=INK)
        ax.grid(axis="y", visible=False)
    return fig


def neighbours(
    drawn: ArrayLike, nearest: ArrayLike, distances: Sequence[float], prompts: Sequence[str],
    sample_distances: Sequence[float], held_out_distances: Sequence[float],
) -> Figure:  # fmt: skip
    """Samples above the training scenes most like them; below, all distances against held-out ones.

    drawn, nearest: (n, 3, H, W) and, for these, their distances and prompts.
    """
    n = len(drawn)
    from matplotlib import pyplot as plt

    side = PAGE / n
    fig = plt.figure(figsize=(PAGE, 2 * side + 2.5))
    grid = fig.add_gridspec(3, n, height_ratios=(side, side, 1.7))
    for k in range(n):
        above, below = fig.add_subplot(grid[0, k]), fig.add_subplot(grid[1, k])
        show_image(above, drawn[k], prompts[k])
        show_image(below, nearest[k], f"at {distances[k]:.3f}")
        if k == 0:
            above.set_ylabel("sample")
            below.set_ylabel("nearest\ntraining scene")
    _distance_histogram(fig.add_subplot(grid[2, :]), sample_distances, held_out_distances)
    return fig


def _distance_histogram(axes: Axes, samples: Sequence[float], held_out: Sequence[float]) -> None:
    both = np.concatenate([samples, held_out])
    bins = np.linspace(0, both.max() * 1.02, 36)
    axes.hist(held_out, bins, color=QUIET, alpha=0.55, label="held-out scenes")
    axes.hist(samples, bins, histtype="step", color=ORANGE, linewidth=2, label="samples")
    axes.set(xlabel="distance to the nearest training scene", ylabel="images", xlim=(0, bins[-1]))
    axes.legend(loc="upper left")
