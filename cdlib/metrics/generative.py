"""How good are made-up images: FID, KID, precision and recall, diversity, the nearest real ones.

    real, fake = pocket_features(images), pocket_features(samples)     # cdlib.stages; (N, d) each
    fid(real, fake), kid(real, fake), precision_recall(real, fake)

Everything here is a function of features, one row an image; whose features they are decides what
the numbers mean, and numbers from different features, or of different sizes of set, do not compare.

Intervals come from halves of both sets, drawn without replacement: how far a statistic spreads over
halves of a sample is its standard error on the whole (delete-half jackknife, Shao and Wu, 1989). A
bootstrap's draws, which hold images twice, would not do here: an image's double would be its
nearest neighbour, and a covariance of fewer different images biases FID.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist, pdist
from torch import nn

from cdlib.checks import whole_number

from .inputs import to_numpy
from .intervals import Estimate

NORMAL_95 = 1.96  # standard errors to either side


def fid(
    real: ArrayLike, fake: ArrayLike, draws: int = 50, seed: int = 0, extrapolate: bool = False
) -> Estimate:
    """Fréchet distance of two Gaussians fitted to the features (Heusel et al., 2017).

    |mu_r - mu_f|^2 + Tr(S_r + S_f - 2 (S_r S_f)^(1/2)), 0 or more, lower is better; computed by
    torchmetrics. Of few images it is too high, by about c / N with a c that depends on the model
    (Chong and Forsyth, 2020): compare sets of one size alone, and take `n`, the size of the
    smaller, into account.

    real: (N, d), fake: (M, d). N, M of 4 or more, best several times d. extrapolate: to sets
    without end, along 1 / N, from the whole sets and their halves: FID_infinity of the same
    authors, with two sizes in place of fifteen. This may be slightly below 0, and helps little
    where halves have fewer images than features have dimensions.
    """
    real, fake = _as_feature_pair(real, fake, least=4)
    value = _fid(real, fake)
    halves = [_fid(a, b) for a, b in _halves(real, fake, draws=draws, seed=seed)]
    if extrapolate:
        return _with_spread(2 * value - np.mean(halves), halves, min(len(real), len(fake)))
    return _with_spread(value, halves, min(len(real), len(fake)), low=0)


def kid(
    real: ArrayLike,
    fake: ArrayLike,
    subsets: int = 100,
    subset_size: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Kernel distance of the features, kernel (x.y / d + 1)^3 (Bińkowski et al., 2018).

    The mean over `subsets` of `subset_size` images of each set, half of the smaller set by default;
    computed by torchmetrics. Unbiased whatever the size: around 0, below it too, for two samples of
    one distribution. The interval is from the spread over subsets, brought from their size to the
    set's; it is somewhat too wide where the other set is larger.

    real: (N, d), fake: (M, d), N and M of 4 or more.
    """
    from torchmetrics.image.kid import KernelInceptionDistance  # seconds to import

    real, fake = _as_feature_pair(real, fake, least=4)
    n = min(len(real), len(fake))
    size = n // 2 if subset_size is None else whole_number("subset_size", subset_size, 2, n - 1)
    whole_number("subsets", subsets, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it keeps features in memory
        metric = KernelInceptionDistance(_AsTheyAre(real.shape[1]), subsets, size)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    with torch.random.fork_rng(devices=[]):  # its subsets come from torch's one generator
        torch.manual_seed(seed)
        value, spread = (float(v) for v in metric.compute())
    error = NORMAL_95 * spread * float(np.sqrt(size / (n - size)))
    return Estimate(value, (value - error, value + error), n)


def precision_recall(
    real: ArrayLike, fake: ArrayLike, k: int = 3, draws: int = 50, seed: int = 0
) -> dict[str, Estimate]:
    """How much of what is made could be real, and how much of what is real could be made.

    "precision" is the share of fake images that lie within the ball of some real one, a ball that
    reaches to its k-th nearest real neighbour; "recall" the same with the sets exchanged; both in
    0..1 (Kynkäänniemi et al., 2019). Both depend on k and on the sizes of the sets.

    real: (N, d), fake: (M, d), N and M of 2 (k + 1) or more.
    """
    k = whole_number("k", k, 1)
    real, fake = _as_feature_pair(real, fake, least=2 * (k + 1))
    halves = list(_halves(real, fake, draws=draws, seed=seed))
    found = {}
    for name, swap in (("precision", 1), ("recall", -1)):
        value, *spread = (_covered(*pair[::swap], k) for pair in [(real, fake), *halves])
        found[name] = _with_spread(value, spread, min(len(real), len(fake)), low=0, high=1)
    return found


def diversity(features: ArrayLike, draws: int = 50, seed: int = 0) -> Estimate:
    """The mean Euclidean distance between two different images of a set, in the features' units.

    Alone it says little: compare it with the real images'. features: (N, d), N of 4 or more.
    """
    features = _as_features("features", features, least=4)
    spread = [pdist(half).mean() for (half,) in _halves(features, draws=draws, seed=seed)]
    return _with_spread(pdist(features).mean(), spread, len(features), low=0)


def nearest_neighbours(fake: ArrayLike, real: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The real image nearest to each fake one: distances (M,) float64, and indices (M,) int64.

    Has the model learned its training set by heart? Then distances are far below those of other
    real images to it. fake: (M, d), real: (N, d).
    """
    real, fake = _as_feature_pair(real, fake, least=1)
    distances = cdist(fake, real)
    return distances.min(1), distances.argmin(1)


class _AsTheyAre(nn.Module):
    """To torchmetrics a network that makes features; here they are made already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def _fid(real: np.ndarray, fake: np.ndarray) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance  # seconds to import

    metric = FrechetInceptionDistance(_AsTheyAre(real.shape[1]))
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    return max(0.0, float(metric.compute()))  # equal sets: 0 up to rounding


def _covered(centres: np.ndarray, points: np.ndarray, k: int) -> float:
    """The share of points within the ball of a centre that reaches to its k-th neighbour."""
    reach = np.partition(cdist(centres, centres), k, axis=1)[:, k]  # its own distance, 0, is first
    return float((cdist(points, centres) <= reach).any(1).mean())


def _halves(*sets: np.ndarray, draws: int, seed: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Half of each set, drawn without replacement, so many times."""
    rng = np.random.default_rng(seed)
    for _ in range(whole_number("draws", draws, 2)):
        yield tuple(rows[rng.permutation(len(rows))[: len(rows) // 2]] for rows in sets)


def _with_spread(
    value: float, over_halves: list[float], n: int, low: float = -np.inf, high: float = np.inf
) -> Estimate:
    """The value with its 95% interval, cut to what is possible."""
    error = NORMAL_95 * float(np.std(over_halves, ddof=1))
    value = float(value)
    return Estimate(value, (max(low, value - error), min(high, value + error)), n)


def _as_feature_pair(real: ArrayLike, fake: ArrayLike, least: int) -> tuple[np.ndarray, np.ndarray]:
    real, fake = _as_features("real", real, least), _as_features("fake", fake, least)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"fake: has {fake.shape[1]} features an image, real {real.shape[1]}")
    return real, fake


def _as_features(name: str, features: ArrayLike, least: int) -> np.ndarray:
    features = to_numpy(features).astype(np.float64)
    if features.ndim != 2 or len(features) < least or not features.size:
        raise ValueError(
            f"{name}: expected features of shape (N, d) of {least} images or more, "
            f"got {features.shape}"
        )
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features)).sum())
        raise ValueError(f"{name}: {bad} of {features.size} values are NaN or infinite")
    return features
