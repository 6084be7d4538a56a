"""The refined mask M: where an image and its removal differ, within M_pre (Eq. 5, section 5.3)."""

from __future__ import annotations

import torch
from skimage.color import rgb2lab

from .binarise import preliminary_mask
from .cleanup import dilate_mask, fill_and_close, upsample_mask
from .inputs import as_mask, as_valid

SPACES = ("rgb", "lab")


def difference(images: torch.Tensor, removed: torch.Tensor, space: str = "rgb") -> torch.Tensor:
    """How much each pixel has changed: two (N, 3, H, W) in [0, 1] to (N, H, W), float32.

    space: "rgb" is the mean over the three channels of |images - removed|, in [0, 1] (the paper's
        code, section 5.3). "lab" is the Euclidean distance in CIELAB, the colour difference
        Delta E of CIE 1976, divided by 100. A shadow changes lightness alone, an object hue and
        saturation too, so "lab" tells the two apart better. Either way black and white differ by 1;
        between saturated colours "lab" goes up to about 2.6.
    """
    if space not in SPACES:
        raise ValueError(f"space: got {space!r}, allowed are {', '.join(SPACES)}")
    for name, batch in (("images", images), ("removed", removed)):
        if batch.ndim != 4 or batch.shape[1] != 3 or not batch.is_floating_point():
            raise ValueError(
                f"{name}: expected floats of shape (N, 3, H, W), "
                f"got {batch.dtype} of shape {tuple(batch.shape)}"
            )
    if images.shape != removed.shape:
        raise ValueError(
            f"removed: shape {tuple(removed.shape)} differs from that of the images it is "
            f"compared with, {tuple(images.shape)}"
        )
    if space == "lab":
        return (_lab(images) - _lab(removed)).square().sum(1).sqrt().to(images.device) / 100
    return (images.float() - removed.float()).abs().mean(1)


def _lab(images: torch.Tensor) -> torch.Tensor:
    """L*, a*, b* of (N, 3, H, W) in [0, 1] as sRGB, on the CPU."""
    return torch.from_numpy(rgb2lab(images.detach().cpu().float().numpy(), channel_axis=1))


def refine(
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    removed: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    m_pre: torch.Tensor,  # (N, h, w) bool
    *,
    space: str = "rgb",
    rule: str = "gmm",
    upsampling: str = "bilinear-any",
    reference: torch.Tensor | None = None,
    dilate: int = 0,
    majority: bool = True,
    postprocess: bool = False,
    valid: torch.Tensor | None = None,
    seed: int = 0,
) -> torch.Tensor:
    """M = up(M_pre) AND majority(GMM(difference)), as a bool (N, H, W) of pixels.

    The mixture is fitted to all pixels of the difference, not only those inside M_pre: outside it
    what one denoising and the autoencoder cost makes up the lower mode.

    space: of the difference, see there.
    rule, majority, seed: as in `preliminary_mask`, for the difference.
    upsampling: of M_pre, see `upsample_mask`.
    reference: images to compare with `removed` in place of `images`, such as the autoencoder's
        reconstructions, which have its error in common with the removal.
    dilate: cells by which M_pre is enlarged first, see `dilate_mask`; as many as in the removal.
    postprocess: close gaps and fill holes of M, see `fill_and_close`.
    valid: bool (H, W) or (N, H, W); only valid pixels enter the fit, and M.
    """
    changed = difference(images if reference is None else reference, removed, space)
    if as_mask("m_pre", m_pre).ndim != 3 or len(m_pre) != len(changed):
        raise ValueError(
            f"m_pre: expected shape (N, h, w) with N = {len(changed)}, got {tuple(m_pre.shape)}"
        )
    inside = as_valid(valid, changed)
    within = upsample_mask(dilate_mask(m_pre, dilate), tuple(changed.shape[1:]), upsampling)
    m = within.to(changed.device) & preliminary_mask(
        changed, rule, inside, seed=seed, majority=majority
    )
    return fill_and_close(m) & inside if postprocess else m
