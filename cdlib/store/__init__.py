"""Artifacts on disk: the result of a stage, under a key made of what made it."""

from .artifacts import Artifact, Store
from .keys import code_hash, digest, fingerprint, source_hash, tensor_digest

__all__ = [
    "Artifact",
    "Store",
    "code_hash",
    "digest",
    "fingerprint",
    "source_hash",
    "tensor_digest",
]
