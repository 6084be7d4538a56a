"""A segmentation network that learns from any pairs of image and mask, the method's own included.

    net = cdlib.train_segmenter(images, m_refined)     # the paper's recipe, half a million weights
    probabilities = net.predict(pictures)              # (N, H, W), pictures of any size
    cdlib.save_segmenter(net, "birds.safetensors")

For pairs of your own in folders:

    images, masks = cdlib.load_pairs([("birds/images", "birds/masks")], size=128)
    net = cdlib.train_segmenter(images, masks, size=128, width=64, steps=12_000)
"""

from .augment import draw_batch, recoloured
from .nets import Segmenter, choose_device
from .pairs import load_pairs
from .saving import export_onnx, load_segmenter, restore, save_segmenter
from .training import SegmenterState, segmenter_steps, train_segmenter

__all__ = [
    "Segmenter",
    "SegmenterState",
    "choose_device",
    "draw_batch",
    "export_onnx",
    "load_pairs",
    "load_segmenter",
    "recoloured",
    "restore",
    "save_segmenter",
    "segmenter_steps",
    "train_segmenter",
]
