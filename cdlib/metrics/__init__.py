"""How good is a mask, a score map or an image: the paper's protocol, with intervals.

Scores are pooled over all pixels of all images, as in the paper (sections 6.3 and 6.4 of the method
description); per-image values stand beside them. Intervals come from resampling images. What judges
maps takes tensors or arrays of N of them, (N, h, w), what judges made-up images takes features,
(N, d), as `cdlib.stages` makes them; no model is imported.
"""

from .boundaries import boundary_f, boundary_f_estimate
from .boxes import box_iou, box_iou_estimate, boxes_of_masks, fill_boxes
from .curves import (
    Reliability,
    max_f_beta,
    max_f_beta_estimate,
    precision_recall_curve,
    reliability,
)
from .generative import diversity, fid, kid, nearest_neighbours, precision_recall
from .images import psnr, ssim
from .intervals import Estimate, bootstrap_ci, mean_estimate
from .maps import best_threshold, normalise_maps, per_image_auc, pixel_auc, pixel_auc_estimate
from .protocol import centre_crop
from .scores import (
    SCORES,
    best_grid_iou,
    confusion,
    estimates_from_confusion,
    per_image_scores,
    pooled_estimates,
    pooled_scores,
    scores_from_confusion,
)

__all__ = [
    "SCORES",
    "Estimate",
    "Reliability",
    "best_grid_iou",
    "best_threshold",
    "bootstrap_ci",
    "boundary_f",
    "boundary_f_estimate",
    "box_iou",
    "box_iou_estimate",
    "boxes_of_masks",
    "centre_crop",
    "confusion",
    "diversity",
    "estimates_from_confusion",
    "fid",
    "fill_boxes",
    "kid",
    "max_f_beta",
    "max_f_beta_estimate",
    "mean_estimate",
    "nearest_neighbours",
    "normalise_maps",
    "per_image_auc",
    "per_image_scores",
    "pixel_auc",
    "pixel_auc_estimate",
    "pooled_estimates",
    "pooled_scores",
    "precision_recall",
    "precision_recall_curve",
    "psnr",
    "reliability",
    "scores_from_confusion",
    "ssim",
]
