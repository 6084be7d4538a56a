"""From concept attention to masks: thresholds, clean-up, upsampling and the rectangle sampler.

Pure functions of tensors: no model, no file, no hidden state. Sections named below are those of
the method description: 3.1 threshold, 3.2 orphan filter, 3.3 post-processing, 3.4 rectangles.
Maps are (N, h, w) or (h, w); what comes back has the shape and the device of what went in.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from skimage.filters import threshold_otsu
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

RULES = ("gmm", "posterior", "otsu", "percentile")
UPSAMPLING = ("nearest", "bilinear-any")


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
    _require_finite("values", values)
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
    maps = _as_maps("m_hat", m_hat)
    inside = _as_valid(valid, maps)
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
    maps = _as_maps("m_hat", m_hat)
    inside = _as_valid(valid, maps)
    cut = thresholds(maps, rule, inside, percentile, seed).threshold
    mask = (maps.double() > cut[:, None, None]) & inside
    mask = majority_filter(mask) & inside if majority else mask
    mask = fill_and_close(mask) & inside if postprocess else mask
    return mask.reshape(tuple(m_hat.shape))


def majority_filter(mask: torch.Tensor) -> torch.Tensor:
    """Give each interior cell the majority of its 3x3 block; the border stays (section 3.2)."""
    out = _as_mask("mask", mask).clone()
    h, w = out.shape[-2:]
    if h < 3 or w < 3:
        return out
    count = sum(
        out[..., dy : h - 2 + dy, dx : w - 2 + dx].int() for dy in range(3) for dx in range(3)
    )
    out[..., 1:-1, 1:-1] = count >= 5
    return out


def fill_and_close(mask: torch.Tensor) -> torch.Tensor:
    """Close gaps of one cell with a cross, then fill holes, mask by mask (section 3.3).

    Each mask gets a margin first: without it SciPy's closing eats the cells along the border,
    as it does in the paper's code. So nothing is ever taken from the mask.
    """
    mask = _as_mask("mask", mask)
    planes = np.pad(mask.cpu().numpy().reshape(-1, *mask.shape[-2:]), ((0, 0), (1, 1), (1, 1)))
    for i, plane in enumerate(planes):
        planes[i] = ndimage.binary_fill_holes(ndimage.binary_closing(plane))
    inner = np.ascontiguousarray(planes[:, 1:-1, 1:-1])
    return torch.from_numpy(inner).reshape(mask.shape).to(mask.device)


def upsample_mask(mask: torch.Tensor, size: tuple[int, int], mode: str = "nearest") -> torch.Tensor:
    """Bring a mask to `size` (H, W).

    "nearest" repeats cells. "bilinear-any" is what the paper's code does (section 5.3): bilinear
    interpolation with everything above zero kept, which adds half a cell on every side.
    """
    mask = _as_mask("mask", mask)
    if mode not in UPSAMPLING:
        raise ValueError(f"mode: got {mode!r}, allowed are {', '.join(UPSAMPLING)}")
    planes = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    if mode == "nearest":
        out = F.interpolate(planes, size=tuple(size), mode="nearest") > 0
    else:
        out = F.interpolate(planes, size=tuple(size), mode="bilinear", align_corners=False) > 0
    return out.reshape(*mask.shape[:-2], *size)


def sample_rectangle(
    foreground: torch.Tensor,
    generator: torch.Generator,
    *,
    n: int = 1,
    tries: int = 100,
    min_side: float = 10.0,
    max_side: float = 32.0,
    min_area: float = 256.0,
    max_area: float = 1024.0,
    min_background: float = 2 / 3,
) -> torch.Tensor:
    """Draw a random region of background to learn to paint, as a (h, w) bool mask (section 3.4).

    Two background cells, drawn at random, are opposite corners of a box. It is accepted if both
    sides exceed `min_side`, not both exceed `max_side`, its area lies in `min_area` to `max_area`
    and background makes up `min_background` of that area; the region is the box without its
    foreground cells. If no box of `tries` is accepted, the region is the whole background; with
    at most one background cell it is empty. The region never covers foreground. Of `n` boxes,
    drawn one by one in this way, it is the union.

    Sides and areas are those of the paper's 64x64 grid, whatever the grid: a box is judged as it
    would be if its cells were blown up to 64x64. There the paper measures from corner cell to
    corner cell, so that s of g cells have the side 64 s / g - 1; at 64x64 this is its rule to the
    letter, and at 16x16 sides are 3 cells or more and areas 20 to 66 cells.

    foreground: (h, w) bool. generator: a CPU generator; one call always uses up 2 n tries draws.
    """
    fg = _as_mask("foreground", foreground)
    if fg.ndim != 2:
        raise ValueError(f"foreground: expected shape (h, w), got {tuple(fg.shape)}")
    if n < 1 or tries < 1:
        raise ValueError(f"n and tries: got {n} and {tries}, allowed is 1 or more")
    background = ~fg.cpu()
    cells = background.nonzero()  # (K, 2), rows y, x
    if len(cells) <= 1:
        return torch.zeros_like(fg)
    h, w = background.shape
    # summed[y, x] counts the background above and left of (y, x): any box in four look-ups
    summed = F.pad(background.long().cumsum(0).cumsum(1), (1, 0, 1, 0))
    region = torch.zeros_like(background)
    for _ in range(n):
        corners = cells[torch.randint(len(cells), (tries, 2), generator=generator)]
        (y0, x0), (y1, x1) = corners.amin(1).unbind(1), (corners.amax(1) + 1).unbind(1)
        inside = summed[y1, x1] - summed[y0, x1] - summed[y1, x0] + summed[y0, x0]
        height, width = (y1 - y0) * (64 / h) - 1, (x1 - x0) * (64 / w) - 1
        area = height * width
        accepted = (height > min_side) & (width > min_side)
        accepted &= ~((height > max_side) & (width > max_side))
        accepted &= (area >= min_area) & (area <= max_area)
        accepted &= inside * (64 / h) * (64 / w) >= min_background * area
        if not accepted.any():
            return background.to(fg.device)
        i = int(accepted.int().argmax())
        region[y0[i] : y1[i], x0[i] : x1[i]] = True
    return (region & background).to(fg.device)


def _as_maps(name: str, maps: torch.Tensor | np.ndarray) -> torch.Tensor:
    maps = torch.as_tensor(maps).detach()
    if maps.ndim not in (2, 3) or maps.shape[-2] * maps.shape[-1] < 2:
        raise ValueError(
            f"{name}: expected shape (N, h, w) or (h, w) with two cells or more, "
            f"got {tuple(maps.shape)}"
        )
    _require_finite(name, maps)
    return maps if maps.ndim == 3 else maps[None]


def _as_valid(valid: torch.Tensor | np.ndarray | None, maps: torch.Tensor) -> torch.Tensor:
    if valid is None:
        return torch.ones_like(maps, dtype=torch.bool)
    valid = _as_mask("valid", valid).to(maps.device)
    if tuple(valid.shape) not in (tuple(maps.shape), tuple(maps.shape[1:])):
        raise ValueError(
            f"valid: shape {tuple(valid.shape)} does not fit maps of shape {tuple(maps.shape)}"
        )
    valid = valid.expand(maps.shape)
    if (valid.sum((1, 2)) < 2).any():
        raise ValueError("valid: every map needs at least two valid cells")
    return valid


def _as_mask(name: str, mask: torch.Tensor | np.ndarray) -> torch.Tensor:
    mask = torch.as_tensor(mask)
    if mask.dtype != torch.bool or mask.ndim < 2:
        raise ValueError(
            f"{name}: expected a bool tensor of shape (..., h, w), "
            f"got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    return mask


def _require_finite(name: str, values: torch.Tensor) -> None:
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise ValueError(f"{name}: {bad} of {values.numel()} values are NaN or infinite")


def _stack(values: list[float], device: torch.device) -> torch.Tensor:
    return torch.tensor([float(v) for v in values], dtype=torch.float64, device=device)
