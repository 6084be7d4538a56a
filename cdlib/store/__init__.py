"""Artifacts on disk: the result of a stage, under a key made of what made it."""

from .artifacts import Artifact, Store
from .keys import code_hash, fingerprint, source_hash

__all__ = ["Artifact", "Store", "code_hash", "fingerprint", "source_hash"]
