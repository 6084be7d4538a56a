"""M_pre by a mixture of any number of Gaussians, for maps whose values form more than two groups.

The paper cuts a map between two Gaussians and reports that this fails on chest radiographs, whose
values form three groups: outside the body, healthy tissue, finding. Here the number is a choice;
with two it is the paper's rule (section 3.1), as `preliminary_mask` has it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from ..checks import whole_number
from .cleanup import majority_filter
from .inputs import as_maps, as_valid


@dataclass(frozen=True)
class Mixture:
    """K Gaussians fitted to the values of each of N maps, the lowest mean first.

    means, variances, weights: (N, K) float64, in the units of the map. A constant map has one mode:
    all means equal it, variances are 0 and weights (1, 0, ...).
    bic: (N,) float64, the Bayesian information criterion (Schwarz, 1978), up to a constant of the
    map: of two mixtures of one map the one with less explains it better for what it costs. It
    takes cells for independent, which neighbours are not, and so favours more modes than there are
    reasons for. NaN for a constant map.
    """

    means: torch.Tensor
    variances: torch.Tensor
    weights: torch.Tensor
    bic: torch.Tensor

    @property
    def threshold(self) -> torch.Tensor:
        """(N,): the midpoint of the two highest means. With two modes this is the paper's."""
        return self.means[:, -2:].mean(1)


def fit_mixture(
    m_hat: torch.Tensor | np.ndarray,
    components: int = 3,
    valid: torch.Tensor | np.ndarray | None = None,
    seed: int = 0,
) -> Mixture:
    """Fit `components` Gaussians (2 to 8) to the values of each map.

    m_hat: (N, h, w) or (h, w), finite, with as many cells as components or more. valid: bool of the
    same shape or (h, w); only valid cells enter the fit.
    """
    maps = as_maps("m_hat", m_hat)
    inside = as_valid(valid, maps)
    components = whole_number("components", components, 2, 8)
    if len(maps) and int(inside.sum((1, 2)).min()) < components:
        raise ValueError(f"components={components}: a map has fewer cells than that.")
    rows = [m[v].numpy() for m, v in zip(maps.double().cpu(), inside.cpu(), strict=True)]
    fits = [_fit_row(row, components, seed) for row in rows]
    modes = torch.from_numpy(
        np.stack([f for f, _ in fits]) if fits else np.zeros((0, 3, components))
    )
    bic = torch.tensor([b for _, b in fits], dtype=torch.float64)
    return Mixture(*(part.to(maps.device) for part in (*modes.unbind(1), bic)))


def mixture_mask(
    m_hat: torch.Tensor | np.ndarray,
    components: int = 3,
    valid: torch.Tensor | np.ndarray | None = None,
    seed: int = 0,
    majority: bool = True,
) -> torch.Tensor:
    """M_pre: what belongs to the highest of `components` modes; bool of the shape of `m_hat`.

    Foreground lies above the midpoint of the two highest means; then the 3x3 majority filter, as in
    `preliminary_mask`. A constant map has no object.
    """
    maps = as_maps("m_hat", m_hat)
    inside = as_valid(valid, maps)
    cut = fit_mixture(maps, components, inside, seed).threshold
    mask = (maps.double() > cut[:, None, None]) & inside
    mask = majority_filter(mask) & inside if majority else mask
    return mask.reshape(tuple(m_hat.shape))


def _fit_row(row: np.ndarray, components: int, seed: int) -> tuple[np.ndarray, float]:
    """Means, variances and weights as a (3, K) array, and the criterion."""
    centre, scale = row.mean(), row.std()
    if scale <= 1e-12 * max(1.0, abs(centre)) or row.min() == row.max():
        alone = np.zeros((3, components))
        alone[0], alone[2, 0] = centre, 1.0
        return alone, float("nan")
    values = ((row - centre) / scale)[:, None]  # scikit-learn adds 1e-6 to every variance
    with warnings.catch_warnings():  # a fit that has not settled after 100 rounds is used as it is
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = GaussianMixture(components, random_state=seed).fit(values)
    means, variances = fit.means_[:, 0], fit.covariances_[:, 0, 0]
    modes = np.stack([means * scale + centre, variances * scale**2, fit.weights_])
    return modes[:, np.argsort(means)], float(fit.bic(values))
