"""What the paper reports, table by table, as fractions; FID as it stands.

    paper.TABLE_1["layeredgan"].iou     # 0.697
    paper.reported("unet_d_s", "bird")  # {"acc": 0.952, "iou": 0.751, "miou": 0.848}

CUB-200-2011 stands beside the pocket world's birds, Stanford Dogs beside its dogs, Stanford Cars
beside its cars and Human3.6m beside its people: the same four words, not the same pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cdlib.checks import one_of
from cdlib.world import PAPER_CONCEPTS

DATASETS = {
    "bird": "CUB-200-2011",
    "dog": "Stanford Dogs",
    "car": "Stanford Cars",
    "person": "Human3.6m",
}


@dataclass(frozen=True)
class Masks:
    """A row of tables 1 or 2, scores on CUB pooled over pixels; None where the paper has a dash.

    here: the method of this book that stands beside it, None if there is none.
    """

    method: str
    acc: float | None
    iou: float | None
    miou: float | None
    here: str | None = None

    @property
    def scores(self) -> dict[str, float]:
        """The scores that are given."""
        every = {"acc": self.acc, "iou": self.iou, "miou": self.miou}
        return {name: value for name, value in every.items() if value is not None}


@dataclass(frozen=True)
class Both:
    """A row of table 3: a method's FID, and its IoU (of masks for birds, of boxes otherwise)."""

    method: str
    supervision: str
    fid: dict[str, float]
    iou: dict[str, float] = field(default_factory=dict)


# Table 1, segmentation on CUB. The rows of others are those of Layered GAN's paper; GrabCut's are
# as run by the authors of IEM.
TABLE_1 = {
    "supervised": Masks("Fully supervised U-Net", 0.979, 0.883, 0.930, "unet_supervised"),
    "grabcut": Masks("GrabCut", 0.723, 0.360, 0.523, "grabcut"),
    "redo": Masks("ReDO", 0.845, 0.426, None),
    "perturbgan": Masks("PerturbGAN", None, None, 0.380),
    "iem": Masks("IEM + SegNet", 0.893, 0.551, 0.714),
    "melas": Masks("Melas-Kyriazi et al.", 0.921, 0.664, None),
    "layeredgan": Masks("Layered GAN", 0.943, 0.697, 0.817),
    "d_s": Masks("Ours (U-Net on D_s)", 0.952, 0.751, 0.848, "unet_d_s"),
    "d_s_synthetic": Masks("Ours (U-Net on D_s + D'_s)", 0.956, 0.772, 0.860, "unet_d_s_synthetic"),
}
# Table 2, stage by stage on CUB. A refined mask lies within its preliminary one widened by half a
# cell, so M can hardly hold twice as much of the object as M_pre does; by
# `diagnosis.object_pixels_found` the first two rows were probably counted on other pixels.
TABLE_2 = {
    "m_pre": Masks("Preliminary masks M_pre", 0.835, 0.290, 0.557, "m_pre"),
    "m_crop": Masks("Simple inpainting M_crop", 0.900, 0.307, 0.600, "m_crop"),
    "unet_m_pre": Masks("U-Net trained on (D, M_pre)", 0.917, 0.665, 0.782, "unet_m_pre"),
    "m_refined": Masks("Refined masks M", 0.924, 0.636, 0.774, "m_refined"),
    "unet_d_s": Masks("U-Net trained on D_s", 0.952, 0.751, 0.848, "unet_d_s"),
    "unet_d_s_synthetic": Masks(
        "U-Net trained on D_s + D'_s", 0.956, 0.772, 0.860, "unet_d_s_synthetic"
    ),
}
# Table 3, samples and masks on four datasets.
TABLE_3 = {
    "finegan": Both(
        "FineGAN", "weak", {"bird": 23.0, "dog": 54.9, "car": 24.8}, {"bird": 0.445}
    ),
    "onegan": Both("OneGAN", "weak", {"bird": 20.5, "dog": 48.7, "car": 24.2}, {"bird": 0.555}),
    "layeredgan": Both(
        "Layered GAN", "none", {"bird": 12.9, "dog": 59.3, "car": 19.0}, {"bird": 0.697}
    ),
    "ours": Both(
        "Ours (U-Net on D_s)",
        "self",
        {"bird": 9.8, "dog": 43.1, "car": 13.4, "person": 63.7},
        {"bird": 0.751, "dog": 0.638, "car": 0.552, "person": 0.692},
    ),
}  # fmt: skip
# Pixel AUC of M_hat: on CUB, its maps brought to 0..1 one by one; on chest radiographs (MS-CXR).
AUC = {"bird": 0.971}
CHEST_AUC = 0.796
# The FID of its samples of birds by concept guidance s (section 4).
FID_BY_GUIDANCE = {1.0: 9.8, 3.0: 11.3, 7.5: 22.3}


def reported(method: str, concept: str) -> dict[str, float]:
    """What the paper has of a method of this book, score to number; empty where it has nothing.

    concept: any; but for birds the paper measures boxes ("box_iou"), of its U-Net on D_s alone.
    """
    if concept == "bird":
        rows = {row.here: row for row in (*TABLE_1.values(), *TABLE_2.values()) if row.here}
        return rows[method].scores if method in rows else {}
    boxes = TABLE_3["ours"].iou
    return {"box_iou": boxes[concept]} if method == "unet_d_s" and concept in boxes else {}


def dataset_of(concept: str) -> str:
    """The paper's dataset that stands beside a concept of the pocket world."""
    return DATASETS[one_of("concept", concept, PAPER_CONCEPTS)]
