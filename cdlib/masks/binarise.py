"""From maps to masks: where to cut, and M_pre (section 3.1)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from skimage.filters import threshold_otsu
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from .cleanup import fill_and_close, majority_filter
from .inputs import as_maps, as_valid, require_finite

RULES = ("gmm", "posterior", "otsu", "percentile")


@dataclass(frozen=True)
class Thresholds:
    """Where each of N maps is cut, and the two modes behind the cut for the rules that fit them.

    threshold: (N,) float64, foreground is what lies strictly above. means, variances, weights:
    (N, 2) float64, the background's mode first, in the units of the map; None for rules
    without modes ("otsu", "percentile").
    """

    rule: str
    threshold: torch.Tensor
    means: torch.Tensor | None = None
    variances: torch.Tensor | None = None
    weights: torch.Tensor | None = None


def fit_two_gaussians(
    values: torch.Tensor | np.ndarray, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fit a mixture of two 1-D Gaussians to each row: means, variances, weights (section 3.1).

    values: (N, P), finite. Returns three (N, 2) float64 tensors, the lower mean first. A constant
    row has one mode only: both means equal it, variances are 0 and weights (1, 0).
    """
    values = torch.as_tensor(values)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"values: expected shape (N, P) with P >= 2, got {tuple(values.shape)}")
    require_finite("values", values)
    rows = [_fit_row(row, seed) for row in values.detach().cpu().double().numpy()]
    fits = torch.from_numpy(np.stack(rows) if rows else np.zeros((0, 3, 2)))  # (N, 3, 2)
    return fits[:, 0], fits[:, 1], fits[:, 2]


def _fit_row(row: np.ndarray, seed: int) -> np.ndarray:
    """Means, variances and weights of one row as a (3, 2) array."""
    centre, scale = row.mean(), row.std()
    # below this spread the row is constant up to rounding, and dividing by it would invent modes
    if scale <= 1e-12 * max(1.0, abs(centre)) or row.min() == row.max():
        return np.array([[centre, centre], [0.0, 0.0], [1.0, 0.0]])
    # scikit-learn's fit takes 2 to 3 ms for 256 cells and 5 ms for 4096 on one core, little beside
    # the 40 U-Net passes behind each map, so a batched EM of our own would buy nothing. It adds
    # 1e-6 to every variance, which is not small for raw attention (1e-2): hence the unit scale.
    with warnings.catch_warnings():
        # as in the paper's code, a fit that is still creeping after 100 rounds is used as it is
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = GaussianMixture(2, random_state=seed).fit(((row - centre) / scale)[:, None])
    means, variances = fit.means_[:, 0], fit.covariances_[:, 0, 0]
    order = np.argsort(means)
    return np.stack([means * scale + centre, variances * scale**2, fit.weights_])[:, order]


def thresholds(
    m_hat: torch.Tensor | np.ndarray,
    rule: str = "gmm",
    valid: torch.Tensor | np.ndarray | None = None,
    percentile: float = 80.0,
    seed: int = 0,
) -> Thresholds:
    """Cut each map in two by one of four rules.

    - "gmm": midpoint between the means of two fitted Gaussians, the paper's code (section 3.1).
    - "posterior": where the upper Gaussian becomes the likelier of the two. The cut is one-sided:
      values beyond a second crossing, in the tail of the wider Gaussian, stay on their side.
    - "otsu": Otsu's threshold on a 256-bin histogram.
    - "percentile": the given percentile of the map, in 0..100.

    m_hat: (N, h, w) or (h, w), finite. valid: bool of the same shape or (h, w); only valid cells
    enter the fit, which keeps the padding of a canvas out (section 9.2, point 2).
    A constant map is cut at its own value, so nothing lies above it.
    """
    maps = as_maps("m_hat", m_hat)
    inside = as_valid(valid, maps)
    if rule not in RULES:
        raise ValueError(f"rule: got {rule!r}, allowed are {', '.join(RULES)}")
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile: got {percentile}, allowed is 0 to 100")
    device = maps.device
    rows = [m[v] for m, v in zip(maps.double().cpu(), inside.cpu(), strict=True)]
    if rule == "otsu":
        # skimage returns the value of a constant image, as wanted
        return Thresholds(rule, _stack([threshold_otsu(r.numpy()) for r in rows], device))
    if rule == "percentile":
        return Thresholds(rule, _stack([np.percentile(r, percentile) for r in rows], device))
    fits = [fit_two_gaussians(r[None], seed) for r in rows]
    means, variances, weights = (
        torch.cat([f[i] for f in fits]) if fits else torch.zeros(0, 2, dtype=torch.float64)
        for i in range(3)
    )
    cut = means.mean(1) if rule == "gmm" else _posterior_cut(means, variances, weights)
    return Thresholds(rule, *(t.to(device) for t in (cut, means, variances, weights)))


def _posterior_cut(means: torch.Tensor, variances: torch.Tensor, weights: torch.Tensor):
    """Where log(w1 N1) - log(w0 N0), a quadratic a x^2 + b x + c, turns positive; (N,).

    Without a crossing one mode wins everywhere: +inf if the lower does, -inf if the upper does.
    """
    cuts = []
    for (m0, m1), (v0, v1), (w0, w1) in zip(
        means.numpy(), variances.numpy(), weights.numpy(), strict=True
    ):
        if v0 == 0 or w1 == 0:  # a constant map
            cuts.append(m0)
            continue
        # solved around m0, since far from it the squares would cancel
        d = m1 - m0
        a = 0.5 / v0 - 0.5 / v1
        b = d / v1
        c = np.log(w1 / w0) + 0.5 * np.log(v0 / v1) - 0.5 * d * d / v1
        slope = np.sqrt(max(b * b - 4 * a * c, 0.0))  # of the quadratic where it turns positive
        if slope == 0:
            cuts.append(-np.inf if c > 0 else np.inf)
        else:
            cuts.append(m0 - 2 * c / (b + slope))  # (-b + slope) / 2a, written to survive a -> 0
    return torch.tensor(cuts, dtype=torch.float64)


def preliminary_mask(
    m_hat: torch.Tensor | np.ndarray,
    rule: str = "gmm",
    valid: torch.Tensor | np.ndarray | None = None,
    percentile: float = 80.0,
    seed: int = 0,
    majority: bool = True,
    postprocess: bool = False,
) -> torch.Tensor:
    """M_pre: attention maps to boolean masks (sections 3.1 to 3.3); same shape as `m_hat`.

    Threshold as in `thresholds`, then the 3x3 majority filter, then, if asked, `fill_and_close`.
    Cells that are not valid are background. A constant map has no object: all background.
    """
    maps = as_maps("m_hat", m_hat)
    inside = as_valid(valid, maps)
    cut = thresholds(maps, rule, inside, percentile, seed).threshold
    mask = (maps.double() > cut[:, None, None]) & inside
    mask = majority_filter(mask) & inside if majority else mask
    mask = fill_and_close(mask) & inside if postprocess else mask
    return mask.reshape(tuple(m_hat.shape))


def _stack(values: list[float], device: torch.device) -> torch.Tensor:
    return torch.tensor([float(v) for v in values], dtype=torch.float64, device=device)
