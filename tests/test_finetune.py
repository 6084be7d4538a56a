"""Fine-tuning m to m': what is learned, where the loss counts, and what comes out."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import tiny
import torch

import cdlib
from cdlib.finetune import (
    Draws,
    FinetuneState,
    draw,
    encode_examples,
    finetune,
    masked_square,
    noised,
    target,
)
from cdlib.models import encode_prompts, load_model

Y_F, Y_B = "a photo of a bird", "a photo of a background"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["v_prediction", "epsilon"])
def either(request):
    return tiny.pocket_shaped(request.param)


@pytest.fixture(scope="module")
def pipe():
    return tiny.pocket_shaped()


def pictures(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of 64 pixels and masks on their grid of 16, an object a bit off the middle."""
    images = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    m_pre = torch.zeros(n, 16, 16, dtype=torch.bool)
    m_pre[:, 3:8, 6:11] = True
    return images, m_pre


def run(pipe, n: int = 6, **how) -> list[FinetuneState]:
    """All states of a short run; float32 unless it says otherwise."""
    defaults = dict(y_f=Y_F, steps=1, batch_size=4, lr=1e-3, precision="fp32", every=1)
    return list(finetune(pipe, *pictures(n), **{**defaults, **how}))


def weights(unet) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in unet.state_dict().items()}


def assert_close(a: dict, b: dict, **how) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], **how)


def draws_of(pipe, places, step: int = 0, **how) -> Draws:
    examples = encode_examples(pipe, *pictures())
    return draw(examples, step, places, **{"batch_size": 8, "n_timesteps": 1000, **how})


# The objective


def slow_losses(pipe, draws: Draws, noise: str, normalise: bool) -> list[float]:
    """Section 4.1 draw by draw and element by element, in float64 but for the U-Net."""
    y_f, y_b = encode_prompts(pipe, Y_F), encode_prompts(pipe, Y_B)
    betas = pipe.scheduler.betas.double().numpy()
    losses = []
    for i in range(len(draws.t)):
        z0, eps = draws.z0[i].double().numpy(), draws.eps[i].double().numpy()
        t, region = int(draws.t[i]), draws.region[i].numpy()
        abar = np.prod([1 - beta for beta in betas[: t + 1]])
        z_t = np.sqrt(abar) * z0 + np.sqrt(1 - abar) * eps
        if noise == "rectangle":
            z_t = np.where(region[None], z_t, z0)
        answer = eps
        if pipe.scheduler.config.prediction_type == "v_prediction":
            answer = np.sqrt(abar) * eps - np.sqrt(1 - abar) * z0
        y = y_f if draws.foreground[i] else y_b
        with torch.no_grad():
            said = pipe.unet(torch.from_numpy(z_t[None]).float(), t, y).sample[0].double().numpy()
        total, count = 0.0, 0
        for c in range(z0.shape[0]):
            for row in range(z0.shape[1]):
                for column in range(z0.shape[2]):
                    if region[row, column]:
                        total += (said[c, row, column] - answer[c, row, column]) ** 2
                        count += 1
        losses.append(total / (count if normalise else z0.size))
    return losses


@pytest.mark.parametrize(("noise", "normalise"), [("whole", False), ("rectangle", True)])
def test_loss_is_the_one_written_out_per_sample(either, noise, normalise):
    how = {"rectangles": 2, "p": 0.4, "seed": 3}
    draws = draws_of(either, range(8), **how)
    assert 0 < draws.foreground.sum() < 8 and not draws.region.all()
    slow = np.array(slow_losses(either, draws, noise, normalise))
    (state,) = run(either, batch_size=8, noise=noise, normalise=normalise, **how)
    foreground = draws.foreground.numpy()
    assert state.loss == pytest.approx(slow.mean(), rel=1e-4)
    assert state.loss_f == pytest.approx(slow[foreground].mean(), rel=1e-4)
    assert state.loss_b == pytest.approx(slow[~foreground].mean(), rel=1e-4)


def test_nothing_is_learned_outside_the_region():
    generator = torch.Generator().manual_seed(0)
    region = torch.rand(3, 5, 7, generator=generator) < 0.4
    region[2] = False
    for normalise in (False, True):
        said = torch.randn(3, 4, 5, 7, generator=generator, requires_grad=True)
        losses = masked_square(said, region, normalise)
        losses.sum().backward()
        learned = said.grad != 0
        assert (learned == region[:, None].expand_as(learned)).all()
        assert losses[2] == 0  # an image that is all object has no background to learn


def test_a_normalised_loss_does_not_know_how_large_its_region_is():
    difference = torch.full((2, 4, 6, 6), 3.0)
    region = torch.zeros(2, 6, 6, dtype=torch.bool)
    region[0, :3, :2] = region[1] = True
    assert masked_square(difference, region).tolist() == pytest.approx([9 / 6, 9])
    assert masked_square(difference, region, normalise=True).tolist() == pytest.approx([9, 9])


def test_the_figures_variant_noises_the_rectangle_alone(either):
    draws = draws_of(either, range(8))
    whole, part = noised(either, draws), noised(either, draws, "rectangle")
    inside = draws.region[:, None].expand_as(whole)
    assert torch.equal(part[inside], whole[inside])
    assert torch.equal(part[~inside], draws.z0[~inside])
    assert (whole[~inside] != draws.z0[~inside]).float().mean() > 0.99


def test_target_is_what_the_scheduler_calls_it(either):
    draws = draws_of(either, range(4))
    if either.scheduler.config.prediction_type == "epsilon":
        wanted = draws.eps
    else:
        wanted = either.scheduler.get_velocity(draws.z0, draws.eps, draws.t)
    torch.testing.assert_close(target(either, draws), wanted)


def test_the_unet_hears_the_prompt_of_each_draw(pipe):
    heard = []
    spy = pipe.unet.register_forward_pre_hook(
        lambda net, args, kwargs: heard.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    try:
        run(pipe, batch_size=8)
    finally:
        spy.remove()
    (y,) = heard
    y_f, y_b = encode_prompts(pipe, Y_F)[0], encode_prompts(pipe, Y_B)[0]
    foreground = draws_of(pipe, range(8)).foreground
    assert 0 < foreground.sum() < 8
    assert all(torch.equal(y[i], y_f if foreground[i] else y_b) for i in range(8))


# Draws


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_p_is_honoured(pipe, p):
    foreground = draws_of(pipe, range(500), p=p, batch_size=500).foreground
    share, spread = foreground.float().mean(), 4 * (p * (1 - p) / len(foreground)) ** 0.5
    assert abs(share - p) <= spread
    (state,) = run(pipe, p=p, batch_size=12)
    assert (state.loss_f is None) == (p == 0) and (state.loss_b is None) == (p == 1)


def test_a_draw_depends_on_seed_step_and_place_alone(pipe):
    together = draws_of(pipe, range(8), step=5)
    for places in ([3], [6, 2]):
        alone = draws_of(pipe, places, step=5)
        for name in ("z0", "eps", "t", "foreground", "region"):
            assert torch.equal(getattr(alone, name), getattr(together, name)[places])
    for other in (draws_of(pipe, range(8), step=6), draws_of(pipe, range(8), step=5, seed=1)):
        assert not (other.eps == together.eps).any()


def test_regions_are_background_and_follow_the_flip(pipe):
    images, m_pre = pictures()
    examples = encode_examples(pipe, images, m_pre)
    turned = encode_examples(pipe, images.flip(-1), m_pre.flip(-1))
    assert torch.equal(examples.means[6:], turned.means[:6]) and len(examples.means) == 12
    assert torch.equal(examples.m_pre[6:], turned.m_pre[:6])
    assert len(encode_examples(pipe, images, m_pre, flip=False).means) == 6
    seen = set()
    for step in range(30):
        draws = draw(examples, step, range(8), batch_size=8, n_timesteps=1000)
        nearest = torch.cdist(draws.z0.flatten(1), examples.means.flatten(1)).argmin(1)
        seen |= set(nearest.tolist())
        covered = draws.region & examples.m_pre[nearest]
        assert not covered[~draws.foreground].any() and draws.region[draws.foreground].all()
    assert seen == set(range(12))


def test_every_image_is_taken_once_a_round_and_times_cover_the_schedule(pipe):
    images, m_pre = pictures()
    examples = encode_examples(pipe, images, m_pre, flip=False)
    rows, times = [], []
    for step in range(3):  # three steps of four are two rounds of six
        draws = draw(examples, step, range(4), batch_size=4, n_timesteps=1000)
        rows += torch.cdist(draws.z0.flatten(1), examples.means.flatten(1)).argmin(1).tolist()
        times.append((draws.t // 250).tolist())
    assert sorted(rows[:6]) == sorted(rows[6:]) == list(range(6)) and rows[:6] != rows[6:]
    assert times == [[0, 1, 2, 3]] * 3


def test_the_posterior_is_sampled_at_every_draw(pipe):
    images, m_pre = pictures(1)
    examples = encode_examples(pipe, images, m_pre, flip=False)
    z0 = draw(examples, 0, range(200), batch_size=200, n_timesteps=1000).z0
    spread = ((z0 - examples.means) / examples.deviations).std(0)
    assert (spread - 1).abs().max() < 0.35


# Ways of computing the same


def test_two_passes_of_eight_are_a_batch_of_sixteen(pipe):
    whole = run(pipe, steps=3, batch_size=16)
    parts = run(pipe, steps=3, batch_size=16, accumulate=2)
    for a, b in zip(whole, parts, strict=True):
        assert (a.loss, a.loss_f) == pytest.approx((b.loss, b.loss_f), rel=1e-4)
    a, b = (states[-1].pipeline(ema=False).unet.state_dict() for states in (whole, parts))
    assert_close(a, b, rtol=1e-3, atol=2e-4)
    # AdamW would take the same steps with gradients twice as large, so look at these as well
    a, b = (gradients(run(pipe, batch_size=16, accumulate=n)[0]) for n in (1, 2))
    assert_close(a, b, rtol=1e-3, atol=1e-6)


def gradients(state: FinetuneState) -> dict[str, torch.Tensor]:
    """Those of the last step."""
    return {name: weight.grad for name, weight in state._trainer.net.named_parameters()}


def test_gradient_checkpointing_changes_nothing_but_memory(pipe):
    calls = []
    block = pipe.unet.down_blocks[0].resnets[0]
    spy = block.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        plain = run(pipe, steps=2)
        once = len(calls)
        saving = run(pipe, steps=2, gradient_checkpointing=True)
    finally:
        spy.remove()
    assert len(calls) == once + 2 * once  # blocks run again on the way back
    assert [s.loss for s in plain] == pytest.approx([s.loss for s in saving], rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_stays_near_float32(pipe, precision):
    exact, coarse = run(pipe, steps=3, lr=1e-4), run(pipe, steps=3, lr=1e-4, precision=precision)
    losses = [s.loss for s in exact]
    assert [s.loss for s in coarse] == pytest.approx(losses, rel=0.02)
    assert [s.loss for s in coarse] != losses
    before, after = weights(pipe.unet), weights(coarse[-1].pipeline(ema=False).unet)
    assert all(value.dtype == torch.float32 for value in after.values())
    assert sum(not torch.equal(before[name], after[name]) for name in before) > 0.9 * len(before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_callers_autocast_and_no_grad_do_not_leak_in(pipe, precision):
    outside = run(pipe, steps=3, precision=precision)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        inside = run(pipe, steps=3, precision=precision)
    assert [s.loss for s in inside] == [s.loss for s in outside]


def test_states_are_means_since_the_one_before(pipe):
    single, paired = run(pipe, steps=5, p=1.0), run(pipe, steps=5, p=1.0, every=2)
    losses = [s.loss for s in single]
    assert [s.step for s in paired] == [2, 4, 5]
    wanted = [np.mean(losses[:2]), np.mean(losses[2:4]), losses[4]]
    assert [s.loss for s in paired] == pytest.approx(wanted)
    assert [row["loss"] for row in paired[-1].log] == [s.loss for s in paired]
    assert all(row["loss_b"] is None and row["seconds"] > 0 for row in paired[-1].log)


# What comes out


def test_learning_lowers_the_loss(pipe):
    states = run(pipe, steps=40, batch_size=8, lr=2e-3)
    first, last = (np.mean([s.loss for s in part]) for part in (states[:8], states[-8:]))
    assert last < 0.9 * first


def test_m_stays_as_it_was(pipe):
    parts = {name: weights(part) for name, part in components(pipe).items()}
    processors, unet = dict(pipe.unet.attn_processors), pipe.unet
    for rank in (None, 2):
        m_prime = run(pipe, lora_rank=rank, gradient_checkpointing=True)[-1].pipeline()
    for name, part in components(pipe).items():
        assert_close(parts[name], part.state_dict(), rtol=0, atol=0)
        assert not part.training and not any(w.requires_grad for w in part.parameters())
    assert pipe.unet is unet and not unet.is_gradient_checkpointing
    assert all(unet.attn_processors[name] is one for name, one in processors.items())
    kinds = {name: type(one) for name, one in m_prime.unet.attn_processors.items()}
    assert kinds == {name: type(one) for name, one in processors.items()}
    assert m_prime.vae is pipe.vae and m_prime.text_encoder is pipe.text_encoder
    assert m_prime.scheduler is not pipe.scheduler
    assert not any(w.requires_grad for w in m_prime.unet.parameters())
    assert not m_prime.unet.training and not m_prime.unet.is_gradient_checkpointing


def components(pipe) -> dict[str, torch.nn.Module]:
    return {name: getattr(pipe, name) for name in ("unet", "vae", "text_encoder")}


@pytest.mark.parametrize("rank", [None, 2])
def test_m_prime_is_saved_and_loaded_as_any_pipeline(pipe, tmp_path, rank):
    m_prime = run(pipe, lora_rank=rank)[-1].pipeline()
    m_prime.save_pretrained(tmp_path)
    again = load_model(tmp_path, device="cpu")
    assert_close(again.unet.state_dict(), m_prime.unet.state_dict(), rtol=0, atol=0)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    drawn = [
        one(Y_B, num_inference_steps=2, latents=noise, output_type="np", height=64, width=64).images
        for one in (m_prime, again)
    ]
    assert np.abs(drawn[0] - drawn[1]).max() < 1e-4  # layouts differ, and so does rounding


def test_m_prime_has_the_precision_of_m():
    half = tiny.pocket_shaped().to(torch.bfloat16)
    state = run(half, precision="bf16")[-1]
    assert state.pipeline().unet.dtype == torch.bfloat16
    assert all(w.dtype == torch.float32 for w in state._trainer.net.parameters())


def test_adapters_merge_into_a_plain_unet(pipe):
    state = run(pipe, steps=3, lr=1e-2, lora_rank=3)[-1]
    net, merged = state._trainer.net, state.pipeline(ema=False).unet
    z, t = torch.randn(2, 4, 16, 16), torch.tensor([10, 700])
    y = encode_prompts(pipe, [Y_F, Y_B])
    with torch.no_grad():
        adapted, plain, before = (u(z, t, y).sample for u in (net, merged, pipe.unet))
    torch.testing.assert_close(plain, adapted, rtol=1e-4, atol=1e-5)
    assert (plain - before).abs().max() > 100 * (plain - adapted).abs().max()
    old, new = pipe.unet.state_dict(), merged.state_dict()
    assert old.keys() == new.keys()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed and all(
        any(part in name for part in ("to_q.", "to_k.", "to_v.", "to_out.0.")) for name in changed
    )
    for name in changed:
        assert torch.linalg.matrix_rank(new[name] - old[name], rtol=1e-3) <= 3
    learned = sum(w.numel() for w in net.parameters() if w.requires_grad)
    assert 0 < learned < 0.2 * sum(w.numel() for w in pipe.unet.parameters())


def test_the_average_warms_up_anew(pipe):
    raw, averaged = [weights(pipe.unet)], None
    for state in finetune(
        pipe, *pictures(), y_f=Y_F, steps=4, every=1, batch_size=2, lr=1e-2, precision="fp32"
    ):
        raw.append(weights(state.pipeline(ema=False).unet))
        averaged = state.pipeline().unet.state_dict()
    slow = {name: value.double() for name, value in raw[0].items()}
    for n, now in enumerate(raw[1:], 1):
        decay = (1 + n) / (10 + n)  # far from the decay of .9999 that it starts anew towards
        slow = {name: decay * slow[name] + (1 - decay) * now[name] for name in slow}
    assert_close({k: v.double() for k, v in averaged.items()}, slow, rtol=1e-4, atol=1e-6)
    last = run(pipe, steps=2, batch_size=2, ema_decay=0.0)[-1]
    assert_close(weights(last.pipeline().unet), weights(last.pipeline(ema=False).unet))


def test_a_state_is_of_its_moment_and_seeds_make_runs(pipe):
    runs = [run(pipe, seed=seed, lora_rank=rank)[-1] for seed, rank in
            ((0, None), (0, None), (1, None), (0, 2), (0, 2))]  # fmt: skip
    a, again, b, c, c_again = (weights(state.pipeline(ema=False).unet) for state in runs)
    assert_close(a, again, rtol=0, atol=0)
    assert_close(c, c_again, rtol=0, atol=0)
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_the_package_offers_the_function_not_the_room():
    assert cdlib.finetune is finetune


# Refusals


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"p": 1.2}, r"p=1\.2: .* at least 0 and at most 1"),
        ({"p": float("nan")}, "p=nan"),
        ({"steps": 0}, "steps=0: .* at least 1"),
        ({"batch_size": 2.0}, r"batch_size=2\.0"),
        ({"batch_size": 6, "accumulate": 4}, "batch_size=6: must be a multiple of accumulate=4"),
        ({"lr": 0}, "lr=0: .* above 0"),
        ({"lr": "1e-4"}, "lr='1e-4'"),
        ({"rectangles": 0}, "rectangles=0"),
        ({"noise": "rectangles"}, "noise='rectangles'.*Did you mean 'rectangle'"),
        ({"lora_rank": 0}, "lora_rank=0"),
        ({"precision": "float16"}, "precision='float16': allowed are auto, fp32, bf16, fp16"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"ema_decay": 1.5}, r"ema_decay=1\.5"),
        ({"explodes": 0.5}, r"explodes=0\.5: .* at least 1"),
        ({"seed": -1}, "seed=-1"),
        ({"every": 0}, "every=0"),
        ({"y_f": 7}, "prompts="),
    ],
)
def test_parameters_that_do_not_fit_are_refused_at_once(pipe, wrong, says):
    with pytest.raises(ValueError, match=says):
        finetune(pipe, *pictures(), **{"y_f": Y_F, **wrong})


def test_images_and_masks_that_do_not_fit_are_refused_at_once(pipe):
    images, m_pre = pictures()
    for wrong, says in (
        ((images * 2, m_pre), "images: values"),
        ((images, m_pre.float()), "m_pre: must be a bool tensor, not torch.float32"),
        ((images, m_pre[:5]), r"m_pre: must be \(6, 16, 16\).*not \(5, 16, 16\)"),
        ((images, m_pre[:, :8]), r"not \(6, 8, 16\)"),
        ((images, m_pre.numpy()), "m_pre: must be a bool tensor, not ndarray"),
    ):
        with pytest.raises(ValueError, match=says):
            finetune(pipe, *wrong, y_f=Y_F)


# Trouble on the way


def spoil(net_hook):
    """A copy of the tiny pipeline whose U-Net's answers go through `net_hook(call, sample)`."""
    broken = tiny.pocket_shaped()
    broken.unet = copy.deepcopy(broken.unet)
    calls = []

    def hook(net, args, kwargs, output):
        calls.append(1)
        output.sample = net_hook(len(calls), output.sample)
        return output

    broken.unet.register_forward_hook(hook, with_kwargs=True)
    return broken


def nan_gradient(sample: torch.Tensor) -> torch.Tensor:
    return sample + (sample * 0).sqrt()  # adds nothing; its slope at 0 is infinite, times 0


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        (lambda call, x: x * float("nan") if call == 4 else x, "the loss is nan at step 4"),
        (lambda call, x: x * 1e30 if call == 4 else x, "the loss is inf at step 4"),
        (lambda call, x: x + 9 if call == 4 else x, "at step 4, more than explodes=5 times"),
        (lambda call, x: nan_gradient(x) if call == 4 else x, "gradient is not finite at step 4"),
    ],
    ids=["nan", "inf", "explodes", "gradient"],
)
def test_a_run_that_fails_stops_and_keeps_its_checkpoint(tmp_path, hook, says):
    path = tmp_path / "run.safetensors"
    states = []
    with pytest.raises(FloatingPointError, match=says + r".*run\.safetensors of step 2 is kept"):
        how = dict(y_f=Y_F, steps=9, every=2, batch_size=2, precision="fp32", checkpoint=path)
        for state in finetune(spoil(hook), *pictures(), **how):
            states.append((state.step, path.read_bytes()))
    assert [step for step, _ in states] == [2]
    assert path.read_bytes() == states[0][1] and not list(tmp_path.glob("*.part.*"))
    last = state.pipeline(ema=False).unet  # of step 3, whose update was the last
    assert all(torch.isfinite(value).all() for value in last.state_dict().values())


def test_too_high_a_rate_is_noticed(pipe):
    with pytest.raises(FloatingPointError, match=r"a lower lr than 3 may help; no checkpoint"):
        run(pipe, steps=20, lr=3)


def test_half_precision_that_always_overflows_gives_up():
    broken = spoil(lambda call, x: nan_gradient(x))
    with pytest.raises(FloatingPointError, match="gradient is not finite at step"):
        run(broken, steps=30, batch_size=1, precision="fp16")
