"""How sure is a number over images: bootstrap intervals (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Estimate(NamedTuple):
    """A number over n images with its interval; `value` and `ci95` in the units of the number."""

    value: float
    ci95: tuple[float, float]
    n: int

    @classmethod
    def around(cls, value: float, ci95: tuple[float, float], n: int) -> Estimate:
        """With an interval that holds the value: of few images, draws may miss it by a rounding."""
        value = float(value)
        return cls(value, (min(ci95[0], value), max(ci95[1], value)), n)


def bootstrap_ci(
    statistic: Callable[[np.ndarray], np.ndarray],
    n_images: int,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a statistic when the images are drawn again with replacement.

    statistic: from (B, N) float64, how often each image was drawn in each of B draws, to B values.
    It is handed all draws at once, so that a matrix product does the work. Draws in which the
    statistic is undefined (NaN) do not count.
    """
    if n_images < 1 or n_boot < 1:
        raise ValueError(f"n_images and n_boot: got {n_images} and {n_boot}, allowed is 1 or more")
    if not 0 < level < 1:
        raise ValueError(f"level: got {level}, allowed is between 0 and 1")
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n_boot)
    values = np.asarray(statistic(draws.astype(np.float64)))
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_estimate(values: ArrayLike, n_boot: int = 1000, seed: int = 0) -> Estimate:
    """The mean of one value an image, with its 95% interval; NaN marks an image without one."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if values.ndim != 1 or not len(values):
        raise ValueError("values: expected one number an image, at least one of them not NaN")
    ci95 = bootstrap_ci(lambda draws: draws @ values / len(values), len(values), n_boot, seed)
    return Estimate.around(values.mean(), ci95, len(values))
