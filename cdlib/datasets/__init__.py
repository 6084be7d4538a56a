"""One shape of example for all sources: image, mask or boxes, name, split.

load_dataset("pocket", concept="bird", split="test")     # scenes drawn on the spot
load_dataset("my/birds", concept="bird", split="test")   # a folder of your own
export_imagefolder("birds", images, masks)               # for `datasets`, and for load_dataset
export_coco("birds-coco", images, masks, "bird")         # for pycocotools
"""

from cdlib.datasets.coco import export_coco
from cdlib.datasets.examples import Box, Dataset, Example
from cdlib.datasets.folders import SUFFIXES
from cdlib.datasets.imagefolder import export_imagefolder
from cdlib.datasets.loading import SOURCES, load_dataset
from cdlib.datasets.pocket import POCKET_SIZES

__all__ = [
    "POCKET_SIZES",
    "SOURCES",
    "SUFFIXES",
    "Box",
    "Dataset",
    "Example",
    "export_coco",
    "export_imagefolder",
    "load_dataset",
]
