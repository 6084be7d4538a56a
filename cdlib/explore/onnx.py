"""The model for the page: graphs, packed weights, and all that a page must know of the run.

    export_model(folder, pipe, m_prime, images=data.images, masks=data.masks, concept="bird")

What `web/src/engine.js` reads: model.json, four graphs (.onnx.gz), their weights (.bin.gz), those
of m' as a difference from m's, and the pictures as PNG. The same input gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cdlib.checks import one_of, whole_number
from cdlib.explore.graphs import (
    PARTS,
    Part,
    latent_grid,
    pipeline_parts,
    take_out_weights,
    trace_part,
)
from cdlib.explore.packing import difference, from_halves, is_half, pack, to_halves
from cdlib.explore.pictures import picture_files
from cdlib.files import written_whole
from cdlib.masks import RULES
from cdlib.models import ddim_scheduler, latent_factor
from cdlib.pocket.vocabulary import FUNCTION_WORDS, RADIOGRAPH_WORDS, UNTAUGHT_WORDS
from cdlib.world import BACKGROUNDS, COLOURS, CONCEPTS
from cdlib.world.backgrounds import PLACES
from cdlib.world.radiograph import FINDINGS

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

LIMIT_MB = 30.0  # of all that a page loads, in millions of bytes
RUNTIME_BYTES = 3_900_000  # the ONNX runtime's WebAssembly, compressed, with all scripts
GROUPS: dict[str, Sequence[str]] = {
    "objects": CONCEPTS,
    "colours": tuple(COLOURS),
    "places": BACKGROUNDS,
    "small words": FUNCTION_WORDS,
    "radiographs": (*RADIOGRAPH_WORDS, *FINDINGS),
    "learnt by m'": UNTAUGHT_WORDS,
}
REMOVAL = {"steps": 10, "dilate": 1, "surroundings": "noised", "resample": 1}


class TooLarge(ValueError):
    """A model that no page should load; the message names the sizes."""


def export_model(
    folder: str | Path,
    pipe: StableDiffusionPipeline,
    m_prime: StableDiffusionPipeline | None = None,
    *,
    images: torch.Tensor | None = None,  # (N, 3, H, W) in [0, 1]
    masks: torch.Tensor | None = None,  # (N, H, W) bool
    plates: torch.Tensor | None = None,  # (N, 3, H, W) in [0, 1]
    names: Sequence[str] | None = None,
    concept: str = "bird",
    y_f: str | None = None,
    y_b: str = "a photo of a background",
    t0: int = 40,
    steps: int = 50,
    rule: str = "otsu",
    removal: Mapping[str, Any] | None = None,
    seed: int = 0,
    limit_mb: float = LIMIT_MB,
) -> dict[str, Any]:
    """Write all that the model in the page needs to `folder`; returns what model.json says.

    m_prime: the pipeline of m'; its U-Net alone is written, as a difference from m's.
    images, masks, plates, names: pictures to look at, the truth of the concept in them, and the
        same scenes without it; each may be absent. They must have the size the model draws.
    concept, y_f, y_b, t0, steps, rule, seed: of the run, for M_hat and M_pre as it made them.
        y_f is "a photo of a <concept>" by default.
    removal: how the run removes, as `cdlib.stages.Distillation.removal` says it. The page steps by
        DDIM whatever its scheduler.

    Weights travel as float16. Those of a model that float16 cannot hold are rounded, and the
    manifest's "rounding" says how many, by how much at most, and by how much at most that changes
    what the part answers to an example. Entries "bytes" are sizes of files.

    Raises ValueError for arguments that do not fit, and TooLarge for a model that needs more than
    `limit_mb` million bytes with the runtime (the message names the sizes).
    """
    one_of("rule", rule, RULES)
    whole_number("t0", t0, 1, whole_number("steps", steps, 1))
    _check_size(pipe, limit_mb)
    pictures, shown = picture_files(pipe, images, masks, plates, names)
    tuned = None if m_prime is None else pipeline_parts(m_prime)["unet"]
    files, described = _pack_parts(pipeline_parts(pipe), tuned)
    files |= pictures
    manifest = {
        "format": 1,
        "parts": described,
        "image": {"height": latent_grid(pipe)[0] * latent_factor(pipe),
                  "width": latent_grid(pipe)[1] * latent_factor(pipe)},
        "latent": {"channels": pipe.unet.config.in_channels, "height": latent_grid(pipe)[0],
                   "width": latent_grid(pipe)[1], "scaling": pipe.vae.config.scaling_factor},
        "schedule": _schedule(pipe),
        "tokenizer": _tokenizer(pipe),
        "words": _known_words(pipe),
        "places": {place: said for place, (_, said) in PLACES.items()},
        "run": {"concept": concept, "y_f": y_f or f"a photo of a {concept}", "y_b": y_b,
                "t0": t0, "steps": steps, "rule": rule, "seed": seed,
                "removal": {**REMOVAL, **(removal or {})}},
        "pictures": shown,
        "runtime_bytes": RUNTIME_BYTES,
    }  # fmt: skip
    _check_total(files, limit_mb)
    for name, content in files.items():
        _write(Path(folder) / name, content)
    _write(Path(folder) / "model.json", (json.dumps(manifest) + "\n").encode())
    return manifest


def _pack_parts(
    parts: Mapping[str, Part], tuned: Part | None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Files of all parts by name, and what the manifest says of them."""
    files: dict[str, bytes] = {}
    described: dict[str, Any] = {}
    for name in PARTS:
        part = parts[name]
        proto = trace_part(part)
        order = take_out_weights(proto, part, f"{name}.bin")
        graph = gzip.compress(proto.SerializeToString(deterministic=True), mtime=0)
        halves, rounding = _halves(name, part, order)
        files |= {f"{name}.onnx.gz": graph, f"{name}.bin.gz": pack(halves)}
        described[name] = _describe(files, f"{name}.bin", halves, rounding)
        described[name]["graph"] = _named(files, f"{name}.onnx.gz")
        if name == "unet" and tuned is not None:
            after, rounding = _halves("m_prime", tuned, order)
            files["m_prime.bin.gz"] = pack(difference(after, halves))
            described["m_prime"] = _describe(files, "m_prime.bin", after, rounding)
    return files, described


def _describe(
    files: Mapping[str, bytes], location: str, halves: np.ndarray, rounding: dict | None
) -> dict[str, Any]:
    packed = _named(files, f"{location}.gz")
    return {"location": location, "weights": packed, "values": len(halves), "rounding": rounding}


def _named(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    return {"file": name, "bytes": len(files[name])}


def _halves(
    name: str, part: Part, order: Sequence[str]
) -> tuple[np.ndarray, dict[str, float] | None]:
    """A part's weights as float16 bit patterns, in order, and what rounding did if there was any.

    ValueError if they do not fit: other names or shapes, or values out of range.
    """
    weights = part.weights
    if missing := sorted(set(order) ^ set(weights)):
        raise ValueError(f"{name}: weights differ from those of the graph: {missing[:3]}.")
    try:
        packed = {key: to_halves(weights[key].reshape(-1)) for key in order}
    except ValueError as error:
        raise ValueError(f"{name}: cannot be packed as float16: {error}") from error
    halves = np.concatenate(list(packed.values()))
    if all(is_half(weights[key]) for key in order):
        return halves, None
    rounded = {key: from_halves(packed[key]).reshape(weights[key].shape) for key in order}
    changes = [np.abs(rounded[key] - weights[key]) for key in order]
    answers = zip(part.run(rounded), part.run(), strict=True)
    return halves, {
        "weights": int(sum(np.count_nonzero(change) for change in changes)),
        "largest_change": float(max(change.max() for change in changes)),
        "largest_change_of_output": max(float((a - b).abs().max()) for a, b in answers),
    }


def _schedule(pipe: StableDiffusionPipeline) -> dict[str, Any]:
    """The noise schedule, and the DDIM grid that the page steps on: the book's own."""
    scheduler = ddim_scheduler(pipe)
    return {
        "trained_steps": scheduler.config.num_train_timesteps,
        "alphas_cumprod": [float(a) for a in scheduler.alphas_cumprod],
        "final_alpha_cumprod": float(scheduler.final_alpha_cumprod),
        "prediction_type": scheduler.config.prediction_type,
        "spacing": scheduler.config.timestep_spacing,
        "offset": scheduler.config.steps_offset,
    }


def _tokenizer(pipe: StableDiffusionPipeline) -> dict[str, Any]:
    """CLIP's byte-pair tables, as `web/src/tokens.js` reads them."""
    tokenizer = pipe.tokenizer
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return {
        "vocabulary": model["vocab"],
        "merges": merges,
        "end_of_word": model["end_of_word_suffix"],
        "start": tokenizer.bos_token_id,
        "end": tokenizer.eos_token_id,
        "pad": tokenizer.pad_token_id,
        "unknown": tokenizer.unk_token_id,
        "length": tokenizer.model_max_length,
    }


def _known_words(pipe: StableDiffusionPipeline) -> dict[str, list[str]]:
    """The pocket world's words, in groups, as far as the model's vocabulary has them."""
    unknown = pipe.tokenizer.unk_token_id

    def known(word: str) -> bool:
        return unknown not in pipe.tokenizer(word, add_special_tokens=False).input_ids

    return {group: [word for word in words if known(word)] for group, words in GROUPS.items()}


def _check_size(pipe: StableDiffusionPipeline, limit_mb: float) -> None:
    """Refuse at once what cannot fit: a byte a weight is less than packing ever leaves."""
    nets = {"text encoder": pipe.text_encoder, "U-Net": pipe.unet, "autoencoder": pipe.vae}
    counts = {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()}
    if sum(counts.values()) + RUNTIME_BYTES > 1e6 * limit_mb:
        told = ", ".join(f"{name} {n / 1e6:.1f} million" for name, n in counts.items())
        raise TooLarge(
            f"pipe: is too large for a page of at most {limit_mb:g} MB; weights: {told}. "
            "The pocket model has 8.5 million."
        )


def _check_total(files: Mapping[str, bytes], limit_mb: float) -> None:
    total = sum(map(len, files.values())) + RUNTIME_BYTES
    if total > 1e6 * limit_mb:
        largest = sorted(files, key=lambda name: -len(files[name]))[:5]
        told = ", ".join(f"{name} {len(files[name]) / 1e6:.1f}" for name in largest)
        raise TooLarge(
            f"pipe: the page would load {total / 1e6:.1f} MB, allowed are {limit_mb:g}; of this "
            f"the runtime takes {RUNTIME_BYTES / 1e6:.1f} and {told}."
        )


def _write(path: Path, content: bytes) -> None:
    with written_whole(path) as aside:
        aside.write_bytes(content)
