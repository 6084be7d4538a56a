"""An exported model against the pipeline it came from, part by part."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from cdlib.explore.graphs import PARTS, Part, pipeline_parts
from cdlib.explore.packing import from_halves, unpack

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from onnxruntime import InferenceSession


def open_part(folder: Path | str, name: str, *, tuned: bool = False) -> InferenceSession:
    """A part of what `export_model` wrote, its weights widened to float32 as the page does it.

    name: one of `PARTS`. tuned: the U-Net with the weights of m'.
    """
    import onnxruntime

    folder = Path(folder)
    parts = json.loads((folder / "model.json").read_text())["parts"]
    entry = parts[name]
    halves = unpack((folder / entry["weights"]["file"]).read_bytes())
    if tuned:
        halves = halves + unpack((folder / parts["m_prime"]["weights"]["file"]).read_bytes())
    with TemporaryDirectory() as scratch:
        graph = Path(scratch) / f"{name}.onnx"
        graph.write_bytes(gzip.decompress((folder / entry["graph"]["file"]).read_bytes()))
        from_halves(halves).tofile(graph.with_name(entry["location"]))
        return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def part_distances(
    folder: Path | str,
    pipe: StableDiffusionPipeline,
    m_prime: StableDiffusionPipeline | None = None,
) -> dict[str, float]:
    """The largest absolute difference of each output of each part from PyTorch's, on an example.

    Keys are "unet prediction" and the like, and "m_prime prediction" where m' is given. Outputs
    beyond 1 in size are divided by their largest value first.
    """
    asked = [(name, name, pipe) for name in PARTS]
    if m_prime is not None:
        asked.append(("m_prime", "unet", m_prime))
    found: dict[str, float] = {}
    for said, name, whose in asked:
        session = open_part(folder, name, tuned=said == "m_prime")
        distances = _distances(session, pipeline_parts(whose)[name])
        found |= {f"{said} {output}": distance for output, distance in distances.items()}
    return found


def _distances(session: InferenceSession, part: Part) -> dict[str, float]:
    feeds = {key: value.numpy() for key, value in zip(part.inputs, part.example, strict=True)}
    wanted = [answer.numpy() for answer in part.run()]
    answers = session.run(None, feeds)
    return {
        output: float(np.abs(answer - right).max() / max(1.0, np.abs(right).max()))
        for output, answer, right in zip(part.outputs, answers, wanted, strict=True)
    }
