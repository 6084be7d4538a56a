"""The explorers for a live Jupyter kernel, on any model that `cdlib.load_model` loads.

    from cdlib.explore.live import MaskExplorer, PromptExplorer

    MaskExplorer(pipe, data)                           # masks of a concept in images
    PromptExplorer(pipe, prompt="a photo of a bird")   # images of a prompt, word by word

They need ipywidgets. What they compute is in `cdlib.explore.live_model` and needs none.
"""

from cdlib.explore.live_masks import MaskExplorer
from cdlib.explore.live_prompts import PromptExplorer

__all__ = ["MaskExplorer", "PromptExplorer"]
