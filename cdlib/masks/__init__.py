"""From attention to masks: thresholds, clean-up, upsampling, rectangles, and M by difference.

Pure functions of tensors: no model, no file, no hidden state. Sections named here are those of the
method description: 3.1 threshold, 3.2 orphan filter, 3.3 post-processing, 3.4 rectangles, 5.3
refinement. Maps are (N, h, w) or (h, w); what comes back is on the device of what went in.
"""

from .binarise import RULES, Thresholds, fit_two_gaussians, preliminary_mask, thresholds
from .cleanup import UPSAMPLING, dilate_mask, fill_and_close, majority_filter, upsample_mask
from .degenerate import KEPT, REASONS, degenerate, reason_counts
from .mixtures import Mixture, fit_mixture, mixture_mask
from .rectangles import sample_rectangle
from .refinement import difference, refine

__all__ = [
    "KEPT",
    "Mixture",
    "REASONS",
    "RULES",
    "UPSAMPLING",
    "Thresholds",
    "degenerate",
    "difference",
    "dilate_mask",
    "fill_and_close",
    "fit_mixture",
    "fit_two_gaussians",
    "majority_filter",
    "mixture_mask",
    "preliminary_mask",
    "reason_counts",
    "refine",
    "sample_rectangle",
    "thresholds",
    "upsample_mask",
]
