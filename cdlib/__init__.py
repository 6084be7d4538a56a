"""Concept distillation, small enough to read: masks from what a text-to-image model knows.

    pipe = cdlib.load_model("pocket")
    data = cdlib.load_dataset("pocket", concept="bird", split="test")
    m_hat = cdlib.concept_attention(pipe, data.images, prompt="a photo of a bird", word="bird")
    m_pre = cdlib.preliminary_mask(m_hat)

Names are looked up when first used, so that `import cdlib` is instant and a chapter can check its
parameters before anything heavy is loaded.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

# Where a front end has no widgets tqdm warns that its bars will be text; here they shall be.
warnings.filterwarnings("ignore", message="IProgress not found")

_ROOM_OF = {
    "check_parameters": "params",
    "glue": "results",
    "glue_again": "results",
    "glue_text": "results",
    "load_results": "results",
    "load_record": "records",
    "load_records": "records",
    "glue_records": "records",
    "record_rows": "records",
    "recorded_hours": "records",
    "show_figure": "results",
    "render_scene": "world",
    "export_coco": "datasets",
    "export_imagefolder": "datasets",
    "load_dataset": "datasets",
    "load_model": "models",
    "token_positions": "models",
    "capture_attention": "attention",
    "concept_attention": "attention",
    "token_attention": "attention",
    "finetune": "finetune",
    "preliminary_mask": "masks",
    "degenerate": "masks",
    "refine": "masks",
    "sample_rectangle": "masks",
    "removal_steps": "inpaint",
    "remove": "inpaint",
    "synthesise": "inpaint",
    "composite": "inpaint",
    "evaluate": "evaluation",
    "pixel_auc": "metrics",
    "pooled_scores": "metrics",
    "bootstrap_ci": "metrics",
    "train_segmenter": "segmenter",
    "segmenter_steps": "segmenter",
    "save_segmenter": "segmenter",
    "load_segmenter": "segmenter",
    "export_onnx": "segmenter",
    "load_pairs": "segmenter",
    "Store": "store",
}

__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'cdlib' has no attribute {name!r}")
    value = getattr(import_module(f"cdlib.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Cdlib(ModuleType):
    """The package, where a function is not hidden by the room of its name (`finetune`)."""

    def __setattr__(self, name: str, value: object) -> None:
        # importing a room would set it as an attribute here, see the import system's "Submodules"
        if not (name in _ROOM_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Cdlib
