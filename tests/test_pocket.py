"""The pocket model's recipe: its words, its pool, its nets, and training that survives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from cdlib.pocket import loop, nets, train, vocabulary
from cdlib.pocket.card import stale_records
from cdlib.pocket.pool import ONE, ROTA, Pool, build_pool, draw_caption, training_scene
from cdlib.training import Ema, read_log
from cdlib.world import BACKGROUNDS, COLOURS, CONCEPTS, render_scene
from cdlib.world.backgrounds import PLACES

ROOT = Path(__file__).resolve().parents[1]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return vocabulary.build_tokenizer()


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Pool:
    return build_pool(tmp_path_factory.mktemp("pool"), everyday=32, places=4, radiographs=4)


@pytest.fixture(scope="module")
def latents() -> tuple[torch.Tensor, torch.Tensor]:
    """What `encode_pool` gives for a pool of 40: means and deviations."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(40, 4, 16, 16, generator=generator).half()
    return means, torch.full_like(means, 0.1)


# Words


def test_every_word_of_the_world_is_one_token(tokenizer):
    captions = [render_scene("test", k).caption for k in range(60)]
    captions += [render_scene("test", k, domain="radiograph").caption for k in range(9)]
    words = {word for caption in captions for word in caption.split()}
    words |= {*CONCEPTS, *COLOURS, *BACKGROUNDS, "background", "Bird"}
    for word in words:
        assert tokenizer.tokenize(word) == [word.lower() + "</w>"]
    ids = tokenizer(sorted(words - {"Bird"})).input_ids
    assert len({row[1] for row in ids}) == len(ids)


def test_other_words_fall_to_pieces_and_none_is_lost(tokenizer):
    for word in ("zebra", "birds", "polar", "backgrounds", "scar", "dogs"):
        pieces = tokenizer.tokenize(word)
        assert len(pieces) > 1 and tokenizer.unk_token not in pieces
        assert "".join(pieces) == word + "</w>"


def test_merges_of_one_word_never_reach_into_another():
    words = ("red", "bred", "red", "a", "an", "and", "rand", "person", "son")
    table, merges = vocabulary.byte_pair_tables(words)
    assert len(table) == len(set(table.values())) and len(merges) == len(set(merges))
    assert all(left + right in table for left, right in merges)
    assert all(word + "</w>" in table for word in words)


def test_tokenizer_comes_back_from_disk(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    captions = ["", "a photo of a red bird on the grass", "a zebra", "the background", "word " * 30]
    how = {"padding": "max_length", "truncation": True}
    assert again(captions, **how).input_ids == tokenizer(captions, **how).input_ids
    assert again.model_max_length == tokenizer.model_max_length == vocabulary.MAX_LENGTH
    padded = again("a bird", **how).input_ids
    assert len(padded) == vocabulary.MAX_LENGTH
    assert padded[-1] == again.eos_token_id == again.pad_token_id
    assert again.decode(again("a red bird").input_ids, skip_special_tokens=True).strip() == (
        "a red bird"
    )


def test_the_longest_caption_fits(tokenizer):
    phrases = [f"a {colour} {name}" for colour in COLOURS for name in CONCEPTS]
    places = [where for _, where in PLACES.values()]
    longest = max(len(tokenizer(f"a photo of {p} and {p} {w}").input_ids)
                  for p in phrases for w in places)  # fmt: skip
    assert longest <= vocabulary.MAX_LENGTH


# The pool


def test_pool_is_what_the_world_drew_and_is_read_again(pool, tmp_path):
    assert pool.images.shape == (40, 3, 64, 64) and pool.images.dtype == torch.uint8
    first = render_scene("train", 0, concept=CONCEPTS[0])
    assert (pool.images[0].permute(1, 2, 0).numpy() == first.image).all()
    place = render_scene("train", 32, concept=ROTA[32 % len(ROTA)])
    assert (pool.images[32].permute(1, 2, 0).numpy() == place.plate).all()
    assert pool.facts[32] == {"objects": [], "place": place.background}
    small = build_pool(tmp_path, size=16, everyday=2, places=1, radiographs=1)
    (facts,) = tmp_path.glob("pool-16-2-1-1-*.json")
    facts.write_text(json.dumps(["read"] * 4))
    again = build_pool(tmp_path, size=16, everyday=2, places=1, radiographs=1)
    assert again.facts == ["read"] * 4 and (again.images == small.images).all()


def test_every_other_round_of_the_pool_is_of_pairs():
    rounds = np.arange(240) // len(ROTA)
    many = np.array([len(training_scene(k, 16).objects) > 1 for k in range(240)])
    assert many[rounds % 2 == 1].mean() > 0.8 and many[rounds % 2 == 0].mean() < 0.35
    assert all(training_scene(k, 16).mask_of(ROTA[k % len(ROTA)]).any() for k in range(48))


def test_captions_speak_of_facts_alone():
    facts = {"objects": [["dog", "brown"], ["boat", "red"]], "place": "snow"}
    rng = np.random.default_rng(0)
    captions = Counter(draw_caption(facts, rng) for _ in range(2000))
    words = {word for caption in captions for word in caption.split()}
    allowed = "a photo of brown dog and red boat in the snow"
    assert words == set(allowed.split())
    assert not any("brown boat" in c or "red dog" in c for c in captions)
    assert captions.keys() >= {
        "",
        "a photo of a red boat and a brown dog in the snow",
        "a dog and a boat",
    }
    told = [caption for caption in captions.elements() if caption]
    assert np.mean([" and " not in caption for caption in told]) == pytest.approx(ONE, abs=0.03)
    assert "background" not in words
    empty = draw_caption({"objects": [], "place": "sea"}, np.random.default_rng(1))
    assert empty in ("", "the sea", "a photo of the sea")


def test_scenes_with_a_hard_word_are_drawn_more_often(pool):
    odds = train.scene_odds(pool.facts, emphasis=3)
    hard = np.array([any(n in train.HARD for n, _ in one.get("objects", ())) for one in pool.facts])
    assert 0 < hard.sum() < len(hard) and odds.sum() == pytest.approx(1)
    assert np.ptp(odds[hard]) == np.ptp(odds[~hard]) == 0
    assert odds[hard][0] == pytest.approx(3 * odds[~hard][0])
    assert np.ptp(train.scene_odds(pool.facts, emphasis=1)) == 0


def test_a_tenth_of_captions_is_empty_and_some_are_bare(pool):
    captions = pool.captions(np.tile(np.arange(32), 60), np.random.default_rng(0))
    assert np.mean([c == "" for c in captions]) == pytest.approx(0.10, abs=0.025)
    bare = [not c.startswith("a photo of ") for c in captions if c]
    assert np.mean(bare) == pytest.approx(0.15, abs=0.03)
    told = pool.captions(range(36, 40), np.random.default_rng(2))
    assert all(c == "" or c.startswith("final report examination ") for c in told)


# The nets


@pytest.mark.parametrize("size", [64, 128])
def test_latents_are_16_by_16_at_either_size(size):
    vae = nets.build_vae(size)
    with torch.no_grad():
        z = vae.encode(torch.zeros(1, 3, size, size)).latent_dist.mean
        assert z.shape == (1, 4, 16, 16)
        assert vae.decode(z).sample.shape == (1, 3, size, size)


def test_no_autoencoder_for_another_size():
    with pytest.raises(ValueError, match="size=96: allowed are 64, 128"):
        nets.build_vae(96)


def test_words_are_looked_up_on_the_way_up_only():
    unet = nets.build_unet()
    across = [name for name, _ in unet.named_modules() if name.endswith("attn2")]
    assert len(across) == 3 and all(name.startswith("up_blocks.1.") for name in across)
    for name in across:
        module = unet.get_submodule(name)
        assert module.is_cross_attention and module.inner_dim // module.heads == 32


def test_schedule_is_the_cosine_one_with_four_times_the_signal():
    def odds(scheduler):
        abar = scheduler.alphas_cumprod.double()[:-1]  # the last is all but nothing
        return abar / (1 - abar)

    plain = odds(DDIMScheduler(beta_schedule="squaredcos_cap_v2"))
    assert (odds(nets.build_scheduler()) / plain - 4).abs().max() < 0.01
    same = DDIMScheduler(trained_betas=nets.shifted_cosine(cells=32))
    torch.testing.assert_close(odds(same), plain, rtol=1e-3, atol=1e-6)


def test_denoiser_hears_words(tokenizer):
    torch.manual_seed(0)
    model = train.Denoiser(tokenizer).eval()
    z, t = torch.randn(1, 4, 16, 16).repeat(3, 1, 1, 1), torch.tensor([500] * 3)
    with torch.no_grad():
        a, b, c = model(z, t, model.token_ids(["a bird", "a red bird", "a bird"]))
    assert a.shape == (4, 16, 16) and torch.equal(a, c) and not torch.allclose(a, b)
    weights = nets.parameter_count(model) + nets.parameter_count(nets.build_vae())
    assert 2 * weights < 40e6  # bytes of the fp16 files


# Training


def test_learning_rate_rises_stays_and_falls():
    rates = [loop.learning_rate(k, 2000, 3.0, warmup=100) for k in range(2000)]
    assert rates[0] == pytest.approx(0.03) and rates[99] == 3.0
    assert set(rates[99:1201]) == {3.0}
    assert (np.diff(rates[:100]) > 0).all() and (np.diff(rates[1200:]) <= 0).all()
    assert rates[-1] == pytest.approx(0.03) and min(rates) > 0
    assert rates[1600] == pytest.approx(1.5)


def test_ema_is_the_plain_average():
    module = torch.nn.Linear(3, 2)
    ema, slow = Ema(module, 0.9), {k: p.detach().double() for k, p in module.named_parameters()}
    for update in range(1, 41):
        with torch.no_grad():
            for p in module.parameters():
                p.add_(torch.randn_like(p))
        ema.update(module)
        decay = min(0.9, (1 + update) / (10 + update))
        slow = {k: decay * slow[k] + (1 - decay) * p for k, p in module.named_parameters()}
    for name, value in slow.items():
        torch.testing.assert_close(ema.shadow[name].double(), value, rtol=1e-5, atol=1e-6)
    ema.copy_to(module)
    assert torch.equal(module.weight, ema.shadow["weight"])


def line(steps: int, path: Path, fails_at: int | None = None, **how):
    """A loop that fits a linear layer to noise."""
    torch.manual_seed(0)
    module = torch.nn.Linear(4, 1)

    def draw(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return x, torch.tensor(float("nan") if step == fails_at else 1)

    def loss_of(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        return (module(x) - 1).square().mean() * factor

    return train.fit(module, draw, loss_of, path, steps=steps, lr=1e-2, settings={"seed": 0}, **how)


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_checkpoint(tmp_path):
    path = tmp_path / "line.safetensors"
    with pytest.raises(FloatingPointError, match=r"nan at step 5; .*line\.safetensors is kept"):
        train.last(line(10, path, fails_at=5, every=2))
    kept = path.read_bytes()
    state = next(line(10, path, every=2))
    assert state.step == 5 and path.read_bytes() == kept  # goes on from step 4
    assert all(torch.isfinite(weight).all() for weight in load_file(path).values())


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "line.safetensors"
    train.last(line(2, path))
    with pytest.raises(ValueError, match=r"seed=1: the run in .* was begun with 0"):
        module, other = torch.nn.Linear(4, 1), {"seed": 1}
        next(train.fit(module, None, None, path, steps=4, lr=1e-2, settings=other))


def test_log_and_result_do_not_depend_on_interruptions(tmp_path):
    whole = train.last(line(10, tmp_path / "whole.safetensors", every=2))
    broken = tmp_path / "broken.safetensors"
    for stop in (3, 1, 4):
        loop = line(10, broken, every=2)
        for _ in range(stop):
            next(loop)
        loop.close()
    state = train.last(line(10, broken, every=2))
    assert torch.equal(state.module.weight, whole.module.weight)
    assert state.ema.updates == whole.ema.updates == 10
    done = train.last(line(10, broken, every=2))  # nothing is left to do
    assert done.step == 10 and torch.equal(done.module.weight, whole.module.weight)


def test_autoencoder_resumes_bit_by_bit_past_a_torn_file(pool, tmp_path):
    how = dict(steps=4, batch=2, every=2)
    whole = train.last(train.train_vae(pool, tmp_path / "whole", **how))
    loop = train.train_vae(pool, tmp_path / "broken", **how)
    for _ in range(3):  # one step past the checkpoint, lost
        next(loop)
    loop.close()
    torn = tmp_path / "broken" / ".vae.part.safetensors"
    torn.write_bytes(b"half a checkpoint")
    train.last(train.train_vae(pool, tmp_path / "broken", **how))
    assert not torn.exists()
    same_tensors(tmp_path / "whole" / "vae.safetensors", tmp_path / "broken" / "vae.safetensors")
    means, deviations = train.encode_pool(whole.module, pool, batch=16)
    assert means.shape == deviations.shape == (40, 4, 16, 16) and means.dtype == torch.float16


def same_tensors(a: Path, b: Path) -> None:
    first, second = load_file(a), load_file(b)
    assert first.keys() == second.keys()
    differ = [name for name in first if not torch.equal(first[name], second[name])]
    assert not differ, f"{len(differ)} of {len(first)} tensors differ: {differ[:3]}"


KILLED = """
    import json, os, signal, sys
    from pathlib import Path
    import torch
    from cdlib.pocket import train
    from cdlib.pocket.pool import Pool
    from safetensors.torch import load_file
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    data = load_file(folder / "data.safetensors")
    pool = Pool(torch.empty(0), json.loads((folder / "facts.json").read_text()))
    latents = data["means"], data["deviations"]
    for state in train.train_denoiser(pool, latents, 0.9, folder, steps=5, batch=4, every=2):
        if state.step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_denoiser_killed_in_another_process_resumes_bit_by_bit(pool, latents, tmp_path):
    save_file(
        dict(zip(("means", "deviations"), latents, strict=True)), tmp_path / "data.safetensors"
    )
    (tmp_path / "facts.json").write_text(json.dumps(pool.facts))
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    how = dict(steps=5, batch=4, every=2)
    resumed = list(train.train_denoiser(pool, latents, 0.9, tmp_path, **how))
    assert resumed[0].step == 3  # went on after the checkpoint of step 2
    train.last(train.train_denoiser(pool, latents, 0.9, tmp_path / "whole", **how))
    same_tensors(tmp_path / "denoiser.safetensors", tmp_path / "whole" / "denoiser.safetensors")


def test_steps_drawn_ahead_are_those_drawn_in_turn(pool, latents, tmp_path):
    def losses(workers: int) -> list[float]:
        run = train.train_denoiser(
            pool, latents, 0.9, tmp_path / str(workers), steps=5, batch=4, workers=workers
        )
        return [state.loss for state in run]

    assert losses(2) == losses(0)


def test_steps_are_drawn_ahead_from_the_first_that_is_asked_for():
    squares = loop.drawn_ahead(lambda step: step**2, 7, workers=2)
    assert [squares(step) for step in (3, 4, 5, 6)] == [9, 16, 25, 36]
    with pytest.raises(ValueError, match="step=3: steps are drawn in a row, and 7 is the next"):
        squares(3)


def test_each_device_has_its_recipe_and_a_word_on_the_command_line_goes_first():
    slow, fast = (train.parse(["--device", device]) for device in ("cpu", "cuda"))
    assert fast.steps < slow.steps and fast.batch > slow.batch and fast.scenes > slow.scenes
    told = train.parse(["--device", "cuda", "--batch", "8", "--vae-steps", "5"])
    assert (told.batch, told.vae_steps, told.steps) == (8, 5, fast.steps)


def test_the_last_stretch_of_time_ends_before_step_1000(pool, latents, tmp_path, monkeypatch):
    highest = lambda n, generator: torch.full((n,), 1 - 2.0**-24)  # noqa: E731
    monkeypatch.setattr(train.torch, "rand", highest)
    next(train.train_denoiser(pool, latents, 1.0, tmp_path, steps=1, batch=32))


# The shipped form


@pytest.fixture(scope="module")
def exported(tokenizer, tmp_path_factory) -> tuple[Path, train.Denoiser]:
    """A pipeline of untrained nets as the recipe leaves it, and what was exported."""
    torch.manual_seed(0)
    folder, model = tmp_path_factory.mktemp("pipeline"), train.Denoiser(tokenizer)
    train.export(folder, nets.build_vae(), model, 0.8125, {"steps": 3})
    return folder, model


def test_export_is_a_plain_pipeline(exported):
    folder, model = exported
    assert json.loads((folder / "training.json").read_text()) == {"steps": 3}
    parts = json.loads((folder / "model_index.json").read_text())
    libraries = {part[0] for part in parts.values() if isinstance(part, list)}
    assert libraries <= {"diffusers", "transformers", None}
    assert {p.suffix for p in folder.rglob("*") if p.is_file()} <= {".json", ".safetensors", ".txt"}
    assert sum(p.stat().st_size for p in folder.rglob("*.safetensors")) < 40e6
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    assert pipe.vae.config.scaling_factor == 0.8125
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    torch.testing.assert_close(pipe.scheduler.betas, nets.build_scheduler().betas)
    torch.testing.assert_close(pipe.unet.conv_in.weight, model.unet.conv_in.weight)
    see_two_steps(pipe)


def see_two_steps(pipe: StableDiffusionPipeline) -> None:
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a photo of a bird", num_inference_steps=2, output_type="np").images
    assert image.shape == (1, 64, 64, 3) and np.isfinite(image).all()


def test_export_runs_as_loaded_with_no_options(exported):
    see_two_steps(StableDiffusionPipeline.from_pretrained(exported[0], safety_checker=None))


def test_recorded_gates_speak_of_the_shipped_weights_and_code():
    assert stale_records() == []


def test_a_record_of_other_weights_or_code_is_stale(exported):
    manifest = {"model": "another", "code": "another"}
    (exported[0] / "gates.json").write_text(json.dumps({"manifest": manifest}))
    first, second = stale_records(exported[0])
    assert "another model (another, now sha256-" in first and "another code" in second


def test_training_goes_on_from_exported_weights(exported, pool, latents, tmp_path):
    log = [{"step": 3, "loss": 1.0, "seconds": 2.0}]
    told = {"size": 64, "seed": 0, "pool": {"images": 40}}
    told["vae"] = {"steps": 3, "batch": 16, "lr": 6e-4, "log": log}
    told["denoiser"] = {"steps": 3, "batch": 4, "lr": 5e-4, "log": log}
    model = exported[1]
    train.export(tmp_path / "pipeline", nets.build_vae(), model, 0.8125, told)
    train.restore_from_export(tmp_path / "pipeline", tmp_path)
    how = dict(steps=4, batch=4, every=1)
    first = next(train.train_denoiser(pool, latents, 0.8125, tmp_path, **how))
    assert first.step == 4 and read_log(tmp_path / "denoiser.safetensors")[0] == log[0]
    before, after = model.unet.conv_in.weight, first.module.unet.conv_in.weight
    torch.testing.assert_close(after, before, rtol=0, atol=5e-3)  # one step away, not anew
    train.restore_from_export(tmp_path / "pipeline", tmp_path)  # leaves what is there
    assert read_log(tmp_path / "denoiser.safetensors")[-1]["step"] == 4
