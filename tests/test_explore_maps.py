"""The mask explorer: what Python writes for it, and that its maths is cdlib's."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cdlib
from cdlib.explore.maps import write_maps
from cdlib.masks import majority_filter, preliminary_mask, refine, thresholds, upsample_mask
from cdlib.metrics import confusion, per_image_scores
from cdlib.store import Store

ROOT = Path(__file__).resolve().parents[1]
RULES = ("gmm", "posterior", "otsu", "percentile")
PROMPT = "a photo of a bird"
WORDS = {"bird": PROMPT, "photo": PROMPT, "background": "a photo of a background"}
RUN = {"t0": 10, "steps": 50, "seed": 3}  # bins of 3, 3, 2 and 2 timesteps, so their weights matter


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A folder for the page of three of four scenes, and what it was made of."""
    pipe = cdlib.load_model("pocket")
    m_prime = cdlib.load_model("pocket")
    for name, weight in m_prime.unet.named_parameters():
        if "attn2.to_q" in name:  # as if fine-tuned: other maps
            weight.data.mul_(0.5)
    data = cdlib.load_dataset("pocket", "bird", "test", limit=4)
    m_hat = cdlib.concept_attention(pipe, data.images, PROMPT, "bird", **RUN)
    m_pre = preliminary_mask(m_hat, seed=RUN["seed"])
    removed = torch.stack([example.plate for example in data])
    stages = {
        "m_pre": m_pre,
        "removed": removed,
        "m_refined": refine(data.images, removed, m_pre),
        "predicted": data.masks.float() * 0.7,
    }
    folder = tmp_path_factory.mktemp("fixtures") / "maps"
    which = [3, 0, 2]
    store = Store(tmp_path_factory.mktemp("store"))
    how = {"which": which, "bins": 4, "m_prime": m_prime, "store": store, **RUN}
    index = write_maps(folder, pipe, data, WORDS, **stages, **how)
    values = np.fromfile(folder / "maps.bin", "<f2").astype(float)
    maps = values.reshape(3, 2 * len(WORDS), len(index["layers"]), 4, *index["grid"])
    return {"folder": folder, "pipe": pipe, "data": data, "stages": stages, "which": which,
            "index": index, "maps": maps, "m_hat": m_hat}  # fmt: skip


def test_the_mean_of_the_maps_is_the_runs_m_hat(written):
    counts = [one["count"] for one in written["index"]["bins"]]
    assert counts == [3, 3, 2, 2]
    mean = np.average(written["maps"][:, 0].mean(1), axis=1, weights=counts)
    expected = written["m_hat"][written["which"]].numpy()
    np.testing.assert_allclose(mean, expected, rtol=1e-3)


def test_the_fine_tuned_model_has_maps_of_its_own(written):
    of_m, of_m_prime = written["maps"][:, :3], written["maps"][:, 3:]
    assert (of_m != of_m_prime).any((0, 2, 3, 4, 5)).all()


def test_the_index_says_what_the_page_needs(written):
    index = json.loads((written["folder"] / "index.json").read_text())
    assert index == written["index"]
    assert index["stages"] == ["m_pre", "m_refined", "predicted", "truth"]
    assert [(one["model"], one["word"]) for one in index["words"]] == [
        (model, word) for model in ("m", "m_prime") for word in WORDS
    ]
    assert [one["name"] for one in index["images"]] == [
        written["data"].names[row] for row in written["which"]
    ]
    assert [(one["first"], one["last"]) for one in index["bins"]] == [
        (1, 41), (61, 101), (121, 141), (161, 181)
    ]  # fmt: skip
    scores = per_image_scores(written["stages"]["m_refined"], written["data"].masks)["iou"]
    for entry, row in zip(index["images"], written["which"], strict=True):
        assert entry["iou"]["m_refined"] == scores[row]
        assert entry["iou"]["predicted"] == 1


def test_pictures_are_pngs_of_the_images(written):
    for entry, row in zip(written["index"]["images"], written["which"], strict=True):
        for name, source in (("image", written["data"].images), ("removed", None)):
            expected = (written["stages"]["removed"] if source is None else source)[row]
            found = np.asarray(Image.open(written["folder"] / entry[name]))
            np.testing.assert_array_equal(found, (expected.movedim(0, 2) * 255).round().numpy())
        assert np.asarray(Image.open(written["folder"] / entry["difference"])).max() == 255


def test_a_dozen_images_fit_into_two_megabytes(written):
    size = sum(file.stat().st_size for file in written["folder"].iterdir())
    grids = 2 * written["maps"][0].size * 10 / 4  # bytes an image with the usual ten bins
    others = (size - 2 * written["maps"].size) / 3
    assert 12 * (grids + others) < 2_000_000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"words": {}}, "words="),
        ({"words": {"cat": PROMPT}}, "cat"),
        ({"which": [4]}, "which=4"),
        ({"which": []}, "which"),
        ({"rule": "otzu"}, "Did you mean 'otsu'"),
        ({"bins": 0}, "bins=0"),
        ({"m_pre": torch.zeros(3, 16, 16, dtype=torch.bool)}, "m_pre: expected"),
        ({"m_refined": torch.zeros(4, 64, 64)}, "m_refined: expected"),
        ({"removed": torch.zeros(4, 3, 32, 32)}, "removed: expected"),
    ],
)
def test_what_does_not_fit_is_refused(written, tmp_path, change, says):
    store = Store(tmp_path / "store")
    given = {"words": WORDS, **written["stages"], **RUN, "store": store, **change}
    with pytest.raises(ValueError, match=says):
        write_maps(tmp_path / "maps", written["pipe"], written["data"], **given)
    assert not (tmp_path / "maps").exists()


def test_the_pages_maths_is_that_of_cdlib(written):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node on this machine")
    folder = written["folder"].parent
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    with np.errstate(invalid="ignore"):
        every.astype("<f4").tofile(folder / "halves.bin")
    write_json(folder / "cases.json", [case(*one) for one in maps_of_all_kinds()])
    write_json(folder / "expected.json", list(evaluations(written)))
    run = subprocess.run(
        [node, "--test", "--test-reporter=tap", str(ROOT / "web/test/maths.test.js")],
        env={**os.environ, "CDLIB_FIXTURES": str(folder)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stdout[-6000:]
    assert "# skipped 0" in run.stdout and "all cases agree" in run.stdout


def maps_of_all_kinds():
    """(kind, map, seed) of maps that are like real ones, and of some that no model makes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16] / 15
    for seed in range(25):
        cx, cy, r = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.3)
        glow = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / r**2)
        noise = rng.normal(size=(16, 16))
        kinds = {
            "glowing": 0.01 + 0.03 * glow + 0.002 * noise,
            "bimodal": np.where(glow > 0.5, 0.5, 0.1) + 0.05 * noise,
            "unimodal": 0.2 + 0.01 * noise,
            "uniform": rng.uniform(size=(16, 16)),
            "heavy-tailed": rng.standard_cauchy((16, 16)),
            "lognormal": np.exp(noise),
            "tied": rng.integers(0, 4, (16, 16)).astype(float),
            "binary": (glow > 0.5).astype(float),
            "a spike": np.where(glow == glow.max(), 1.0, 0.0),
            "large": 0.1 + glow.repeat(2, 0).repeat(2, 1)[:30] + 0.3 * rng.normal(size=(30, 32)),
            "tiny": rng.normal(size=(3, 2)),
        }
        yield from ((kind, values, seed % 4) for kind, values in kinds.items())
    yield from (("constant", np.full((8, 8), value), 0) for value in (0.0, 0.25, -3.0))


def case(kind: str, values: np.ndarray, seed: int) -> dict:
    """A map as float16 would carry it, and what cdlib says of it by each rule."""
    rounded = torch.from_numpy(values.astype(np.float16).astype(np.float64))
    height, width = rounded.shape
    size = (4 * height, 4 * width)
    percentile = [80.0, 50.0, 12.5, 99.9][seed]
    truth = torch.from_numpy(np.random.default_rng(seed).random(size) < 0.3)
    how = {"percentile": percentile, "seed": seed}
    rules = {}
    for rule in RULES:
        cut = thresholds(rounded, rule, **how)
        raw = preliminary_mask(rounded, rule, **how, majority=False)
        mask = majority_filter(raw)
        rules[rule] = {
            "threshold": cut.threshold.item(),
            **({} if cut.means is None else modes(cut)),
            "raw": raw.flatten().int().tolist(),
            "mask": mask.flatten().int().tolist(),
            **scores(upsample_mask(mask, size), truth),
        }
    return {
        "kind": kind, "map": rounded.flatten().tolist(), "height": height, "width": width,
        "size": size, "seed": seed, "percentile": percentile, "rules": rules,
        "truth": truth.flatten().int().tolist(),
    }  # fmt: skip


def modes(cut) -> dict:
    return {name: getattr(cut, name)[0].tolist() for name in ("means", "variances", "weights")}


def scores(mask: torch.Tensor, truth: torch.Tensor) -> dict:
    """IoU as cdlib has it; precision and recall from its counts, None where they do not exist."""
    hits, extra, missed, _ = confusion(mask[None], truth[None])[0].tolist()
    return {
        "iou": float(per_image_scores(mask[None], truth[None])["iou"][0]),
        "precision": hits / (hits + extra) if hits + extra else None,
        "recall": hits / (hits + missed) if hits + missed else None,
    }


def evaluations(written: dict):
    """Settings of the page and what cdlib makes of the float16 maps under them."""
    maps, counts = written["maps"], [one["count"] for one in written["index"]["bins"]]
    truth = written["data"].masks[written["which"]]
    changes = [{"image": k} for k in range(3)] + [
        {"word": 1}, {"word": 2, "image": 1}, {"word": 5}, {"first": 3}, {"last": 0},
        {"first": 1, "last": 2}, {"layers": [0]}, {"majority": False},
        {"layers": [2, 1], "first": 2, "image": 2},
        *({"rule": rule, "image": k} for rule in RULES for k in range(3)),
        {"rule": "percentile", "percentile": 50},
    ]  # fmt: skip
    for change in changes:
        layers = change.get("layers", range(maps.shape[2]))
        chosen = slice(change.get("first", 0), change.get("last", 3) + 1)
        image, word = change.get("image", 0), change.get("word", 0)
        picked = maps[image, word][list(layers)][:, chosen].mean(0)
        mean = torch.from_numpy(np.average(picked, axis=0, weights=counts[chosen]))
        rule, percentile = change.get("rule", "gmm"), change.get("percentile", 80)
        how = {"rule": rule, "percentile": percentile, "seed": RUN["seed"]}
        mask = preliminary_mask(mean, **how, majority=change.get("majority", True))
        yield {
            "change": change,
            "threshold": thresholds(mean, **how).threshold.item(),
            "mask": mask.flatten().int().tolist(),
            "iou": scores(upsample_mask(mask, tuple(truth.shape[1:])), truth[image])["iou"],
        }


def write_json(path: Path, content: list[dict]) -> None:
    """Infinities, of which JSON knows nothing, go as strings."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        if isinstance(value, float) and math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return value

    path.write_text(json.dumps(plain(content), allow_nan=False), encoding="utf-8")
