"""What the library's ways of doing things cost or save, as ratios measured within one run.

    python -m cdlib.bench                    # prints them and writes _build/bench.json

Seconds differ from machine to machine; a ratio of two things done in turn, in one process, much
less. No test asserts a speed.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from cdlib.attention import capture_attention, concept_attention, cross_attention_layers
from cdlib.checks import whole_number
from cdlib.datasets import load_dataset
from cdlib.files import written_whole
from cdlib.inpaint import remove
from cdlib.masks import preliminary_mask
from cdlib.models import encode_prompts, latent_factor, load_model, prompt_tokens
from cdlib.world import render_scene

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

PROMPT, WORD = "a photo of a bird", "bird"
Work = Callable[[], object]


def run_benchmarks(
    pipe: StableDiffusionPipeline, images: torch.Tensor, repeats: int = 5
) -> dict[str, dict]:
    """All ratios by name: {"ratio", "numerator_s", "denominator_s", "what"}.

    images: (N, 3, H, W) in [0, 1], each containing a bird. Times are medians of `repeats`; the one
    entry about memory has bytes ("numerator_bytes", "denominator_bytes") instead of seconds.
    """
    return {
        "attention.capture": _compare(
            "a U-Net pass with all cross-attention captured, over a plain one",
            *_capture_and_plain(pipe, len(images), images.shape[-1]),
            repeats,
        ),
        "attention.bfloat16": _compare(
            "a U-Net pass under bfloat16 autocast, over one in the model's precision",
            *_bfloat16_and_plain(pipe, len(images), images.shape[-1]),
            repeats,
        ),
        "attention.batched": _compare(
            "concept attention in batches of 32, over one U-Net pass at a time",
            lambda: _m_hat(pipe, images, batch_size=32),
            lambda: _m_hat(pipe, images, batch_size=1),
            repeats,
        ),
        "attention.streamed_memory": _streamed_memory(pipe, images),
        "inpaint.removal": _compare(
            "removing objects in 10 steps, over the same U-Net passes alone",
            *_removal_and_passes(pipe, images),
            repeats,
        ),
        "masks.binarise": _compare(
            "binarising maps by the two-component mixture, over making them from 40 timesteps",
            *_binarise_and_attend(pipe, images),
            repeats,
        ),
        "world.render": _compare(
            "drawing scenes (image, clean plate and masks), over decoding them from PNG",
            *_draw_and_decode(),
            repeats,
        ),
    }


def _compare(what: str, numerator: Work, denominator: Work, repeats: int) -> dict:
    """Both timed in turn, so that whatever else the machine does meets them alike."""
    numerator(), denominator()  # the first call warms caches
    pairs = [(_seconds(numerator), _seconds(denominator)) for _ in range(repeats)]
    a, b = (median(column) for column in zip(*pairs, strict=True))
    return {"ratio": a / b, "numerator_s": a, "denominator_s": b, "what": what}


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _unet_pass(pipe: StableDiffusionPipeline, batch: int, size: int) -> Work:
    side = size // latent_factor(pipe)
    z_t = torch.randn(batch, pipe.unet.config.in_channels, side, side).to(pipe.unet.device)
    z_t, y = z_t.to(pipe.unet.dtype), encode_prompts(pipe, [PROMPT] * batch)
    return torch.no_grad()(lambda: pipe.unet(z_t, 401, encoder_hidden_states=y))


def _capture_and_plain(pipe: StableDiffusionPipeline, batch: int, size: int) -> tuple[Work, Work]:
    unet_pass = _unet_pass(pipe, batch, size)

    def captured() -> torch.Tensor:
        with capture_attention(pipe, WORD, prompt=PROMPT) as capture:
            unet_pass()
        return capture.maps

    return captured, unet_pass


def _bfloat16_and_plain(pipe: StableDiffusionPipeline, batch: int, size: int) -> tuple[Work, Work]:
    unet_pass = _unet_pass(pipe, batch, size)
    return torch.autocast(pipe.device.type, torch.bfloat16)(unet_pass), unet_pass


def _m_hat(
    pipe: StableDiffusionPipeline, images: torch.Tensor, batch_size: int, t0: int = 4
) -> torch.Tensor:
    return concept_attention(pipe, images, PROMPT, WORD, t0=t0, batch_size=batch_size)


def _streamed_memory(pipe: StableDiffusionPipeline, images: torch.Tensor) -> dict:
    """Bytes of attention held for a batch after 4 timesteps: a running sum, or every map.

    Every map is what the paper's code keeps: all tokens, layers and timesteps on the latent grid.
    """
    batch, size = len(images), images.shape[-1]
    unet_pass = _unet_pass(pipe, batch, size)
    with capture_attention(pipe, WORD, prompt=PROMPT) as capture:
        for _ in range(4):
            unet_pass()
    streamed = capture.nbytes
    tokens = range(len(prompt_tokens(pipe, PROMPT)))
    stored = []
    with capture_attention(pipe, positions=tokens, keep_layers=True) as capture:
        for _ in range(4):
            unet_pass()
            stored.append(capture.maps)
            capture.reset()
    kept = sum(maps.nbytes for maps in stored)
    layers = len(cross_attention_layers(pipe))
    return {
        "ratio": streamed / kept,
        "numerator_bytes": streamed,
        "denominator_bytes": kept,
        "what": f"bytes of a running sum, over those of {len(tokens)} tokens in {layers} layers "
        "at 4 timesteps",
    }


def _removal_and_passes(
    pipe: StableDiffusionPipeline, images: torch.Tensor, steps: int = 10
) -> tuple[Work, Work]:
    batch, size = len(images), images.shape[-1]
    side = size // latent_factor(pipe)
    m_pre = torch.zeros(batch, side, side, dtype=torch.bool)
    m_pre[:, side // 4 : -side // 4, side // 4 : -side // 4] = True
    unet_pass = _unet_pass(pipe, batch, size)

    def passes() -> None:
        for _ in range(steps):
            unet_pass()

    return lambda: remove(pipe, images, m_pre, steps=steps, batch_size=batch), passes


def _binarise_and_attend(pipe: StableDiffusionPipeline, images: torch.Tensor) -> tuple[Work, Work]:
    few = images[:4]
    maps = _m_hat(pipe, few, batch_size=32)
    return lambda: preliminary_mask(maps), lambda: _m_hat(pipe, few, batch_size=32, t0=40)


def _draw_and_decode(n: int = 40, size: int = 64) -> tuple[Work, Work]:
    def draw() -> list:
        return [render_scene("train", i, size) for i in range(n)]

    files = []
    for scene in draw():
        masks = [thing.mask.astype(np.uint8) * 255 for thing in scene.objects]
        files += [_png(pixels) for pixels in (scene.image, scene.plate, *masks)]
    return draw, lambda: [np.asarray(Image.open(io.BytesIO(file))) for file in files]


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def write_benchmarks(results: dict[str, dict], path: Path) -> None:
    """A reader never meets half a file."""
    with written_whole(path) as aside:
        aside.write_text(json.dumps(results, indent=2) + "\n")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket", help="pocket, a folder or a hub id")
    parser.add_argument("--size", type=int, default=64, help="pixels of an image's side")
    parser.add_argument("--images", type=int, default=16, help="images in a batch")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each time")
    parser.add_argument("--output", type=Path, default=Path("_build/bench.json"))
    given = parser.parse_args(arguments)
    try:
        repeats = whole_number("repeats", given.repeats, 1)
        images = load_dataset(concept=WORD, limit=given.images, size=given.size).images
        pipe = load_model(given.model)
    except ValueError as error:
        parser.error(str(error))
    results = run_benchmarks(pipe, images, repeats)
    write_benchmarks(results, given.output)
    for name, entry in results.items():
        print(f"{entry['ratio']:8.3f}  {name:26} {entry['what']}")
    print(f"written to {given.output}")


if __name__ == "__main__":
    main()
