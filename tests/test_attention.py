"""Concept attention against plain loops and einsums, on tiny pipelines and the shipped one."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdlib.attention import (
    AttentionCapture,
    capture_attention,
    concept_attention,
    cross_attention_layers,
    token_attention,
)
from cdlib.attention.concept import least_noisy
from cdlib.models import (
    encode_images,
    encode_prompts,
    image_seeds,
    load_model,
    per_image_noise,
    prompt_tokens,
)

PROMPT = "a photo of a bird"
SHAPES = {"pocket": tiny.pocket_shaped(), "sd": tiny.sd_shaped()}
POCKET, SD = SHAPES["pocket"], SHAPES["sd"]
IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
FEW = {"t0": 2, "steps": 5}  # timesteps 1 and 201


@pytest.fixture(params=["pocket", "sd"])
def pipe(request):
    return SHAPES[request.param]


def processors(pipe) -> dict:
    return dict(pipe.unet.attn_processors)


def eager_maps(pipe, z_t, t, y) -> torch.Tensor:
    """Head-averaged attention of all cross-attention layers, (B, layers, tokens, h, w).

    Nothing of the library: what enters to_q and to_k is multiplied out here.
    """
    seen, handles = {}, []
    for path, module in pipe.unet.named_modules():
        if path.endswith(("attn2.to_q", "attn2.to_k")):
            note = lambda m, args, out, path=path: seen.__setitem__(path, out)  # noqa: E731
            handles.append(module.register_forward_hook(note))
    pipe.unet(z_t, t, encoder_hidden_states=y)
    for handle in handles:
        handle.remove()
    maps = []
    for path in (p for p in seen if p.endswith("to_q")):
        heads = pipe.unet.get_submodule(path.removesuffix(".to_q")).heads
        q, k = (seen[p].unflatten(-1, (heads, -1)) for p in (path, path[:-1] + "k"))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        side = int(q.shape[1] ** 0.5)
        small = scores.softmax(-1).mean(1).unflatten(1, (side, side)).permute(0, 3, 1, 2)
        repeat = z_t.shape[-1] // side
        maps.append(small.repeat_interleave(repeat, 2).repeat_interleave(repeat, 3))
    return torch.stack(maps, 1)


def plain_m_hat(pipe, images, prompt, positions, timesteps, seed, draw=0) -> torch.Tensor:
    """M_hat image by image and timestep by timestep, (N, layers, timesteps, h, w)."""
    seeds = image_seeds(seed, len(images))
    y = encode_prompts(pipe, prompt)
    z0 = encode_images(pipe, images, seeds)
    rows = []
    for i, image_seed in enumerate(seeds):
        columns = []
        for t in timesteps:
            eps = per_image_noise(z0.shape[1:], [image_seed], f"forward t={t} draw={draw}")
            abar = pipe.scheduler.alphas_cumprod[t]
            z_t = abar.sqrt() * z0[i : i + 1] + (1 - abar).sqrt() * eps
            columns.append(eager_maps(pipe, z_t, t, y)[0, :, positions].sum(1))
        rows.append(torch.stack(columns, 1))
    return torch.stack(rows)


# ------------------------------------------------------------------------------------- layers


def test_layers_have_short_names_in_the_order_of_the_unet():
    assert list(cross_attention_layers(POCKET)) == ["down.1.0", "mid", "up.0.0", "up.0.1"]
    names = cross_attention_layers(SD)
    assert len(names) == 16
    assert list(names)[:2] == ["down.0.0", "down.0.1"] and list(names)[-1] == "up.3.2"
    factors = [layer.factor for layer in names.values()]
    assert factors == [1, 1, 2, 2, 4, 4, 8, 4, 4, 4, 2, 2, 2, 1, 1, 1]  # method.md 2.2, times 1/64


@pytest.mark.parametrize(
    ("layers", "near"), [(["up.1.2"], "up"), ("dwon.1.0", "down.1.0"), ([], "")]
)
def test_a_layer_that_is_not_there_is_refused(layers, near):
    with pytest.raises(ValueError, match=f"layers=.*down.1.0.*{near}"):
        concept_attention(POCKET, IMAGES, PROMPT, "bird", layers=layers)


# ------------------------------------------------------------------------------------ capture


# Maps are about 0.01 high. Products summed in another order, as on another machine, have moved them
# by 2e-6 behind the many layers of Stable Diffusion's shape.
ROUNDING = {"atol": 1e-5, "rtol": 0}


def test_captured_maps_equal_a_plain_einsum(pipe):
    z_t, t, y = torch.randn(2, 4, 16, 16), 301, encode_prompts(pipe, [PROMPT, "a bird"])
    expected = eager_maps(pipe, z_t, t, y)  # (B, layers, tokens, h, w)
    with capture_attention(pipe, positions=[5, [1, 2]], keep_layers=True) as capture:
        pipe.unet(z_t, t, encoder_hidden_states=y)
    wanted = torch.stack([expected[:, :, 5], expected[:, :, 1] + expected[:, :, 2]], 1)
    assert expected[:, :, 5].std() > 0.005  # the reference is not just flat
    torch.testing.assert_close(capture.maps, wanted, **ROUNDING)
    with capture_attention(pipe, positions=[5, [1, 2]]) as capture:
        pipe.unet(z_t, t, encoder_hidden_states=y)
    torch.testing.assert_close(capture.maps, wanted.mean(2), **ROUNDING)


def test_the_unets_output_is_unchanged(pipe):
    z_t, y = torch.randn(2, 4, 16, 16), encode_prompts(pipe, [PROMPT, ""])
    plain = pipe.unet(z_t, 301, encoder_hidden_states=y).sample
    mask = torch.ones(2, y.shape[1])
    mask[:, 9:] = 0
    masked = pipe.unet(z_t, 301, y, encoder_attention_mask=mask).sample
    with capture_attention(pipe, positions=[5]):
        captured = pipe.unet(z_t, 301, encoder_hidden_states=y).sample
        captured_masked = pipe.unet(z_t, 301, y, encoder_attention_mask=mask).sample
    torch.testing.assert_close(captured, plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(captured_masked, masked, atol=1e-5, rtol=0)


def test_only_cross_attention_is_touched_and_all_is_restored(pipe):
    before, hooks = processors(pipe), len(pipe.unet._forward_pre_hooks)
    with capture_attention(pipe, positions=[1]):
        inside = processors(pipe)
    assert {k for k in before if before[k] is not inside[k]} == {k for k in before if "attn2" in k}
    assert processors(pipe) == before
    assert len(pipe.unet._forward_pre_hooks) == hooks


@pytest.mark.parametrize("where", ["body", "unet"])
def test_the_model_is_restored_after_an_exception(pipe, where, monkeypatch):
    before = processors(pipe)
    with (
        pytest.raises(RuntimeError, match="stop here"),
        capture_attention(pipe, words="bird"),
    ):
        if where == "unet":
            monkeypatch.setattr(pipe.unet.conv_out, "forward", stop_here)
            pipe(PROMPT, num_inference_steps=1, height=64, width=64)
        stop_here()
    assert processors(pipe) == before
    assert not pipe.unet._forward_pre_hooks and not pipe.text_encoder._forward_pre_hooks


def stop_here(*args):
    raise RuntimeError("stop here")


def test_a_block_inside_a_block_is_refused_and_undoes_nothing(pipe):
    before = processors(pipe)
    with capture_attention(pipe, positions=[5]) as capture:
        with (
            pytest.raises(RuntimeError, match="already being captured"),
            capture_attention(pipe, positions=[5]),
        ):
            pass
        pipe.unet(torch.randn(1, 4, 8, 8), 1, encode_prompts(pipe, PROMPT))
        assert capture.maps.shape == (1, 1, 8, 8)
    assert processors(pipe) == before


def test_an_unusual_processor_is_not_replaced():
    pipe = tiny.pocket_shaped()
    pipe.fuse_qkv_projections(vae=False)
    with (
        pytest.raises(ValueError, match="does not compute plain attention"),
        capture_attention(pipe, positions=[5]),
    ):
        pass


def test_words_are_found_in_the_prompt_that_the_pipeline_encodes():
    with capture_attention(POCKET, words=["bird", "photo"], guided=True) as capture:
        POCKET(PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(1))
    assert capture.maps.shape == (1, 2, 16, 16)
    with capture_attention(POCKET, words=["bird", "photo"], prompt=PROMPT, guided=True) as told:
        POCKET(PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(capture.maps, told.maps)


def test_guided_keeps_the_conditional_half():
    z = torch.randn(2, 4, 8, 8)
    empty, y = encode_prompts(POCKET, ["", ""]), encode_prompts(POCKET, [PROMPT, PROMPT])
    with capture_attention(POCKET, positions=[5], guided=True) as both:
        POCKET.unet(torch.cat([z, z]), 21, torch.cat([empty, y]))
    with capture_attention(POCKET, positions=[5]) as alone:
        POCKET.unet(z, 21, y)
    torch.testing.assert_close(both.maps, alone.maps, atol=1e-6, rtol=1e-5)


def test_prompts_that_place_the_word_differently_are_refused():
    with (
        pytest.raises(ValueError, match="different places"),
        capture_attention(POCKET, words="bird"),
    ):
        POCKET([PROMPT, "a bird"], num_inference_steps=1)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "words and positions"),
        ({"words": "bird", "positions": [5]}, "words and positions"),
        ({"words": []}, "words="),
        ({"words": "birds", "prompt": PROMPT}, "word='birds' is not in"),
        ({"positions": []}, "positions="),
        ({"positions": [[]]}, "positions="),
        ({"positions": [16]}, "from 0 to 15"),
        ({"positions": [5], "size": (0, 4)}, "size=0"),
    ],
)
def test_a_capture_that_makes_no_sense_is_refused(how, message):
    with pytest.raises(ValueError, match=message), capture_attention(POCKET, **how):
        pass
    assert not any("Capturing" in type(p).__name__ for p in processors(POCKET).values())


def test_a_word_that_no_prompt_has_is_refused_when_the_unet_runs():
    with (
        pytest.raises(ValueError, match="words: no prompt that has them"),
        capture_attention(POCKET, words="dog"),
    ):
        POCKET(PROMPT, num_inference_steps=1)


def test_no_pass_no_maps():
    with (
        capture_attention(POCKET, positions=[5]) as capture,
        pytest.raises(RuntimeError, match="no"),
    ):
        _ = capture.maps


def test_a_running_mean_over_passes_does_not_grow(monkeypatch):
    z_t, y = torch.randn(2, 4, 16, 16), encode_prompts(SD, [PROMPT, PROMPT])
    probabilities, held, add = [], [], AttentionCapture.add

    def watch(capture, layer, attention):
        probabilities.append(weakref.ref(attention))
        add(capture, layer, attention)

    monkeypatch.setattr(AttentionCapture, "add", watch)
    with capture_attention(SD, positions=[5]) as capture:
        for t in (1, 41, 81):
            SD.unet(z_t, t, encoder_hidden_states=y)
            held.append(capture.nbytes)
        maps = capture.maps
    # One sum for each resolution, of one token: 16 layers, 3 passes and 77 tokens leave no trace.
    assert held == [2 * (16 * 16 + 8 * 8 + 4 * 4 + 2 * 2) * 4] * 3
    assert len(probabilities) == 3 * 16 and not any(gone() is not None for gone in probabilities)
    means = [eager_maps(SD, z_t, t, y)[:, :, 5].mean(1) for t in (1, 41, 81)]
    torch.testing.assert_close(maps[:, 0], sum(means) / 3, atol=1e-6, rtol=1e-5)


def test_maps_of_images_that_are_not_square_and_of_odd_latents():
    z_t, y = torch.randn(1, 4, 9, 20), encode_prompts(SD, PROMPT)
    with capture_attention(SD, positions=[5]) as capture:
        SD.unet(z_t, 21, encoder_hidden_states=y)
    assert capture.maps.shape == (1, 1, 9, 20)
    with capture_attention(SD, positions=[5], layers=["down.0.0"], size=(18, 40)) as capture:
        SD.unet(z_t, 21, encoder_hidden_states=y)
    fine = capture.maps
    assert fine.shape == (1, 1, 18, 40) and torch.equal(fine[..., ::2, ::2], fine[..., 1::2, 1::2])


def test_a_batch_that_changes_is_refused_until_reset():
    y = encode_prompts(POCKET, [PROMPT, PROMPT])
    with capture_attention(POCKET, positions=[5]) as capture:
        POCKET.unet(torch.randn(2, 4, 8, 8), 1, y)
        with pytest.raises(RuntimeError, match="changed size"):
            POCKET.unet(torch.randn(1, 4, 8, 8), 1, y[:1])
        with pytest.raises(RuntimeError, match="changed size"):
            POCKET.unet(torch.randn(2, 4, 16, 16), 1, y)
        capture.reset()
        POCKET.unet(torch.randn(1, 4, 16, 16), 1, y[:1])
        assert capture.maps.shape == (1, 1, 16, 16)


# ---------------------------------------------------------------------------- concept attention


def test_m_hat_equals_plain_loops(pipe):
    expected = plain_m_hat(pipe, IMAGES, PROMPT, [5], [1, 201], seed=3)
    m_hat = concept_attention(pipe, IMAGES, PROMPT, "bird", **FEW, seed=3)
    assert m_hat.dtype == torch.float32 and m_hat.device.type == "cpu"
    torch.testing.assert_close(m_hat, expected.mean((1, 2)), atol=1e-5, rtol=0)
    how = dict(**FEW, seed=3, keep=("timesteps", "layers"))
    kept = concept_attention(pipe, IMAGES, PROMPT, "bird", **how)
    torch.testing.assert_close(kept, expected, atol=1e-5, rtol=0)


def test_axes_are_kept_one_at_a_time_too():
    both = concept_attention(POCKET, IMAGES, PROMPT, "bird", **FEW, keep=("layers", "timesteps"))
    for axis, averaged in (("layers", 2), ("timesteps", 1)):
        one = concept_attention(POCKET, IMAGES, PROMPT, "bird", **FEW, keep=(axis,))
        torch.testing.assert_close(one, both.mean(averaged), atol=1e-6, rtol=0)


def test_the_timesteps_are_the_least_noisy_of_the_grid():
    assert least_noisy(POCKET) == list(range(1, 782, 20))
    given_by_name = concept_attention(POCKET, IMAGES, PROMPT, "bird", timesteps=[201, 1])
    torch.testing.assert_close(
        given_by_name, concept_attention(POCKET, IMAGES, PROMPT, "bird", **FEW), atol=0, rtol=0
    )


def test_a_word_of_many_pieces_and_several_words_are_added():
    prompt = f"a photo of a bird {tiny.SPLIT_WORD[:3]}"
    tokens = token_attention(POCKET, IMAGES, prompt, **FEW)
    pieces = len(prompt_tokens(POCKET, prompt))
    assert tokens.shape == (3, pieces, 16, 16) and pieces > 7
    split = concept_attention(POCKET, IMAGES, prompt, tiny.SPLIT_WORD[:3], **FEW)
    torch.testing.assert_close(split, tokens[:, 6:-1].sum(1), atol=1e-6, rtol=1e-5)
    several = concept_attention(POCKET, IMAGES, prompt, ["bird", "photo", "bird"], **FEW)
    torch.testing.assert_close(several, tokens[:, 5] + tokens[:, 2], atol=1e-6, rtol=1e-5)


def test_all_columns_of_attention_add_up_to_one():
    short = tiny.pocket_shaped()
    short.tokenizer.model_max_length = 7  # "a photo of a bird" and its marks: no padding
    total = token_attention(short, IMAGES, PROMPT, **FEW).sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 9), st.integers(1, 3), st.sampled_from([None, 2.5]))
def test_the_result_does_not_depend_on_how_it_is_batched(batch_size, n, guidance):
    how = dict(**FEW, n=n, guidance=guidance)
    together = concept_attention(POCKET, IMAGES, PROMPT, "bird", **how, batch_size=batch_size)
    for i, seed in enumerate(image_seeds(0, 3)):
        alone = concept_attention(POCKET, IMAGES[i : i + 1], PROMPT, "bird", **how, seed=[seed])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)


def test_more_draws_are_averaged():
    two = concept_attention(POCKET, IMAGES, PROMPT, "bird", **FEW, n=2)
    draws = [
        plain_m_hat(POCKET, IMAGES, PROMPT, [5], [1, 201], seed=0, draw=k).mean((1, 2))
        for k in (0, 1)
    ]
    assert (draws[0] - draws[1]).abs().max() > 1e-3
    torch.testing.assert_close(two, (draws[0] + draws[1]) / 2, atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_map_to_the_last_bit():
    one, two = (concept_attention(POCKET, IMAGES, PROMPT, "bird", **FEW, seed=5) for _ in "ab")
    other = concept_attention(POCKET, IMAGES, PROMPT, "bird", **FEW, seed=6)
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_chosen_layers_alone_are_averaged():
    kept = concept_attention(SD, IMAGES, PROMPT, "bird", **FEW, keep=["layers"])
    names = list(cross_attention_layers(SD))
    chosen = concept_attention(SD, IMAGES, PROMPT, "bird", **FEW, layers=["up.3.1", "mid"])
    expected = (kept[:, names.index("mid")] + kept[:, names.index("up.3.1")]) / 2
    torch.testing.assert_close(chosen, expected, atol=1e-6, rtol=1e-5)


def test_normalised_maps_span_zero_to_one():
    maps = concept_attention(POCKET, IMAGES, PROMPT, "bird", **FEW, normalise="minmax")
    raw = concept_attention(POCKET, IMAGES, PROMPT, "bird", **FEW)
    assert torch.equal(maps.amin((1, 2)), torch.zeros(3))
    assert torch.equal(maps.amax((1, 2)), torch.ones(3))
    assert np.array_equal(maps[0].flatten().argsort(), raw[0].flatten().argsort())


def test_guidance_follows_the_ddim_trajectory():
    """Two timesteps by diffusers' own DDIM step, under guidance, captured by hand."""
    s, seeds = 3.0, [11]
    y, empty = encode_prompts(SD, PROMPT), encode_prompts(SD, "")
    z0 = encode_images(SD, IMAGES[:1], seeds)
    SD.scheduler.set_timesteps(5)  # 801, 601, 401, 201, 1
    eps = per_image_noise(z0.shape[1:], seeds, "forward t=201 draw=0")
    z = SD.scheduler.add_noise(z0, eps, torch.tensor([201]))
    maps = []
    for t in (201, 1):
        maps.append(eager_maps(SD, z, t, y)[:, :, 5].mean(1))
        e, e_empty = SD.unet(z, t, y).sample, SD.unet(z, t, empty).sample
        z = SD.scheduler.step(e_empty + s * (e - e_empty), t, z).prev_sample
    m_hat = concept_attention(SD, IMAGES[:1], PROMPT, "bird", **FEW, guidance=s, seed=seeds)
    torch.testing.assert_close(m_hat, (maps[0] + maps[1]) / 2, atol=1e-5, rtol=0)


def test_the_model_is_as_before_and_needs_no_gradient(pipe):
    before = processors(pipe)
    m_hat = concept_attention(pipe, IMAGES, PROMPT, "bird", **FEW)
    assert not m_hat.requires_grad
    assert processors(pipe) == before


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"word": "birds"}, "word='birds' is not in prompt"),
        ({"word": []}, "word="),
        ({"prompt": "a photo of a é", "word": "photo"}, "vocabulary"),
        ({"images": IMAGES * 3}, "images: "),
        ({"images": IMAGES[..., :63]}, "images: .*multiples"),
        ({"t0": 51}, "t0=51: .*from 1 to 50"),
        ({"t0": 0}, "t0=0"),
        ({"steps": 1000}, "steps=1000"),
        ({"n": 0}, "n=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"timesteps": []}, "timesteps="),
        ({"timesteps": [1000]}, "timesteps=1000: .*from 0 to 999"),
        ({"keep": ["layer"]}, "keep='layer'.*Did you mean 'layers'"),
        ({"normalise": "min-max"}, "normalise='min-max'.*Did you mean 'minmax'"),
        ({"guidance": float("nan")}, "guidance=nan"),
        ({"guidance": "strong"}, "guidance='strong'"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": [1, 2]}, "seeds: 2 given for 3 images"),
    ],
)
def test_arguments_are_checked(how, message):
    arguments = {"images": IMAGES, "prompt": PROMPT, "word": "bird", **how}
    with pytest.raises(ValueError, match=message):
        concept_attention(POCKET, **arguments)


# ----------------------------------------------------------------------------- the shipped model


def test_m_hat_of_the_shipped_model_equals_plain_loops():
    pipe = load_model("pocket", device="cpu")
    images = IMAGES[:2]
    m_hat = concept_attention(pipe, images, PROMPT, "bird", **FEW)
    expected = plain_m_hat(pipe, images, PROMPT, [5], [1, 201], seed=0)
    torch.testing.assert_close(m_hat, expected.mean((1, 2)), atol=1e-5, rtol=0)


def test_capturing_leaves_the_shipped_model_as_it_was():
    pipe = load_model("pocket", device="cpu")
    z_t, y = torch.randn(2, 4, 16, 16), encode_prompts(pipe, [PROMPT, ""])
    plain = pipe.unet(z_t, 301, encoder_hidden_states=y).sample
    with capture_attention(pipe, positions=[5]):
        captured = pipe.unet(z_t, 301, encoder_hidden_states=y).sample
    torch.testing.assert_close(captured, plain, atol=1e-5, rtol=0)
