"""Removal and synthesis: a plain loop, diffusers' own pipeline and a model that knows the truth."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from cdlib.inpaint import SCHEDULERS, removal_steps, remove, scheduler_by_name, synthesise
from cdlib.masks import dilate_mask
from cdlib.models import (
    ddim_timesteps,
    encode_images,
    encode_prompts,
    image_seeds,
    per_image_noise,
    predict_eps,
)

Y_B, Y_F = "a photo of the beach", "a photo of a bird"


def cosine(pipe: StableDiffusionPipeline) -> StableDiffusionPipeline:
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config, beta_schedule="squaredcos_cap_v2"
    )
    return pipe


PIPES = {
    "v": tiny.pocket_shaped(),
    "epsilon": tiny.sd_shaped(),
    "v, cosine": cosine(tiny.pocket_shaped()),
}
V, EPSILON = PIPES["v"], PIPES["epsilon"]
SIDE = 8  # latent cells
CHANCE = torch.Generator().manual_seed(0)
M_PRE = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
M_PRE[0, 2:6, 3:5], M_PRE[1, 0, :] = True, True  # the third has nothing to remove
any_scheduler = pytest.mark.parametrize("scheduler", SCHEDULERS)


@pytest.fixture(params=PIPES)
def pipe(request):
    return PIPES[request.param]


def pictures(pipe, n: int = 3) -> torch.Tensor:
    side = SIDE * 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def close(ours, theirs, atol=1e-4):
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


def plain_removal(pipe, images, m_pre, steps, s=0.0, resample=1, clean=False) -> torch.Tensor:
    """Section 5.1 as it is written there, image by image; RePaint's Algorithm 1 if resampled; the
    paper's Equation 6 if clean."""
    abar, times = pipe.scheduler.alphas_cumprod, ddim_timesteps(pipe, steps)
    y_b, y_f = encode_prompts(pipe, Y_B), encode_prompts(pipe, Y_F)
    removed = []
    for i, seed in enumerate(image_seeds(0, len(images))):
        z0 = encode_images(pipe, images[i : i + 1], [seed])
        keep = (~m_pre[i]).float()
        z = per_image_noise(z0.shape[1:], [seed], "start")
        for k, t in enumerate(times):
            prev = abar[times[k + 1]] if t != times[-1] else abar[0]
            for u in range(resample):
                label = f"step={k} take={u}" if u else f"step={k}"
                if u:
                    beta = 1 - abar[t] / prev
                    noise = per_image_noise(z0.shape[1:], [seed], f"back {label}")
                    z = (1 - beta).sqrt() * z + beta.sqrt() * noise
                noise = per_image_noise(z0.shape[1:], [seed], f"known {label}")
                q = abar[t].sqrt() * z0 + (1 - abar[t]).sqrt() * noise
                z = keep * (z0 if clean else q) + (1 - keep) * z
                e_b, e_f = predict_eps(pipe, z, t, y_b), predict_eps(pipe, z, t, y_f)
                e = e_b + s * (e_f - e_b)
                z = prev.sqrt() * (z - (1 - abar[t]).sqrt() * e) / abar[t].sqrt()
                z = z + (1 - prev).sqrt() * e
        z = keep * z0 + (1 - keep) * z if clean else z
        decoded = pipe.vae.decode(z / pipe.vae.config.scaling_factor).sample
        removed.append(((decoded + 1) / 2).clamp(0, 1))
    return torch.cat(removed)


# ------------------------------------------------------------------------------------- removal


def test_removal_is_the_loop_of_the_paper(pipe):
    images = pictures(pipe)
    removed = remove(pipe, images, M_PRE, Y_B, steps=6)
    assert removed.shape == images.shape and removed.dtype == torch.float32
    close(removed, plain_removal(pipe, images, M_PRE, steps=6))


@pytest.mark.parametrize("s", [-1.0, 0.0, 1.0, 2.5])
def test_guidance_is_the_papers(pipe, s):
    images = pictures(pipe, 1)
    options = {"steps": 3, "guidance": s, "y_f": Y_F}
    removed = remove(pipe, images, M_PRE[:1], Y_B, **options)
    close(removed, plain_removal(pipe, images, M_PRE[:1], steps=3, s=s), atol=5e-4)


def test_clean_surroundings_are_those_of_equation_6(pipe):
    images, options = pictures(pipe, 2), {"steps": 4, "surroundings": "clean"}
    removed = remove(pipe, images, M_PRE[:2], Y_B, **options)
    close(removed, plain_removal(pipe, images, M_PRE[:2], steps=4, clean=True), atol=5e-4)
    *_, last = removal_steps(pipe, images, M_PRE[:2], Y_B, **options)
    z0 = encode_images(pipe, images, image_seeds(0, 2))
    kept = ~M_PRE[:2, None].expand_as(z0)
    assert torch.equal(last.z[kept], z0.float()[kept])


def test_resampling_is_repaints(pipe):
    images, options = pictures(pipe, 2), {"steps": 3, "resample": 3}
    removed = remove(pipe, images, M_PRE[:2], Y_B, **options)
    close(removed, plain_removal(pipe, images, M_PRE[:2], **options), atol=5e-4)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"surroundings": "dirty"}, "surroundings='dirty'"),
        ({"resample": 0}, "resample=0"),
        ({"resample": 2.0}, "resample=2.0"),
        ({"resample": 2, "scheduler": "PNDMScheduler"}, "PNDMScheduler.*is 1.*DDIMScheduler"),
    ],
)
def test_resampling_that_cannot_be_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        remove(V, pictures(V), M_PRE, Y_B, steps=3, **given)


@any_scheduler
def test_an_image_is_the_same_alone_and_in_company(scheduler):
    images, options = pictures(V), {"steps": 4, "scheduler": scheduler}
    together = remove(V, images, M_PRE, Y_B, seed=[5, 3, 4], batch_size=2, **options)
    for i, seed in enumerate([5, 3, 4]):
        alone = remove(V, images[i : i + 1], M_PRE[i : i + 1], Y_B, seed=[seed], **options)
        close(together[i : i + 1], alone)
    again = remove(V, images, M_PRE, Y_B, seed=[5, 3, 4], batch_size=2, **options)
    assert torch.equal(again, together)
    assert not torch.equal(remove(V, images, M_PRE, Y_B, seed=9, **options), together)


@any_scheduler
def test_what_is_known_is_as_noisy_as_the_unet_is_told(scheduler, monkeypatch, capfd):
    """Whatever the scheduler's scale, the U-Net sees sqrt(abar) z0 + sqrt(1 - abar) eps."""
    images, seen, plain = pictures(V, 1), [], V.unet.forward
    z0 = encode_images(V, images, image_seeds(0, 1))
    monkeypatch.setattr(
        V.unet, "forward", lambda z, t, *a, **k: seen.append((z, float(t))) or plain(z, t, *a, **k)
    )
    remove(V, images, M_PRE[2:], Y_B, steps=5, scheduler=scheduler)
    abar = V.scheduler.alphas_cumprod.double().numpy()
    for k, (z, t) in enumerate(seen):
        eps = per_image_noise(z0.shape[1:], image_seeds(0, 1), f"known step={k}")
        columns = torch.stack([z0.flatten(), eps.flatten()], 1).double().numpy()
        (signal, noise), residual, *_ = np.linalg.lstsq(columns, z.double().numpy().ravel())
        assert residual[0] < 1e-6 and signal**2 + noise**2 == pytest.approx(1, abs=1e-4)
        # some second-order schedulers also look between two whole timesteps
        assert abar[math.ceil(t)] - 1e-4 <= signal**2 <= abar[math.floor(t)] + 1e-4
    assert seen[0][1] >= ddim_timesteps(V, 5)[0]
    assert capfd.readouterr() == ("", "")  # a chapter would show what is said here


@any_scheduler
@pytest.mark.parametrize("kind", ["epsilon", "v, cosine"])
def test_a_model_that_knows_the_background_paints_it(scheduler, kind, monkeypatch):
    pipe, images = PIPES[kind], pictures(PIPES[kind], 1)
    truth = torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) / 2
    abar = pipe.scheduler.alphas_cumprod.double().numpy()

    def perfect(z_t, t, *_, **__):
        a = np.interp(float(t), np.arange(len(abar)), abar)
        signal, noise = math.sqrt(a), math.sqrt(1 - a)
        eps = (z_t - signal * truth) / noise
        v = signal * eps - noise * truth
        return SimpleNamespace(sample=eps if kind == "epsilon" else v)

    monkeypatch.setattr(pipe.unet, "forward", perfect)
    hole = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    *_, last = removal_steps(pipe, images, hole, Y_B, steps=20, scheduler=scheduler)
    # the paper's DDIM stops at abar[0], with a thirtieth of noise left
    assert (last.z - truth).abs().mean() < 0.05


def test_steps_show_the_removal_as_it_goes():
    images = pictures(V)
    states = removal_steps(V, images, M_PRE, Y_B, steps=4)
    seen = []
    for state in states:
        assert torch.is_grad_enabled()  # what the reader does between two steps is his own
        seen.append(state)
    assert [state.step for state in seen] == [1, 2, 3, 4]
    assert [state.t for state in seen] == ddim_timesteps(V, 4) and seen[0].steps == 4
    assert all(state.images.shape == images.shape for state in seen)
    assert torch.equal(seen[-1].images, remove(V, images, M_PRE, Y_B, steps=4))
    assert torch.equal(seen[-1].z, seen[-1].z0) and "tensor" not in repr(seen[0])
    assert len(list(removal_steps(V, images, M_PRE, Y_B, steps=4, scheduler="HeunDiscreteScheduler"
                                  ))) == 7  # fmt: skip


@pytest.mark.parametrize("kind", ["v", "epsilon"])
def test_the_guess_on_the_way_is_the_unets(kind):
    pipe, images = PIPES[kind], pictures(PIPES[kind], 1)
    seeds = image_seeds(0, 1)
    state = next(removal_steps(pipe, images, ~M_PRE[2:], Y_B, steps=4))
    z, t = per_image_noise(state.z.shape[1:], seeds, "start"), int(state.t)
    eps, abar = predict_eps(pipe, z, t, encode_prompts(pipe, Y_B)), pipe.scheduler.alphas_cumprod[t]
    close(state.z0, (z - (1 - abar).sqrt() * eps) / abar.sqrt(), atol=1e-3)


def test_dilation_is_that_of_the_mask():
    images = pictures(V)
    wide = remove(V, images, dilate_mask(M_PRE, 1), Y_B, steps=2)
    assert torch.equal(remove(V, images, M_PRE, Y_B, steps=2, dilate=1), wide)
    assert not torch.equal(remove(V, images, M_PRE, Y_B, steps=2), wide)


def test_half_precision_in_the_unet_leaves_latents_whole():
    images = pictures(V)
    whole = remove(V, images, M_PRE, Y_B, steps=4)
    with torch.autocast("cpu", torch.bfloat16):
        state = list(removal_steps(V, images, M_PRE, Y_B, steps=4))[-1]
        removed = state.images
    assert state.z.dtype == state.z0.dtype == removed.dtype == torch.float32
    close(removed, whole, atol=0.05)


# ----------------------------------------------------------------------------------- synthesis


@any_scheduler
@pytest.mark.parametrize("kind", ["epsilon", "v, cosine"])
def test_synthesis_and_full_removal_equal_diffusers_pipeline(scheduler, kind):
    pipe = PIPES[kind]
    seeds = image_seeds(0, 2)
    other = StableDiffusionPipeline(
        **{**pipe.components, "scheduler": scheduler_by_name(pipe, scheduler)},
        requires_safety_checker=False,
    )
    other.set_progress_bar_config(disable=True)
    theirs = other(
        [Y_B] * 2,
        latents=per_image_noise((4, SIDE, SIDE), seeds, "start"),
        num_inference_steps=5,
        guidance_scale=1,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pt",
    ).images
    options = {"steps": 5, "scheduler": scheduler}
    size = pictures(pipe).shape[-1]
    close(synthesise(pipe, 2, y_b=Y_B, size=size, **options), theirs)
    hole = torch.ones(2, SIDE, SIDE, dtype=torch.bool)
    close(remove(pipe, pictures(pipe, 2), hole, Y_B, **options), theirs)


@pytest.mark.parametrize(("s", "passes"), [(0, 1), (1, 1), (-2, 2), (7.5, 2)])
def test_guidance_takes_no_more_passes_than_it_needs(s, passes, monkeypatch):
    count, plain = [], V.unet.forward
    monkeypatch.setattr(V.unet, "forward", lambda *a, **k: count.append(1) or plain(*a, **k))
    images = synthesise(V, 2, y_f=Y_F, y_b=Y_B, s=s, steps=3)
    assert len(count) == 3 * passes and torch.isfinite(images).all()


def test_scales_0_and_1_are_one_prompt_alone():
    options = {"steps": 3, "size": 32}
    background = synthesise(V, 2, y_b=Y_B, **options)
    assert torch.equal(synthesise(V, 2, y_f=Y_F, y_b=Y_B, s=0, **options), background)
    assert torch.equal(synthesise(V, 2, y_f=Y_F, y_b=Y_B, **options), synthesise(
        V, 2, y_b=Y_F, **options))  # fmt: skip
    assert not torch.equal(synthesise(V, 2, y_f=Y_F, y_b=Y_B, **options), background)
    close(synthesise(V, 2, y_f=Y_B, y_b=Y_B, s=3, **options), background)


def test_images_have_the_size_asked_for():
    assert synthesise(V, 1, steps=1).shape == (1, 3, 64, 64)
    assert synthesise(V, 2, steps=1, size=(32, 48)).shape == (2, 3, 32, 48)
    assert synthesise(EPSILON, 1, steps=1, size=32).shape == (1, 3, 32, 32)


# ------------------------------------------------------------------------------------ refusals


def test_the_schedule_is_the_models_own():
    for pipe in PIPES.values():
        for name in SCHEDULERS:
            scheduler = scheduler_by_name(pipe, name)
            assert type(scheduler).__name__ == name
            assert scheduler.config.prediction_type == pipe.scheduler.config.prediction_type
            abar = scheduler.alphas_cumprod[:-1]
            torch.testing.assert_close(abar, pipe.scheduler.alphas_cumprod[:-1])


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("DDIMSheduler", "DDIMScheduler"),
        ("ddim", "DDIMScheduler"),
        ("Euler", "EulerDiscreteScheduler"),
        ("PNDM", "PNDMScheduler"),
        ("FlowMatchEulerDiscreteScheduler", "EulerDiscreteScheduler"),
        (None, ""),
        ("StableDiffusionPipeline", ""),
    ],
)
def test_what_is_no_scheduler_is_refused_with_the_nearest_name(name, near):
    with pytest.raises(ValueError, match=f"scheduler={name!r}.*PNDM.*{near}"):
        remove(V, pictures(V), M_PRE, scheduler=name)
    with pytest.raises(ValueError, match=f"{near}'?"):
        synthesise(V, 1, scheduler=name)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"images": torch.rand(3, 16, 16)}, "images"),
        ({"m_pre": M_PRE.float()}, r"m_pre: must be bool of shape \(3, 8, 8\)"),
        ({"m_pre": M_PRE[:2]}, "m_pre"),
        ({"m_pre": torch.ones(3, 32, 32, dtype=torch.bool)}, "latent grid"),
        ({"steps": 0}, "steps=0"),
        ({"steps": 1000}, "steps=1000"),
        ({"dilate": -1}, "dilate=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": [1, 2]}, "seeds: 2 given for 3"),
        ({"guidance": 2.0}, "guidance=2.0: needs y_f"),
        ({"guidance": math.nan, "y_f": Y_F}, "guidance=nan"),
        ({"guidance": "2", "y_f": Y_F}, "guidance='2'"),
        ({"y_f": Y_F}, "y_f='a photo of a bird'.*guidance is None"),
    ],
)
def test_what_removal_cannot_use_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        removal_steps(V, **({"images": pictures(V), "m_pre": M_PRE} | changed))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"n": 0}, "n=0"),
        ({"size": 33}, "size=33"),
        ({"size": (32, 32, 32)}, "size="),
        ({"size": "big"}, "size="),
        ({"s": 2}, "s=2: needs y_f"),
        ({"s": math.inf, "y_f": Y_F}, "s=inf"),
        ({"steps": True}, "steps=True"),
    ],
)
def test_what_synthesis_cannot_use_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        synthesise(V, **({"n": 1} | changed))
