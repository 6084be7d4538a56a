"""From m to m': teach a text-to-image model what the background of a concept looks like.

    for state in finetune(pipe, images, m_pre, y_f="a photo of a bird"):
        print(state.step, state.loss)
    m_prime = state.pipeline()

The same call runs on a CPU, on a GPU, and on several of either. A script that makes it becomes
a run of two processes on a machine without GPUs by

    accelerate launch --multi_gpu --num_processes 2 --main_process_port 0 script.py

where --multi_gpu is accelerate's word for several processes; with --cpu it would start but one.
"""

# After cdlib.models, which keeps transformers from warning about what nothing here needs.
import cdlib.models  # noqa: F401  isort: skip
from cdlib.finetune.draws import Draws, Examples, draw, encode_examples
from cdlib.finetune.loop import FinetuneState, finetune
from cdlib.finetune.objective import NOISES, masked_square, noised, target
from cdlib.finetune.trainer import Losses, Trainer
from cdlib.precision import PRECISIONS

__all__ = [
    "NOISES",
    "PRECISIONS",
    "Draws",
    "Examples",
    "FinetuneState",
    "Losses",
    "Trainer",
    "draw",
    "encode_examples",
    "finetune",
    "masked_square",
    "noised",
    "target",
]
