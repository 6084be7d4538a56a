"""One choice changed at a time, everything else as it was: which of the choices matter?

    table = ablation_table(ablations(made, synthetic, nets), made.data("val").masks)
    ablation_costs(made)                 # what making them takes

Measured on the validation split: tables like these are read to make choices, and choices are made
there. Choices about maps and thresholds change M_pre, and through it M, with m' as it is; those
about fine-tuning change m', and through it M; those about training change the U-Net alone.
Following each of them to a U-Net of its own would take a fine-tuning and a training for every row.

Beyond what the evaluation itself needs, all of them together take

- fine-tunings of 1/4, 1/2, 1/2 and 1/2 of the usual steps, 1.75 of the usual ones;
- five trainings of a U-Net, one of them twice as wide and one half as wide;
- one pass for attention by layer and timestep, one with four times the noise draws, and a removal
  of the validation images for each of 14 or so rows;

which is 15 to 25 minutes on two cores with the sizes of their record. Each part is in the store
once made, so a run that was stopped goes on.
"""

from .masks import mask_ablations, mask_costs
from .nets import FEW, learning_curve, net_ablations, net_costs, train_on
from .tables import (
    CHOICES,
    Variant,
    ablation_results,
    ablation_table,
    table_of_results,
)

__all__ = [
    "CHOICES",
    "FEW",
    "Variant",
    "ablation_costs",
    "ablation_results",
    "ablation_table",
    "ablations",
    "learning_curve",
    "mask_ablations",
    "net_ablations",
    "table_of_results",
    "train_on",
]


def ablations(made, synthetic, nets):
    """Every setting of every choice, made as it is asked for; each choice's reference comes first.

    made: a Distillation. synthetic: as from `synthetic_artifact`. nets: as from `trained_nets`,
    with "m_pre", "d_s" and "d_s_synthetic". Yields a `Variant` each.
    """
    yield from mask_ablations(made)
    yield from net_ablations(made, synthetic, nets)


def ablation_costs(made) -> dict[str, int]:
    """What `ablations` makes beyond what the evaluation needs: steps, passes, trainings."""
    return {**mask_costs(made), **net_costs(made)}
