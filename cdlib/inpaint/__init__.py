"""Painting background over an object, and whole images from a prompt (sections 5.1 and 5.2).

    removed = remove(m_prime, images, m_pre)                     # objects vanish
    birds = synthesise(m_prime, 8, y_f="a photo of a bird")      # images from nothing
    pasted, soft = composite(birds, masks, backgrounds)          # objects elsewhere (5.5)

The first two denoise latents under the same guidance by the paper's two concepts, on the noise
schedule that the model was trained with, by whichever of diffusers' schedulers is named.
`removal_steps` shows a removal as it goes.
"""

import cdlib.models  # noqa: F401  # first: it keeps transformers from warning about torchvision
from cdlib.inpaint.composites import composite, feathered
from cdlib.inpaint.denoising import DenoisingState
from cdlib.inpaint.removal import removal_steps, remove
from cdlib.inpaint.schedulers import SCHEDULERS, scheduler_by_name
from cdlib.inpaint.synthesis import synthesise

__all__ = [
    "SCHEDULERS",
    "DenoisingState",
    "composite",
    "feathered",
    "removal_steps",
    "remove",
    "scheduler_by_name",
    "synthesise",
]
