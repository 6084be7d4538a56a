"""The stages between the library and the chapters: what takes long, kept in the store.

A stage looks up, or makes, the artifact that belongs to this model, these images and settings.
Model and images count by their content, wherever they came from:

    images = cdlib.load_dataset("pocket", concept="bird", size=native_size(pipe)).images
    m_hat = m_hat_artifact(pipe, images, prompt="a photo of a bird", word="bird")
    m_pre = m_pre_artifact(m_hat)["m_pre"]
    m_prime = load_m_prime(pipe, m_prime_artifact(pipe, images, m_pre, y_f="a photo of a bird"))
"""

from cdlib.stages.attention import (
    m_hat_artifact,
    m_pre_artifact,
    profile_artifact,
    t0_sweep_artifact,
)
from cdlib.stages.chain import Distillation, Labels
from cdlib.stages.evaluation import (
    better_cv2,
    evaluation_artifact,
    mask_estimates,
    removal_estimates,
)
from cdlib.stages.features import inception_features, pocket_features
from cdlib.stages.finetuning import load_m_prime, m_prime_artifact
from cdlib.stages.judge import concept_index, seen_objects, seen_odds
from cdlib.stages.keys import model_fingerprint, native_size, tensor_fingerprint
from cdlib.stages.removal import removal_artifact
from cdlib.stages.report import glue_estimate
from cdlib.stages.segmenting import (
    attended_nets,
    coloured_nets,
    folder_sets,
    load_trained,
    segmenter_artifact,
    synthetic_pairs,
    train_sets,
    trained_artifacts,
    trained_nets,
    training_sets,
    validation_sets,
)
from cdlib.stages.synthesis import masks_with_seed, samples_artifact, synthetic_artifact

__all__ = [
    "Distillation",
    "Labels",
    "attended_nets",
    "better_cv2",
    "coloured_nets",
    "concept_index",
    "evaluation_artifact",
    "folder_sets",
    "glue_estimate",
    "inception_features",
    "load_m_prime",
    "load_trained",
    "m_hat_artifact",
    "m_pre_artifact",
    "m_prime_artifact",
    "mask_estimates",
    "masks_with_seed",
    "model_fingerprint",
    "native_size",
    "pocket_features",
    "profile_artifact",
    "removal_artifact",
    "removal_estimates",
    "samples_artifact",
    "seen_objects",
    "seen_odds",
    "segmenter_artifact",
    "synthetic_artifact",
    "synthetic_pairs",
    "t0_sweep_artifact",
    "tensor_fingerprint",
    "train_sets",
    "trained_artifacts",
    "trained_nets",
    "training_sets",
    "validation_sets",
]
