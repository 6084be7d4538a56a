"""Scenes of the pocket world, drawn on the spot."""

from __future__ import annotations

import torch

from cdlib.checks import one_of
from cdlib.datasets.examples import Dataset, Example, to_tensor
from cdlib.world import CONCEPTS, Scene, render_scene
from cdlib.world.radiograph import FINDINGS

# The pocket world has no end; this is how much of it a split is when no limit is given.
POCKET_SIZES = {"train": 1000, "val": 100, "test": 200}


def load_pocket(concept: str, split: str, n: int, size: int, difficulty: float) -> Dataset:
    one_of("concept", concept, [*CONCEPTS, *FINDINGS])
    domain = "radiograph" if concept in FINDINGS else "everyday"
    scenes = (
        render_scene(split, i, size, domain=domain, concept=concept, difficulty=difficulty)
        for i in range(n)
    )
    return Dataset([_from_scene(scene, concept) for scene in scenes], concept, split)


def _from_scene(scene: Scene, concept: str) -> Example:
    return Example(
        image=to_tensor(scene.image),
        mask=torch.from_numpy(scene.mask_of(concept)),
        boxes=tuple(tuple(thing.box) for thing in scene.objects if thing.name == concept),
        name=f"{concept}-{scene.split}-{scene.index:05d}",
        split=scene.split,
        plate=to_tensor(scene.plate),
    )
