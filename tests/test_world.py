"""The pocket world: one scene for one set of arguments, and ground truth that is true.

python -m tests.test_world prints the hashes below anew, for when the drawing is changed on purpose.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.ndimage import distance_transform_edt
from skimage.filters import threshold_otsu

from cdlib.world import (
    BACKGROUNDS,
    COLOURS,
    CONCEPTS,
    PAPER_CONCEPTS,
    SPLITS,
    Scene,
    radiograph,
    render_scene,
)
from cdlib.world.backgrounds import PLACES

PICKED = {
    "one": dict(split="test", index=0),
    "bird": dict(split="test", index=7, concept="bird"),
    "hidden": dict(split="train", index=12, difficulty=1.0),
    "several": dict(split="val", index=57, concept="cat"),
    "large": dict(split="test", index=11, size=256, difficulty=0.0),
    "mass": dict(split="test", index=1, domain="radiograph", concept="mass"),
    "effusion, large": dict(
        split="test", index=2, size=256, domain="radiograph", concept="effusion"
    ),
}
# SHA-256 of pixels, masks and words. Floats are rounded to bytes, so a last bit that differs
# between machines would have to sit on a rounding edge (odds of about 1e-9 an image) to show.
GOLDEN: dict[str, str] = {
    "one": "60b9cb21e38e21d8150749c658f4f362",
    "bird": "5d5a51692d825ebcbc5bf742095e787e",
    "hidden": "a1b1b7afa85b615f05a612e42aed8ab2",
    "several": "f0d582e174e43613fd3416457c3a10bc",
    "large": "ce6def94230845dc8b9d5ee2ae4cb845",
    "mass": "cfa1ae939ca6735cb951d5cca1f2381b",
    "effusion, large": "9aede5d3253b09f6138bc0a21ceff1e0",
}


def fingerprint(scene: Scene) -> str:
    """What is drawn and what is said about it, as one hash."""
    told = [(thing.name, thing.colour, tuple(thing.box)) for thing in scene.objects]
    digest = hashlib.sha256(json.dumps([scene.caption, scene.background, told]).encode())
    for pixels in (scene.image, scene.plate, *(thing.mask for thing in scene.objects)):
        digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()[:32]


def fingerprints() -> dict[str, str]:
    return {name: fingerprint(render_scene(**how)) for name, how in PICKED.items()}


def everything(scene: Scene) -> np.ndarray:
    """(H, W) bool: where any object can be seen."""
    return np.logical_or.reduce([thing.mask for thing in scene.objects])


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def shrink(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of `factor` x `factor` pixels."""
    h, w = (n // factor for n in pixels.shape[:2])
    return pixels.reshape(h, factor, w, factor, *pixels.shape[2:]).astype(float).mean((1, 3))


@pytest.fixture(scope="module")
def survey() -> dict[str, list[Scene]]:
    """300 test scenes for each concept."""
    return {c: [render_scene("test", k, concept=c) for k in range(300)] for c in CONCEPTS}


# A pure function


def test_scenes_are_the_ones_on_record():
    assert fingerprints() == GOLDEN


@pytest.mark.parametrize(
    "machine",
    [
        {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "7"},
        {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL", "OPENBLAS_CORETYPE": "Nehalem"},
    ],
    ids=["two threads", "an old processor"],
)
def test_scenes_are_the_same_in_another_process(machine):
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONWARNINGS": "ignore", **machine}
    run = subprocess.run(
        [sys.executable, "-m", "tests.test_world"],
        cwd=root, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(run.stdout) == GOLDEN


def test_neither_order_nor_global_randomness_matters():
    np.random.seed(1)
    first = fingerprints()
    np.random.seed(2)
    state = np.random.get_state()[1].copy()
    backwards = {name: fingerprint(render_scene(**PICKED[name])) for name in reversed(PICKED)}
    assert backwards == first
    assert (np.random.get_state()[1] == state).all()


def test_a_returned_scene_can_be_written_on():
    scene = render_scene("test", 0)
    before = fingerprint(scene)
    scene.image[:], scene.plate[:] = 0, 0
    assert fingerprint(render_scene("test", 0)) == before


def test_splits_indexes_concepts_and_domains_differ():
    scenes = [render_scene(split, k) for split in SPLITS for k in range(40)]
    scenes += [render_scene("test", k, concept=c) for c in CONCEPTS for k in (0, 1)]
    scenes += [render_scene(split, k, domain="radiograph") for split in SPLITS for k in (0, 1)]
    assert len({scene.image.tobytes() for scene in scenes}) == len(scenes)


# The same scene at any size


def test_large_and_small_are_the_same_scene():
    quality, agreement = [], []
    for k in range(40):
        small, large = (render_scene("val", k, size, difficulty=0.0) for size in (64, 256))
        assert (small.caption, small.background) == (large.caption, large.background)
        assert [t.colour for t in small.objects] == [t.colour for t in large.objects]
        error = np.mean((shrink(large.image, 4) - small.image) ** 2)
        quality.append(10 * np.log10(255**2 / error))
        for a, b in zip(small.objects, large.objects, strict=True):
            assert a.name == b.name
            agreement.append(overlap(a.mask, shrink(b.mask, 4) > 0.5))
    assert min(quality) > 24 and np.median(quality) > 30
    assert min(agreement) > 0.85 and np.median(agreement) > 0.95


def test_camouflage_picks_the_same_colour_at_any_size():
    for k in range(12):
        small, large = (render_scene("test", k, size, difficulty=1.0) for size in (64, 256))
        assert [t.colour for t in small.objects] == [t.colour for t in large.objects]


def test_radiographs_are_the_same_at_any_size():
    for k in range(10):
        small, large = (render_scene("val", k, size, domain="radiograph") for size in (64, 256))
        assert small.caption == large.caption
        assert np.mean((shrink(large.image, 4) - small.image) ** 2) < 255**2 / 10**3
        for a, b in zip(small.objects, large.objects, strict=True):
            assert overlap(a.mask, shrink(b.mask, 4) > 0.5) > 0.85


# Ground truth


def check_ground_truth(scene: Scene) -> None:
    """What must hold of any scene: shapes, disjoint masks, tight boxes, a caption that is true."""
    shape = (scene.size, scene.size)
    for picture in (scene.image, scene.plate):
        assert picture.shape == (*shape, 3) and picture.dtype == np.uint8
        assert picture.flags.c_contiguous
    for thing in scene.objects:
        assert thing.mask.shape == shape and thing.mask.dtype == bool
        rows, columns = np.nonzero(thing.mask)
        assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert overlap(scene.mask_of(thing.name), thing.mask) > 0
    if scene.objects:
        assert sum(thing.mask.astype(int) for thing in scene.objects).max() == 1
    else:
        assert (scene.image == scene.plate).all()


def check_caption(scene: Scene) -> None:
    """Every name has the colour it is given, and the place is this scene's."""
    colour_of = {thing.name: thing.colour for thing in scene.objects}
    words = scene.caption.removeprefix("a photo of ").split()
    assert scene.caption.startswith("a photo of ")
    where = PLACES[scene.background][1]
    if any(word in BACKGROUNDS for word in words):
        assert scene.caption.endswith(" " + where)
        words = words[: -len(where.split())]
    named = " ".join(words).removeprefix("a ").split(" and a ")
    assert 1 <= len(named) <= 2 and len(set(named)) == len(named)
    for phrase in named:
        *colour, name = phrase.split()
        assert name in colour_of and colour in ([], [colour_of[name]])


def test_ground_truth_of_the_survey(survey):
    for scenes in survey.values():
        for scene in scenes:
            check_ground_truth(scene)
            check_caption(scene)
            assert 1 <= len(scene.objects) <= 3
            names = [thing.name for thing in scene.objects]
            assert len(set(names)) == len(names)


def test_a_concept_asked_for_is_there_to_be_seen(survey):
    for concept, scenes in survey.items():
        for scene in scenes:
            mask = scene.mask_of(concept)
            assert 80 <= mask.sum() <= 1700, (concept, scene.index)
            change = np.abs(scene.image.astype(int) - scene.plate).sum(2)[mask].mean()
            assert change > 30, (concept, scene.index)  # of 765: even camouflage leaves shading


def test_objects_have_the_colour_of_their_word(survey):
    pixels: dict[str, list] = {colour: [] for colour in COLOURS}
    for concept in ("bird", "dog", "car", "cat", "fish", "balloon"):  # the others wear it in part
        for scene in survey[concept]:
            for thing in scene.objects:
                if thing.name == concept:
                    lit = np.percentile(scene.image[thing.mask], 75, axis=0)  # half lies in shade
                    pixels[thing.colour].append(lit / 255)
    palette = np.array(list(COLOURS.values()))
    for colour, found in pixels.items():
        nearest = np.argmin(np.linalg.norm(palette - np.mean(found, 0), axis=1))
        assert list(COLOURS)[nearest] == colour


def test_image_is_the_plate_but_for_objects_and_their_shadows(survey):
    outside, far = [], []
    for scene in survey["dog"]:
        change = np.abs(scene.image.astype(int) - scene.plate).max(2)
        distance = distance_transform_edt(~everything(scene)) / scene.size
        outside.append((change[distance > 0] > 3).mean())
        far.append(change[distance > 0.30].max(initial=0))
        bare = distance > 0.08  # past an object's rim and its parts thinner than half a pixel
        assert (scene.image[bare] <= scene.plate[bare]).all(), scene.index  # a shadow takes light
    assert np.mean(outside) < 0.12
    assert np.mean(np.array(far) > 3) < 0.06 and max(far) <= 12


def test_concepts_places_and_colours_are_balanced():
    scenes = [render_scene("val", k, 16, difficulty=0.0) for k in range(1200)]
    names = Counter(t.name for s in scenes for t in s.objects)
    colours = Counter(t.colour for s in scenes for t in s.objects)
    places = Counter(s.background for s in scenes)
    for counted, allowed in ((names, CONCEPTS), (colours, COLOURS), (places, BACKGROUNDS)):
        assert set(counted) == set(allowed)
        assert stats.chisquare(list(counted.values())).pvalue > 1e-3
    how_many = Counter(len(s.objects) for s in scenes)
    assert how_many[2] > 0.1 * len(scenes) and how_many[3] > 0.01 * len(scenes)
    assert 0.65 < np.mean([s.caption.split()[-1] in BACKGROUNDS for s in scenes]) < 0.85
    coloured = np.mean([any(word in COLOURS for word in s.caption.split()) for s in scenes])
    assert 0.5 < coloured < 0.7


# Difficulty


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_as_many_objects_as_asked_for(objects):
    counts = np.array(
        [len(render_scene("val", k, 16, concept="dog", objects=objects).objects) for k in range(60)]
    )
    assert counts.max() == objects and (counts == objects).mean() > (0.99, 0.85, 0.5)[objects - 1]


def test_difficulty_brings_objects_nearer_to_what_lies_behind():
    def contrast(difficulty: float) -> float:
        apart = []
        for k in range(150):
            scene = render_scene("test", k, 32, difficulty=difficulty)
            mask = everything(scene)
            apart.append(np.linalg.norm(scene.image[mask].mean(0) - scene.plate[mask].mean(0)))
        return float(np.mean(apart))

    easy, usual, hard = contrast(0.0), contrast(0.4), contrast(1.0)
    assert easy > usual > hard and hard < 0.8 * easy


def test_a_grey_threshold_does_not_solve_it(survey):
    scores = []
    for scene in (s for c in PAPER_CONCEPTS for s in survey[c][:75]):
        grey = scene.image.mean(2)
        above, mask = grey > threshold_otsu(grey), everything(scene)
        scores.append(max(overlap(above, mask), overlap(~above, mask)))  # the better side is told
    assert np.mean(scores) < 0.5


# Radiographs


def test_findings_lie_in_a_lung(monkeypatch):
    fields, anatomy = [], radiograph._anatomy

    def watched(*args):
        density, lungs, centres = anatomy(*args)
        fields.append(np.maximum(*lungs) > 0.5)
        return density, lungs, centres

    monkeypatch.setattr(radiograph, "_anatomy", watched)
    for finding in radiograph.FINDINGS:
        for k in range(100):
            scene = render_scene("test", k, domain="radiograph", concept=finding)
            check_ground_truth(scene)
            mask = scene.mask_of(finding)
            assert scene.caption == f"final report examination chest {finding}"
            assert 25 <= mask.sum() <= 500, (finding, k)
            assert (mask & fields[-1]).sum() > 0.8 * mask.sum(), (finding, k)
            brighter = scene.image.astype(int) - scene.plate
            assert brighter.min() >= 0 and brighter[mask].mean() > 30
            assert (scene.image[..., 0] == scene.image[..., 2]).all()


def test_without_a_finding_there_is_nothing_to_find():
    scenes = [render_scene("val", k, 32, domain="radiograph") for k in range(240)]
    for scene in scenes:
        check_ground_truth(scene)
        assert (scene.caption == "final report examination no finding") == (not scene.objects)
    found = Counter(s.objects[0].name if s.objects else "none" for s in scenes)
    assert set(found) == {"mass", "effusion", "none"}
    assert stats.chisquare(list(found.values())).pvalue > 1e-3


# Any arguments


@settings(max_examples=40, deadline=None)
@given(
    split=st.sampled_from(SPLITS), index=st.integers(0, 2**40), size=st.integers(16, 80),
    concept=st.none() | st.sampled_from(CONCEPTS), difficulty=st.floats(0, 1),
    objects=st.none() | st.integers(1, 3),
)  # fmt: skip
def test_any_scene_has_true_ground_truth(split, index, size, concept, difficulty, objects):
    how = {"concept": concept, "difficulty": difficulty, "objects": objects}
    scene = render_scene(split, index, size, **how)
    check_ground_truth(scene)
    check_caption(scene)
    assert concept is None or scene.mask_of(concept).any()
    again = render_scene(split, np.int64(index), size, **how)
    assert fingerprint(again) == fingerprint(scene)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (dict(split="tets"), r"split='tets'.*train, val, test.*'test'"),
        (dict(concept="brid"), r"concept='brid'.*bird, dog.*'bird'"),
        (dict(concept="mass"), r"concept='mass'"),
        (dict(domain="radiogram"), r"domain='radiogram'.*'radiograph'"),
        (dict(domain="radiograph", concept="masss"), r"concept='masss'.*'mass'"),
        (dict(domain="radiograph", concept="bird"), r"concept='bird'.*mass, effusion"),
        (dict(index=-1), r"index=-1.*at least 0"),
        (dict(index=1.0), r"index=1\.0"),
        (dict(index=True), r"index=True"),
        (dict(size=8), r"size=8.*16 to 2048"),
        (dict(size=64.0), r"size=64\.0"),
        (dict(difficulty=1.5), r"difficulty=1\.5.*between 0 and 1"),
        (dict(difficulty=float("nan")), r"difficulty=nan"),
        (dict(objects=4), r"objects=4.*1 to 3"),
        (dict(domain="radiograph", objects=2), r"objects=2: only everyday scenes take"),
    ],
)
def test_wrong_arguments_are_named(wrong, says):
    with pytest.raises(ValueError, match=says):
        render_scene(**{"split": "test", "index": 0, **wrong})


if __name__ == "__main__":
    print(json.dumps(fingerprints(), indent=4))
