"""What a classifier of the pocket world sees in pictures: how much of an object is left."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from cdlib.checks import one_of
from cdlib.pocket.classifier import CLASSIFIER_WEIGHTS, Classifier, load_classifier, see
from cdlib.store import fingerprint
from cdlib.world import CONCEPTS


def concept_index(concept: str) -> int:
    """The column of a concept in what `seen_objects` and `seen_odds` give."""
    return CONCEPTS.index(one_of("concept", concept, CONCEPTS))


def seen_odds(images: torch.Tensor) -> np.ndarray:
    """How likely each of the world's concepts is to be in each image: (N, concepts) in 0..1.

    images: (N, 3, H, W) in [0, 1], of any size. Independent answers: an image may have several
    objects, or none.
    """
    return see(shipped_judge(), images.float().cpu()).numpy()


def seen_objects(images: torch.Tensor, least: float = 0.5) -> np.ndarray:
    """Which concepts are seen in each image, those at least so likely: bool (N, concepts)."""
    if not 0 < least < 1:
        raise ValueError(f"least={least!r}: must be a probability between 0 and 1.")
    return seen_odds(images) >= least


def judge_fingerprint() -> str:
    """A key for the judge that is shipped."""
    return fingerprint(CLASSIFIER_WEIGHTS)


@lru_cache(maxsize=1)
def shipped_judge() -> Classifier:
    """The judge, read once."""
    return load_classifier()
