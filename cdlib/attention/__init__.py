"""Where a text-to-image model looks when it reads a word: the paper's M_hat (Eq. 1 to 4).

`concept_attention` gives M_hat of real images; `token_attention` the same for every token of the
prompt; `attention_profile` takes M_hat apart by layer and timestep; `capture_attention` gathers
maps from whatever is done with the pipeline inside it.
"""

import cdlib.models  # noqa: F401  # first: it keeps transformers from warning about torchvision
from cdlib.attention.capture import AttentionCapture, capture_attention
from cdlib.attention.concept import concept_attention, token_attention
from cdlib.attention.layers import CrossAttentionLayer, cross_attention_layers
from cdlib.attention.profile import attention_profile

__all__ = [
    "AttentionCapture",
    "CrossAttentionLayer",
    "attention_profile",
    "capture_attention",
    "concept_attention",
    "cross_attention_layers",
    "token_attention",
]
