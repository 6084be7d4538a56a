"""The loader, prompts and latents, on tiny random pipelines and on the shipped model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st

from cdlib.models import (
    clean_latents,
    ddim_timesteps,
    decode_latents,
    encode_images,
    encode_prompts,
    image_seeds,
    latent_factor,
    load_model,
    noise_latents,
    per_image_noise,
    predict_eps,
    prompt_tokens,
    token_positions,
)

PIPE = tiny.pocket_shaped()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    PIPE.save_pretrained(path)
    return path


# ------------------------------------------------------------------------------------ loading


def test_a_folder_loads_frozen_and_says_the_same(folder):
    pipe = load_model(folder, device="cpu")
    assert pipe.safety_checker is None
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        assert not part.training
        assert not any(weight.requires_grad for weight in part.parameters())
    z, y = torch.randn(2, 4, 16, 16), encode_prompts(PIPE, ["a bird", "a dog"])
    torch.testing.assert_close(
        pipe.unet(z, 21, encode_prompts(pipe, ["a bird", "a dog"])).sample,
        PIPE.unet(z, 21, y).sample,
        atol=1e-5,
        rtol=0,
    )


def test_precision_is_float32_on_the_cpu_unless_asked_for(folder):
    assert load_model(folder, "cpu").unet.dtype == torch.float32
    assert load_model(str(folder), "cpu", "bfloat16").unet.dtype == torch.bfloat16
    assert load_model(folder, "cpu", torch.float16).text_encoder.dtype == torch.float16


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "", 3.5])
def test_a_device_that_is_not_there_is_refused(folder, device):
    with pytest.raises(ValueError, match="device=.*allowed are 'auto', 'cpu'"):
        load_model(folder, device)


@pytest.mark.parametrize("dtype", ["float8", torch.int8, 16])
def test_a_precision_that_is_not_offered_is_refused(folder, dtype):
    with pytest.raises(ValueError, match="dtype=.*float32, float16, bfloat16"):
        load_model(folder, "cpu", dtype)


@pytest.mark.parametrize("source", ["pockett", "no/such/folder", Path("nowhere"), None])
def test_a_source_that_is_nothing_is_refused_with_what_is_allowed(source):
    with pytest.raises(ValueError, match="model=.*'pocket'.*hub id"):
        load_model(source)


def test_a_near_miss_is_told_the_right_name():
    with pytest.raises(ValueError, match="Did you mean 'pocket'"):
        load_model("poket")


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(StableDiffusionPipeline, "load_config", fail)
    with pytest.raises(ValueError, match="model='someone/something'.*reach"):
        load_model("someone/something")


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(ValueError, match="model_index.json"):
        load_model(tmp_path)


def test_another_kind_of_pipeline_is_refused(folder, tmp_path):
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionXLPipeline"
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="is a StableDiffusionXLPipeline"):
        load_model(tmp_path)


def test_an_inpainting_unet_is_refused_with_the_reason(tmp_path):
    tiny.pocket_shaped(in_channels=9).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="takes 9 channels where its latents have 4.*inpainting"):
        load_model(tmp_path)


def test_pickled_weights_are_not_read(tmp_path):
    PIPE.save_pretrained(tmp_path, safe_serialization=False)
    assert list(tmp_path.rglob("*.bin"))
    with pytest.raises(ValueError, match="safetensors"):
        load_model(tmp_path)


def test_the_shipped_model_loads():
    pipe = load_model("pocket", device="cpu")
    assert prompt_tokens(pipe, "a photo of a bird")[5] == "bird"
    assert token_positions(pipe, "a photo of a bird", "bird") == [5]


# ------------------------------------------------------------------------------------ prompts


@pytest.mark.parametrize(
    ("prompt", "word", "positions"),
    [
        ("a photo of a bird", "bird", [5]),
        ("A Photo of a BIRD", "bird", [5]),
        ("a photo of a bird", "A", [1, 4]),
        ("a polar bear in the snow", "polar bear", [2, 3]),
        ("a polar  bear in the snow", "Polar   Bear", [2, 3]),
        ("a bird and a bird", "bird", [2, 5]),
        ("a photo of a bird", "a photo of a bird", [1, 2, 3, 4, 5]),
    ],
)
def test_a_word_is_found_at_its_tokens(prompt, word, positions):
    assert token_positions(PIPE, prompt, word) == positions


def test_a_word_of_several_pieces_gives_all_of_them():
    tokens = prompt_tokens(PIPE, f"a {tiny.SPLIT_WORD}")
    positions = token_positions(PIPE, f"a {tiny.SPLIT_WORD}", tiny.SPLIT_WORD)
    assert len(positions) > 2
    assert "".join(tokens[k] for k in positions) == tiny.SPLIT_WORD


def test_a_part_of_a_word_is_not_the_word():
    # "abird" ends in the very piece that "bird" is.
    with pytest.raises(ValueError, match="word='bird' is not in prompt"):
        token_positions(PIPE, "a photo of abird", "bird")


def test_a_word_that_is_missing_is_answered_with_its_neighbours():
    with pytest.raises(ValueError, match="word='birds' is not in .*Nearest words.*bird"):
        token_positions(PIPE, "a photo of a bird", "birds")


@pytest.mark.parametrize("word", ["", "  ", 5, None])
def test_no_word_is_refused(word):
    with pytest.raises(ValueError, match="word="):
        token_positions(PIPE, "a photo of a bird", word)


def test_a_word_that_the_vocabulary_lacks_is_refused():
    for refuse in (
        lambda: token_positions(PIPE, "a photo of a bird", "é"),
        lambda: encode_prompts(PIPE, "a photo of a é"),
    ):
        with pytest.raises(ValueError, match="'é' is not in this model's vocabulary"):
            refuse()


def test_what_the_model_would_cut_off_is_refused():
    long = "a photo of " + "a " * 13 + "bird"
    with pytest.raises(ValueError, match="beyond the 14 tokens"):
        token_positions(PIPE, long, "bird")
    with pytest.raises(ValueError, match="has 19 tokens; this model reads 16"):
        encode_prompts(PIPE, long)


KNOWN = ["a", "photo", "of", "bird", "dog", "polar", "bear", "snow", tiny.SPLIT_WORD]


@given(st.lists(st.sampled_from(KNOWN), min_size=1, max_size=12), st.sampled_from(KNOWN))
def test_positions_are_those_of_the_words_counted_off(words, word):
    pipe = tiny_long()
    pieces = [pipe.tokenizer(w, add_special_tokens=False).input_ids for w in words]
    expected, position = [], 1
    for w, p in zip(words, pieces, strict=True):
        if w == word:
            expected.extend(range(position, position + len(p)))
        position += len(p)
    if expected:
        assert token_positions(pipe, " ".join(words), word) == expected
    else:
        with pytest.raises(ValueError, match="is not in prompt"):
            token_positions(pipe, " ".join(words), word)


def tiny_long() -> SimpleNamespace:
    """Just a tokenizer that reads long prompts."""
    if not hasattr(tiny_long, "pipe"):
        tiny_long.pipe = SimpleNamespace(tokenizer=tiny.tokenizer(200))
    return tiny_long.pipe


def test_prompts_are_encoded_as_the_pipeline_does():
    prompts = ["a photo of a bird", "", "a dog in the snow"]
    expected = PIPE.encode_prompt(prompts, torch.device("cpu"), 1, False)[0]
    torch.testing.assert_close(encode_prompts(PIPE, prompts), expected)
    assert encode_prompts(PIPE, "a bird").shape == (1, 16, 32)


@pytest.mark.parametrize("prompts", [[], [3], [None]])
def test_prompts_must_be_text(prompts):
    with pytest.raises(ValueError, match="prompts="):
        encode_prompts(PIPE, prompts)


# ------------------------------------------------------------------------------------ latents


def test_an_image_is_encoded_the_same_alone_and_in_company():
    images = torch.rand(5, 3, 32, 32)
    together = encode_images(PIPE, images, [3, 1, 4, 1, 5], batch_size=2)
    assert together.shape == (5, 4, 8, 8)
    alone = torch.cat(
        [encode_images(PIPE, images[i : i + 1], [s]) for i, s in enumerate([3, 1, 4])]
    )
    torch.testing.assert_close(together[:3], alone, atol=1e-5, rtol=0)


def test_the_posterior_is_sampled_and_scaled():
    images = torch.rand(1, 3, 16, 16)
    posterior = PIPE.vae.encode(images * 2 - 1).latent_dist
    scale = PIPE.vae.config.scaling_factor
    mean = encode_images(PIPE, images, [0], sample=False)
    torch.testing.assert_close(mean, posterior.mean * scale)
    draws = torch.cat([encode_images(PIPE, images, [seed]) for seed in range(400)])
    torch.testing.assert_close(draws.std(0), posterior.std[0] * scale, rtol=0.25, atol=0)


def test_decoding_gives_images_of_the_size_that_was_encoded():
    z0 = encode_images(PIPE, torch.rand(3, 3, 32, 64), [0, 1, 2])
    images = decode_latents(PIPE, z0, batch_size=2)
    assert images.shape == (3, 3, 32, 64)
    assert images.min() >= 0 and images.max() <= 1
    expected = PIPE.vae.decode(z0 / PIPE.vae.config.scaling_factor).sample
    torch.testing.assert_close(images, (expected / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 16, 16), r"\(N, 3, H, W\)"),
        (torch.rand(0, 3, 16, 16), "N > 0"),
        (torch.rand(1, 3, 18, 16), "multiples of 4"),
        (torch.rand(1, 3, 16, 16) * 2 - 1, r"lie in \[0, 1\]"),
        (torch.full((1, 3, 16, 16), math.nan), r"lie in \[0, 1\]"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "floating-point"),
        ([[1.0]], "floating-point tensor, not list"),
    ],
)
def test_what_is_not_a_batch_of_images_is_refused(images, message):
    with pytest.raises(ValueError, match=f"images: .*{message}"):
        encode_images(PIPE, images, [0])


def test_latent_factor_is_the_autoencoders():
    assert latent_factor(PIPE) == 4
    assert latent_factor(tiny.sd_shaped()) == 8


# --------------------------------------------------------------------------------------- noise


@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=4),
    st.text(max_size=8),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_noise_belongs_to_the_seed_and_the_use(seeds, stream, shape):
    noise = per_image_noise(shape, seeds, stream)
    assert noise.shape == (len(seeds), *shape) and noise.dtype == torch.float32
    for row, seed in zip(noise, seeds, strict=True):
        assert torch.equal(row, per_image_noise(shape, [seed], stream)[0])


def test_noise_is_standard_normal_and_uses_do_not_share_it():
    one, other = (per_image_noise((20000,), [7], stream)[0] for stream in ("encode", "t=1"))
    assert abs(one.mean()) < 0.03 and abs(one.std() - 1) < 0.03
    assert abs((one * other).mean()) < 0.03


def test_one_seed_becomes_one_for_each_image():
    assert image_seeds(7, 3) == [7000000, 7000001, 7000002]
    assert image_seeds([5, 5], 2) == [5, 5]
    assert image_seeds(torch.tensor([1, 2]), 2) == [1, 2]
    for wrong in (-1, 1.5, [1, 2, 3], [-1, 0]):
        with pytest.raises(ValueError, match="seed"):
            image_seeds(wrong, 2)


def test_noising_is_the_schedulers_and_can_be_undone():
    z0, eps = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    t = torch.tensor([1, 401, 981])
    z_t = noise_latents(PIPE, z0, t, eps)
    torch.testing.assert_close(z_t, PIPE.scheduler.add_noise(z0, eps, t))
    torch.testing.assert_close(z_t[1:2], noise_latents(PIPE, z0[1:2], 401, eps[1:2]))
    torch.testing.assert_close(clean_latents(PIPE, z_t, t, eps), z0, atol=1e-4, rtol=1e-4)


# ----------------------------------------------------------------------------------- the U-Net


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_perfect_model_of_either_kind_gives_back_the_noise(prediction_type, monkeypatch):
    pipe = tiny.pocket_shaped(prediction_type)
    z0, eps, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([21, 781])
    says = eps if prediction_type == "epsilon" else pipe.scheduler.get_velocity(z0, eps, t)
    monkeypatch.setattr(pipe.unet, "forward", lambda *a, **k: SimpleNamespace(sample=says))
    z_t = noise_latents(pipe, z0, t, eps)
    torch.testing.assert_close(predict_eps(pipe, z_t, t, None), eps, atol=1e-5, rtol=1e-5)


def test_the_grid_is_that_of_the_papers_code():
    assert ddim_timesteps(PIPE) == list(range(981, 0, -20))
    assert ddim_timesteps(PIPE, 10) == list(range(901, 0, -100))
    pipe = tiny.sd_shaped()
    # Stable Diffusion 1.4 comes with PNDM; the grid is DDIM's all the same.
    pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=True)
    assert ddim_timesteps(pipe) == list(range(981, 0, -20))


@given(st.integers(1, 999))
def test_any_number_of_steps_stays_on_the_schedule(steps):
    grid = ddim_timesteps(PIPE, steps)
    assert len(grid) == steps and grid[-1] == 1 and grid[0] < 1000
    assert grid == sorted(grid, reverse=True)


@pytest.mark.parametrize("steps", [0, -1, 1000, 2.0, True, "50"])
def test_steps_out_of_range_are_refused(steps):
    with pytest.raises(ValueError, match="steps=.*from 1 to 999"):
        ddim_timesteps(PIPE, steps)
