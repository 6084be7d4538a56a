"""Segmenters in files: safetensors to load again, ONNX to run without PyTorch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from cdlib.files import written_whole
from cdlib.segmenter.nets import CELL, Segmenter, choose_device

CONFIG = "cdlib.segmenter"  # the entry of a file's metadata that says how to build the network


def save_segmenter(net: Segmenter, path: str | Path) -> Path:
    """Write weights, width and what is known of the training to one safetensors file."""
    path = _with_suffix(path, ".safetensors")
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    told = {CONFIG: json.dumps({"width": net.width, "trained": net.trained})}
    with written_whole(path) as aside:
        save_file(weights, aside, metadata=told)
    return path


def load_segmenter(path: str | Path, device: str | torch.device = "cpu") -> Segmenter:
    """The network in a file of `save_segmenter`, ready to predict.

    device: where it runs, "auto" is an accelerator if there is one. ValueError for a file that is
    not there, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path={str(path)!r}: there is no such file.")
    try:
        with safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get(CONFIG)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"path={str(path)!r}: is no safetensors file ({error}).") from error
    if told is None:
        raise ValueError(f"path={str(path)!r}: holds weights, but not a segmenter's.")
    return restore(weights, **json.loads(told)).to(choose_device(device))


def restore(weights: dict[str, torch.Tensor], width: int, trained: dict | None = None) -> Segmenter:
    """A network that predicts with given weights, as its `state_dict` names them."""
    net = Segmenter(width, trained)
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False)


def export_onnx(net: Segmenter, path: str | Path) -> Path:
    """Write the network as ONNX: "images" (N, 3, H, W) in [0, 1] to "probabilities" (N, H, W).

    Number and size of the images are free, as in `Segmenter.predict`, with which the file's answers
    agree to 1e-4.
    """
    path = _with_suffix(path, ".onnx")
    answering = _Probabilities(restore(net.state_dict(), net.width))
    free = {"images": {0: "n", 2: "height", 3: "width"}}
    free["probabilities"] = {0: "n", 1: "height", 2: "width"}
    example = torch.rand(2, 3, 2 * CELL + 1, 3 * CELL - 1)
    with written_whole(path) as aside, _silence():
        torch.onnx.export(
            answering, (example,), aside, dynamo=False, dynamic_axes=free,
            input_names=["images"], output_names=["probabilities"],
        )  # fmt: skip
    return path


class _Probabilities(nn.Module):
    """A segmenter that answers with probabilities, as one graph."""

    def __init__(self, net: Segmenter) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images).sigmoid()


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing on the screen: the exporter tells of its steps, and warns of its own parts."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _with_suffix(path: str | Path, suffix: str) -> Path:
    """`path`, which must end as files of its kind do: readers go by it."""
    path = Path(path)
    if path.suffix != suffix:
        raise ValueError(f"path={str(path)!r}: must end in {suffix}.")
    return path
