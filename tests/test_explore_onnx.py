"""The model in the page: what is exported, and that the page's model is cdlib's."""

from __future__ import annotations

import copy
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import pocket_shaped, sd_shaped

import cdlib
from cdlib.explore.checking import open_part
from cdlib.explore.graphs import PARTS, latent_grid, pipeline_parts
from cdlib.explore.onnx import RUNTIME_BYTES, export_model
from cdlib.explore.packing import difference, from_halves, is_half, pack, to_halves, unpack
from cdlib.models import ddim_timesteps, latent_factor, per_image_noise

ROOT = Path(__file__).resolve().parents[1]
NODE = Path(sys.executable).with_name("node")
RUN = {"t0": 8, "steps": 10, "seed": 3}
REMOVAL = {"steps": 4, "scheduler": "DDIMScheduler", "dilate": 1, "surroundings": "noised",
           "resample": 2, "guidance": -1.0, "y_f": "a photo of a bird"}  # fmt: skip
PROMPTS = [
    "", "bird", "a photo of a red bird on the grass", "  A  Photo\nof A BIRD,  and a dog! ",
    "birds", "zebra crossing", "snow's 3 birds (two dogs)", "déjà vu ñandú", "<|endoftext|> bird",
    "a_b 12 'll", "a photo of a polar bear", " ".join(["bird"] * 30), "日本 bird", "final report.",
]  # fmt: skip


def _tuned(pipe, draw):
    """A pipeline whose U-Net is near the given one's, in weights that float16 holds."""
    unet = copy.deepcopy(pipe.unet)
    for parameter in unet.parameters():
        spread = 0.02 * parameter.abs().mean()
        moved = parameter + spread * torch.randn(parameter.shape, generator=draw)
        parameter.data = moved.half().float()
    return type(pipe)(**{**pipe.components, "unet": unet}, requires_safety_checker=False)


def _rounded(pipe):
    """The pipeline with weights as float16 holds them."""
    parts = {name: copy.deepcopy(getattr(pipe, name)) for name in ("unet", "vae", "text_encoder")}
    for part in parts.values():
        part.half().float()
    rounded = type(pipe)(**{**pipe.components, **parts}, requires_safety_checker=False)
    rounded.set_progress_bar_config(disable=True)
    return rounded


@pytest.fixture(scope="module")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The pocket model and a fine-tuned one, exported with two pictures."""
    pipe = cdlib.load_model("pocket", device="cpu")
    m_prime = _tuned(pipe, torch.Generator().manual_seed(0))
    m_prime.set_progress_bar_config(disable=True)
    data = cdlib.load_dataset("pocket", "bird", "test", limit=2)
    folder = tmp_path_factory.mktemp("pocket")
    manifest = export_model(
        folder, pipe, m_prime, images=data.images, masks=data.masks, plates=data.plates,
        names=data.names, concept="bird", removal=REMOVAL, **RUN,
    )  # fmt: skip
    return {"pipe": pipe, "m_prime": m_prime, "data": data, "folder": folder, "manifest": manifest}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A random model that predicts eps, in float32, attention on two levels, words in pieces."""
    pipe = pocket_shaped("epsilon")
    folder = tmp_path_factory.mktemp("small")
    grid = latent_grid(pipe)
    size = [n * latent_factor(pipe) for n in grid]
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    removal = {"steps": 3, "surroundings": "clean"}
    manifest = export_model(folder, pipe, images=images, removal=removal, **RUN)
    data = type("Data", (), {"images": images})
    rounded = _rounded(pipe)
    return {"pipe": rounded, "exact": pipe, "m_prime": rounded, "data": data,
            "folder": folder, "manifest": manifest}  # fmt: skip


@pytest.fixture(params=["pocket", "small"])
def made(request: pytest.FixtureRequest) -> dict:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("name", PARTS)
def test_parts_answer_as_in_pytorch(made, name):
    part = pipeline_parts(made["pipe"])[name]
    session = open_part(made["folder"], name)
    expected = [answer.numpy() for answer in part.run()]
    for rows in ([0, 1], [0], [1, 0, 1]):
        feeds = {
            key: value.numpy()[rows] for key, value in zip(part.inputs, part.example, strict=True)
        }
        for answer, wanted in zip(session.run(None, feeds), expected, strict=True):
            assert answer.shape == wanted[rows].shape
            scale = max(1.0, np.abs(wanted).max())
            np.testing.assert_allclose(answer / scale, wanted[rows] / scale, atol=1e-4, rtol=0)


def test_modules_are_the_pipelines_own(made):
    """What is exported answers as cdlib's own way through the pipeline does."""
    pipe, parts = made["pipe"], pipeline_parts(made["pipe"])
    ids, (images,), (latents,) = (parts[name].example for name in ("text", "encoder", "decoder"))
    sample, t, y = parts["unet"].example
    every = list(range(pipe.tokenizer.model_max_length))
    with torch.no_grad(), cdlib.capture_attention(pipe, positions=every) as capture:
        prediction = pipe.unet(sample, t, encoder_hidden_states=y).sample
        posterior = pipe.vae.encode(images * 2 - 1).latent_dist
    shown = parts["unet"].run()
    scaling = pipe.vae.config.scaling_factor
    for answer, wanted, within in (
        (shown[0], prediction, 1e-4),
        (shown[1], capture.maps, 1e-5),
        (parts["text"].run()[0], pipe.text_encoder(*ids)[0], 1e-4),
        (parts["encoder"].run()[0], posterior.mean * scaling, 1e-4),
        (parts["encoder"].run()[1], posterior.std * scaling, 1e-4),
        (parts["decoder"].run()[0], cdlib.models.decode_latents(pipe, latents), 1e-4),
    ):
        torch.testing.assert_close(answer, wanted, atol=within, rtol=1e-4)


def test_fine_tuned_weights_come_back_bit_for_bit(pocket):
    read = {
        name: unpack((pocket["folder"] / f"{name}.bin.gz").read_bytes())
        for name in ("unet", "m_prime")
    }
    after = read["unet"] + read["m_prime"]
    order = _order(pocket["folder"] / "unet.onnx.gz")
    for halves, pipe in ((read["unet"], pocket["pipe"]), (after, pocket["m_prime"])):
        weights = pipeline_parts(pipe)["unet"].weights
        wanted = np.concatenate([weights[name].reshape(-1) for name in order])
        assert np.array_equal(from_halves(halves).view(np.uint32), wanted.view(np.uint32))


def _order(graph: Path) -> list[str]:
    import onnx

    proto = onnx.load_from_string(gzip.decompress(graph.read_bytes()))
    outside = [one for one in proto.graph.initializer if one.external_data]
    return [one.name for one in outside]


def test_all_fits_a_page_and_the_manifest_says_how_large_it_is(pocket):
    folder, manifest = pocket["folder"], pocket["manifest"]
    assert json.loads((folder / "model.json").read_text()) == manifest
    total = RUNTIME_BYTES + sum(file.stat().st_size for file in folder.rglob("*.*"))
    assert total <= 30e6
    for part in manifest["parts"].values():
        assert part["rounding"] is None  # the shipped weights are float16's own
        for told in (part["weights"], part.get("graph")):
            assert told is None or (folder / told["file"]).stat().st_size == told["bytes"]


def test_pictures_are_the_images(pocket):
    for i, entry in enumerate(pocket["manifest"]["pictures"]):
        image = np.asarray(Image.open(pocket["folder"] / entry["image"])) / 255
        np.testing.assert_allclose(
            image, pocket["data"].images[i].movedim(0, -1), atol=0.5 / 255 + 1e-6
        )
        mask = np.asarray(Image.open(pocket["folder"] / entry["mask"])) > 127
        assert np.array_equal(mask, pocket["data"].masks[i])
        assert entry["name"] == pocket["data"].names[i]


def test_rounding_is_told_and_measured(small):
    told = small["manifest"]["parts"]["unet"]["rounding"]
    exact, rounded = (pipeline_parts(small[key])["unet"] for key in ("exact", "pipe"))
    changes = [np.abs(rounded.weights[key] - value).max() for key, value in exact.weights.items()]
    assert told["largest_change"] == pytest.approx(float(max(changes)))
    assert 0 < told["weights"] <= small["manifest"]["parts"]["unet"]["values"]
    answers = zip(exact.run(), rounded.run(), strict=True)
    largest = max(float((a - b).abs().max()) for a, b in answers)
    assert told["largest_change_of_output"] == pytest.approx(largest, rel=1e-2)


def test_the_same_model_gives_the_same_bytes(small, tmp_path):
    export_model(
        tmp_path, small["exact"], images=small["data"].images,
        removal={"steps": 3, "surroundings": "clean"}, **RUN,
    )  # fmt: skip
    for file in tmp_path.rglob("*.*"):
        assert file.read_bytes() == (small["folder"] / file.relative_to(tmp_path)).read_bytes()


def test_a_model_too_large_for_a_page_is_refused(small, tmp_path):
    with pytest.raises(ValueError, match=r"at most 3\.91 MB; weights: .*U-Net 0\.\d million"):
        export_model(tmp_path, small["exact"], limit_mb=3.91)
    with pytest.raises(ValueError, match=r"would load .* allowed are 4\.3.*unet\.bin\.gz"):
        export_model(tmp_path, small["exact"], limit_mb=4.3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rule": "otzu"}, "Did you mean 'otsu'"),
        ({"t0": 60}, "t0=60"),
        ({"images": torch.rand(1, 3, 32, 32)}, r"images: must be \(1, 3, 64, 64\)"),
        ({"masks": torch.zeros(1, 64, 64, dtype=torch.bool)}, "masks: belongs to images"),
        ({"images": torch.rand(1, 3, 64, 64), "names": ["a", "b"]}, "names: 2 given for 1"),
        ({"images": torch.rand(1, 3, 64, 64), "masks": torch.zeros(1, 64, 64)}, "must be bool"),
        ({"m_prime": "sd"}, "m_prime: weights differ from those of the graph"),
    ],
)
def test_wrong_arguments_are_named(small, tmp_path, wrong, message):
    if wrong.get("m_prime"):
        wrong = {"m_prime": sd_shaped()}
    with pytest.raises(ValueError, match=message):
        export_model(tmp_path, small["exact"], **wrong)


def test_packing_loses_nothing():
    every = np.arange(2**16, dtype=np.uint16)
    assert np.array_equal(unpack(pack(every)), every)
    base = np.roll(every, 12345)
    assert np.array_equal(difference(every, base) + base, every)
    values = np.array([0.0, -0.0, 1.5, 65504.0, 6e-8], np.float32)
    assert np.array_equal(from_halves(to_halves(values)), values.astype(np.float16))
    assert is_half(np.array([0.5, -2.0], np.float32)) and not is_half(np.array([0.1], np.float32))
    with pytest.raises(ValueError, match="range of float16"):
        to_halves(np.array([70000.0], np.float32))
    with pytest.raises(ValueError, match="the base has"):
        difference(every, every[:5])


def test_the_page_draws_looks_and_removes_as_cdlib_does(made, tmp_path):
    fixture = {
        "folder": str(made["folder"]),
        "tokens": _tokens(made["pipe"]),
        "draw": _drawn(made["pipe"]),
        "look": _looked(made["pipe"], made["data"].images[:1]),
        "remove": [_removed(made, name) for name in made_models(made)],
    }
    (tmp_path / "fixture.json").write_text(json.dumps(fixture))
    done = subprocess.run(
        [NODE, "--test", "--test-reporter=tap", "test/model.test.js"],
        cwd=ROOT / "web",
        env={**os.environ, "MODEL_FIXTURE": str(tmp_path / "fixture.json")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# skipped 0" in done.stdout


def made_models(made: dict) -> list[str]:
    return ["m", "m_prime"] if "m_prime" in made["manifest"]["parts"] else ["m"]


def _tokens(pipe) -> list[dict]:
    """Prompts with their ids, and the places of their words where cdlib finds them."""
    letters = np.random.default_rng(0)
    known = ["bird", "grass", "a", "photo", "of", "bir", "ird", "reds", "1", "'s", "-", "x"]
    drawn = [" ".join(letters.choice(known, 6)) for _ in range(40)]
    said = []
    for prompt in [*PROMPTS, *drawn]:
        ids = pipe.tokenizer(
            prompt,
            padding="max_length",
            truncation=True,
            max_length=pipe.tokenizer.model_max_length,
        ).input_ids
        uncut = pipe.tokenizer(prompt, verbose=False, truncation=False, padding=False).input_ids
        places = cdlib.models.find_word(pipe, uncut, "bird")
        said.append({"prompt": prompt, "ids": ids, "count": len(uncut), "bird": places})
    return said


def _noise(pipe, seed: int, *uses: str) -> dict[str, list[float]]:
    shape = (pipe.unet.config.in_channels, *latent_grid(pipe))
    return {use: per_image_noise(shape, [seed], use).flatten().tolist() for use in uses}


def _drawn(pipe) -> dict:
    """A picture by diffusers' own pipeline, and the attention of two of its words."""
    prompt, words = "a photo of a red bird on the grass", ["bird", "grass"]
    noise = _noise(pipe, 5, "start")
    latents = torch.tensor(noise["start"]).reshape(1, -1, *latent_grid(pipe))
    with cdlib.capture_attention(pipe, words, prompt=prompt, guided=True) as capture:
        drawn = pipe(
            prompt, latents=latents, num_inference_steps=6, guidance_scale=4.0, output_type="np"
        )
    maps = {word: capture.maps[0, k].flatten().tolist() for k, word in enumerate(words)}
    image = drawn.images[0].flatten().tolist()
    asked = {"prompt": prompt, "steps": 6, "guidance": 4.0}
    return {"asked": asked, "noise": noise, "image": image, "maps": maps}


def _looked(pipe, images: torch.Tensor) -> dict:
    """M_hat over the run's timesteps, and over three of them."""
    prompt, word = "a photo of a bird", "bird"
    grid = sorted(ddim_timesteps(pipe, RUN["steps"]))[: RUN["t0"]]
    few = [grid[1], grid[4], grid[6]]
    maps = {
        len(chosen): cdlib.concept_attention(
            pipe, images, prompt, word, timesteps=chosen, seed=[RUN["seed"]]
        ).flatten().tolist()
        for chosen in (grid, few)
    }  # fmt: skip
    noise = _noise(pipe, RUN["seed"], "encode", *(f"forward t={t} draw=0" for t in grid))
    image = images[0].movedim(0, -1).flatten().tolist()
    return {"prompt": prompt, "word": word, "image": image, "noise": noise, "maps": maps}


def _removed(made: dict, model: str) -> dict:
    """A removal by m or m' with the run's settings."""
    pipe = made["pipe"] if model == "m" else made["m_prime"]
    removal = {"guidance": 0.0, "dilate": 1, **made["manifest"]["run"]["removal"]}
    images = made["data"].images[:1]
    mask = torch.zeros(1, *latent_grid(pipe), dtype=torch.bool)
    mask[0, 5:11, 4:9] = True
    how = {key: value for key, value in removal.items() if key not in ("scheduler", "y_f")}
    y_f = made["manifest"]["run"]["y_f"]
    image = cdlib.remove(pipe, images, mask, y_f=y_f, seed=[7], **how)
    uses = [
        f"{kind} step={i}" + (f" take={take}" if take else "")
        for i in range(how["steps"])
        for take in range(how["resample"])
        for kind in ("known", "back")
    ]
    return {
        "asked": {**how, "model": model, "y_f": y_f, "y_b": "a photo of a background"},
        "mask": mask.flatten().int().tolist(),
        "picture": images[0].movedim(0, -1).flatten().tolist(),
        "noise": _noise(pipe, 7, "start", "encode", *uses),
        "image": image[0].movedim(0, -1).flatten().tolist(),
    }
