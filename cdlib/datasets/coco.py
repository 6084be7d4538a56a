"""Images and masks as COCO has them: annotations.json with run-length encoded masks.

export_coco("birds-coco", images, masks, concepts="bird")
pycocotools.coco.COCO("birds-coco/annotations.json")
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle

from cdlib.datasets.writing import check_pictures, folder_written_whole, per_image, write_png

ANNOTATIONS = "annotations.json"


def export_coco(
    folder: Path | str,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    masks: torch.Tensor,  # (N, H, W), bool or in [0, 1]
    concepts: str | Sequence[str],
    *,
    names: Sequence[str] | None = None,
    description: str = "",
    replace: bool = False,
) -> Path:
    """Write images/NAME.png and annotations.json; gives the folder's path.

    An image has one annotation, all its pixels of the concept together: COCO's masks are hard, so
    soft ones are cut above one half. With it go its area in pixels, and its box (x, y, width,
    height). An image with an empty mask has no annotation. Ids count from 1, as COCO's do.

    concepts: the category of all images, or one for each.
    names, replace, and what is refused: as in `export_imagefolder`.
    """
    names = check_pictures(images, masks, names)
    each = [concepts] * len(names) if isinstance(concepts, str) else concepts
    each = per_image("concepts", each, len(names))
    if bad := [concept for concept in each if not isinstance(concept, str) or not concept.strip()]:
        raise ValueError(f"concepts: {bad[0]!r} is no word for a category.")
    categories = {concept: k for k, concept in enumerate(dict.fromkeys(each), start=1)}
    hard = (masks if masks.dtype == torch.bool else masks > 0.5).cpu().numpy()
    height, width = images.shape[2:]
    coco = {
        "info": {"description": description},
        "licenses": [],
        "categories": [{"id": k, "name": concept} for concept, k in categories.items()],
        "images": [
            {"id": k, "file_name": f"images/{name}.png", "width": width, "height": height}
            for k, name in enumerate(names, start=1)
        ],
        "annotations": [
            {"id": k, "image_id": k, "category_id": categories[concept], **_region(mask)}
            for k, (mask, concept) in enumerate(zip(hard, each, strict=True), start=1)
            if mask.any()
        ],
    }
    with folder_written_whole(folder, replace) as aside:
        (aside / "images").mkdir()
        for name, image in zip(names, images, strict=True):
            write_png(aside / "images" / f"{name}.png", image)
        text = json.dumps(coco, ensure_ascii=False, allow_nan=False) + "\n"
        (aside / ANNOTATIONS).write_text(text, encoding="utf-8")
    return Path(folder)


def _region(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) in COCO's terms; its runs go down the columns."""
    runs = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "segmentation": {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")},
        "area": int(rle.area(runs)),
        "bbox": [float(side) for side in rle.toBbox(runs)],
        "iscrowd": 0,
    }
