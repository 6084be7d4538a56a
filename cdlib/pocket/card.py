"""What was written down about the shipped weights: how they were trained, what they reach."""

from __future__ import annotations

import json
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


def load_training() -> dict:
    """The log of the training: steps, losses, seconds, hardware, for both stages."""
    return json.loads((WEIGHTS / "training.json").read_text())


def load_gates() -> dict:
    """The gates as `python -m cdlib.pocket.gates` measured them on the shipped weights."""
    return json.loads((WEIGHTS / "gates.json").read_text())
