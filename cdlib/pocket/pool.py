"""The training pool: scenes of the world's "train" split, rendered once and kept in memory.

Three parts, in this order: everyday scenes (the paper's four concepts drawn twice as often as the
other four), empty places, radiographs. A part's captions are drawn anew at every step.

Every other everyday scene is asked for two objects. Only where two are in one picture must the
model find out which word is which: with few such scenes, or with captions that always name both,
"bird" lights up on the car beside the bird as well.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..files import written_whole
from ..store import code_hash
from ..world import CONCEPTS, PAPER_CONCEPTS, Scene, describe, render_scene

EMPTY = 0.10  # share of captions left empty, for guidance
BARE = 0.15  # share of captions without "a photo of"
ONE = 0.15  # share of captions that name one object where there are more
ROTA = (*CONCEPTS, *PAPER_CONCEPTS)


@dataclass
class Pool:
    """`images` (N, 3, size, size) uint8 and, for each, what a caption may speak of."""

    images: torch.Tensor
    facts: list[dict]
    name: str = ""  # tells pools of different scenes apart

    def captions(self, indices, rng: np.random.Generator) -> list[str]:
        """One freshly drawn caption for each of `indices`."""
        return [draw_caption(self.facts[int(k)], rng) for k in indices]


def draw_caption(facts: dict, rng: np.random.Generator) -> str:
    """A training caption; "" with odds `EMPTY`, so that guidance has something to push off from."""
    if rng.random() < EMPTY:
        return ""
    if "caption" in facts:
        return facts["caption"]
    objects = [tuple(pair) for pair in facts["objects"]]
    if len(objects) > 1 and rng.random() < ONE:
        objects = [objects[rng.integers(len(objects))]]
    text = describe(rng, objects, facts["place"])
    return text.removeprefix("a photo of ") if rng.random() < BARE else text


def training_scene(index: int, size: int = 64) -> Scene:
    """Everyday scene `index` of the pool."""
    turn, seat = divmod(index, len(ROTA))
    pair = 2 if turn % 2 else None
    return render_scene("train", index, size, concept=ROTA[seat], objects=pair)


def _render(job: tuple[str, int, int]) -> tuple[np.ndarray, dict]:
    kind, index, size = job
    if kind == "radiograph":
        scene = render_scene("train", index, size, domain="radiograph")
        return scene.image, {"caption": scene.caption}
    scene = training_scene(index, size)
    if kind == "place":
        return scene.plate, {"objects": [], "place": scene.background}
    objects = [(thing.name, thing.colour) for thing in scene.objects]
    return scene.image, {"objects": objects, "place": scene.background}


def build_pool(
    folder: Path, size: int = 64, everyday: int = 24_000, places: int = 2_400,
    radiographs: int = 2_400, workers: int = 1,
) -> Pool:  # fmt: skip
    """The pool, read from `folder` if it was rendered before with the same numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn_by = code_hash([_render])  # a change to the world calls for a new pool
    stem = f"pool-{size}-{everyday}-{places}-{radiographs}-{drawn_by}"
    pixels, facts = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    if not facts.exists():
        jobs = [("everyday", k, size) for k in range(everyday)]
        jobs += [("place", everyday + k, size) for k in range(places)]
        jobs += [("radiograph", k, size) for k in range(radiographs)]
        with ProcessPoolExecutor(workers) as executor:
            images, told = zip(*executor.map(_render, jobs, chunksize=200), strict=True)
        stack = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        save_file({"images": stack}, pixels)
        with written_whole(facts) as aside:  # last: a pool is whole once its facts are there
            aside.write_text(json.dumps(told))
    return Pool(load_file(pixels)["images"], json.loads(facts.read_text()), stem)
