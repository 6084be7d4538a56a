"""What the method has to beat: masks and paintings without any training.

    rival = tune("grabcut", val.images, val.masks)      # the best settings on validation images
    rival.masks(test.images)

Masks by colour (Otsu, GrabCut) or by attention as it is (DAAM), and objects covered by what
surrounds them. None is handicapped: each has settings, and `tune` chooses among them, the published
ones included.
"""

from .masks import daam_mask, frame_distance, grabcut, otsu_baseline, otsu_mask
from .painting import CV2_METHODS, crop_baseline, cv2_inpaint, largest_rectangles
from .tuning import GRIDS, Rival, tune

__all__ = [
    "CV2_METHODS",
    "GRIDS",
    "Rival",
    "crop_baseline",
    "cv2_inpaint",
    "daam_mask",
    "frame_distance",
    "grabcut",
    "largest_rectangles",
    "otsu_baseline",
    "otsu_mask",
    "tune",
]
