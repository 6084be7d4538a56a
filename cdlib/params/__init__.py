"""What a chapter can be asked: names, types, ranges, meanings and the presets' numbers.

A chapter's first code cell is tagged `parameters` and repeats the defaults below, annotated, so
that `papermill --help-notebook notebooks/02_attention.ipynb` lists them; its second code cell is

    import cdlib

    p = cdlib.check_parameters(globals(), chapter="02_attention")

From there on the chapter reads `p.steps`, `p.concept`, ...: checked, and filled in from the preset
wherever the notebook's own value says "the preset's" (0 for counts, "auto" for the model).

papermill only warns about a name that it does not know, and runs on with the default; so the check
also looks for names that the parameters cell or papermill's injected cell set and the chapter does
not have. Nothing here imports torch: a slip is reported in the first second.
"""

from .chapters import CHAPTERS, COMMON
from .checking import chapter_parameters, check_parameters, parameters_cell
from .parameter import Parameter, ParameterError
from .presets import PRESETS, preset_numbers

__all__ = [
    "CHAPTERS",
    "COMMON",
    "PRESETS",
    "Parameter",
    "ParameterError",
    "chapter_parameters",
    "check_parameters",
    "parameters_cell",
    "preset_numbers",
]
