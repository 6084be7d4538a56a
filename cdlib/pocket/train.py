"""Train the pocket model: python -m cdlib.pocket.train --folder runs/pocket

Two stages, one after the other: the autoencoder, then U-Net and text encoder together on its
latents. Either goes on from its last checkpoint when the command is given again, with the same
batches it would have seen: what a step draws depends on the seed and the step's number alone.
Shipped weights can be trained further: --go-on-from cdlib/pocket/weights --steps 20000.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from ..files import written_whole
from ..precision import autocast, choose_precision
from ..store import fingerprint
from ..training import Ema, read_log, read_settings, save_checkpoint
from .loop import Progress, drawn_ahead, fit, last
from .nets import (
    LATENT_SIZE,
    assemble,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
    parameter_count,
)
from .pool import Pool, build_pool
from .vocabulary import build_tokenizer

# A dog and a cat of a few cells look alike, so "dog" is the word that takes longest to settle on
# its object: after 15,600 steps of even odds its attention still lagged behind the other words'.
HARD = ("dog",)

# What a run sees unless it is told otherwise: hours on two cores, or two minutes on a GPU, where as
# many samples in a tenth of the steps, drawn from more scenes, came to the same: on one H200, 45 s
# of rendering, 30 s and 80 s of training, and an AUC of bird and dog within 0.003 of the weights
# shipped here.
RECIPES = {
    "cpu": {"scenes": 24_000, "vae_steps": 3600, "vae_batch": 16, "steps": 21_600, "batch": 32,
            "lr": 5e-4, "every": 200},
    "cuda": {"scenes": 60_000, "vae_steps": 2000, "vae_batch": 64, "steps": 2400, "batch": 256,
             "lr": 8e-4, "every": 1000},
}  # fmt: skip


def _draws(seed: int, step: int, stage: int) -> tuple[np.random.Generator, torch.Generator]:
    """A step's two sources of randomness, from its number alone."""
    numbers = np.random.default_rng((seed, stage, step))
    return numbers, torch.Generator().manual_seed(int(numbers.integers(2**62)))


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 pixels to the [-1, 1] floats that the autoencoder speaks."""
    return images.float().div_(127.5).sub_(1)


def train_vae(pool: Pool, folder: Path, *, size=64, steps=3600, batch=16, lr=6e-4, seed=0,
              device="cpu", every=200) -> Iterator[Progress]:  # fmt: skip
    """The autoencoder: absolute and squared error, and a light pull of latents to N(0, I)."""
    torch.manual_seed(seed)
    vae = build_vae(size).to(device, memory_format=torch.channels_last)

    def draw(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        numbers, generator = _draws(seed, step, 0)
        x = pool.images[numbers.integers(len(pool.images), size=batch)]
        return x, torch.randn(batch, 4, LATENT_SIZE, LATENT_SIZE, generator=generator)

    def loss_of(x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        x = to_unit(x).contiguous(memory_format=torch.channels_last)
        with autocast(x.device, choose_precision("auto", x.device)):
            posterior = vae.encode(x).latent_dist
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        return F.l1_loss(decoded, x) + 2 * F.mse_loss(decoded, x) + 2e-4 * kl

    settings = {"images": len(pool.images), "size": size, "batch": batch, "lr": lr, "seed": seed}
    yield from fit(vae, draw, loss_of, folder / "vae.safetensors", steps=steps, lr=lr,
                   settings=settings, every=every)  # fmt: skip


@torch.no_grad()
def encode_pool(vae, pool: Pool, device="cpu", batch=256) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior mean and deviation, (N, 4, 16, 16) float16 each, of every image of the pool."""
    means, deviations = [], []
    for start in tqdm(range(0, len(pool.images), batch), desc="latents", mininterval=10):
        x = to_unit(pool.images[start : start + batch].to(device))
        with autocast(x.device, choose_precision("auto", x.device)):
            posterior = vae.encode(x).latent_dist
        means.append(posterior.mean.half().cpu())
        deviations.append(posterior.std.half().cpu())
    return torch.cat(means).contiguous(), torch.cat(deviations).contiguous()


def pool_latents(vae, pool: Pool, folder: Path, device="cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """`encode_pool`, kept in `folder` under the pool's name and the autoencoder's fingerprint."""
    made_by = fingerprint(folder / "vae.safetensors").removeprefix("sha256-")
    cache = folder / f"latents-{pool.name}-{made_by}.safetensors"
    if not cache.exists():
        means, deviations = encode_pool(vae, pool, device)
        with written_whole(cache) as aside:
            save_file({"means": means, "deviations": deviations}, aside)
    kept = load_file(cache)
    return kept["means"], kept["deviations"]


def scene_odds(facts: list[dict], emphasis: float = 3.0) -> np.ndarray:
    """How likely a step is to draw each scene, (N,): those with a `HARD` word `emphasis` times.

    facts: a pool's. The odds add up to 1.
    """
    hard = [any(name in HARD for name, _ in one.get("objects", ())) for one in facts]
    weight = np.where(hard, emphasis, 1.0)
    return weight / weight.sum()


class Denoiser(torch.nn.Module):
    """U-Net and text encoder as the one thing that is trained."""

    def __init__(self, tokenizer):
        super().__init__()
        self.unet, self.text_encoder = build_unet(), build_text_encoder(tokenizer)
        self.tokenizer = tokenizer

    def token_ids(self, captions: list[str]) -> torch.Tensor:
        """(B, tokens) int64, captions padded to the tokenizer's length."""
        told = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
        return told.input_ids

    def forward(self, z: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.unet(z, t, self.text_encoder(ids)[0]).sample


def train_denoiser(pool: Pool, latents, scale: float, folder: Path, *, steps=21_600, batch=32,
                   lr=5e-4, seed=0, device="cpu", every=200, compile=False,
                   workers=0) -> Iterator[Progress]:  # fmt: skip
    """The diffusion model, by v-prediction on the scaled latents `scale` * z0.

    workers: processes that draw the steps to come; 0 draws each step when its turn has come.
    """
    torch.manual_seed(seed)
    model = Denoiser(build_tokenizer()).to(device, memory_format=torch.channels_last)
    if torch.device(device).type == "cpu":
        # the fused kernel's backward pass is several times slower than plain products there
        model.unet.set_attn_processor(AttnProcessor())
    if compile:
        model.unet.compile()
    scheduler = build_scheduler()
    means, deviations = latents
    odds = scene_odds(pool.facts)
    n_timesteps = scheduler.config.num_train_timesteps

    def draw(step: int) -> tuple[torch.Tensor, ...]:
        numbers, generator = _draws(seed, step, 1)
        picks = torch.from_numpy(numbers.choice(len(means), size=batch, p=odds))
        z0 = means[picks].float()
        z0 = scale * (z0 + deviations[picks].float() * torch.randn(z0.shape, generator=generator))
        noise = torch.randn(z0.shape, generator=generator)
        # one draw from each of `batch` equal stretches of time: the same law, less variance
        u = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        t = (u * n_timesteps).long().clamp(max=n_timesteps - 1)  # u may round up to 1
        z, v = scheduler.add_noise(z0, noise, t), scheduler.get_velocity(z0, noise, t)
        return z, t, model.token_ids(pool.captions(picks, numbers)), v

    def loss_of(z: torch.Tensor, t: torch.Tensor, ids: torch.Tensor, v: torch.Tensor):
        with autocast(z.device, choose_precision("auto", z.device)):
            predicted = model(z.contiguous(memory_format=torch.channels_last), t, ids)
        return F.mse_loss(predicted.float(), v)

    settings = {"images": len(means), "scale": scale, "batch": batch, "lr": lr, "seed": seed}
    drawn = drawn_ahead(draw, steps, workers)
    yield from fit(model, drawn, loss_of, folder / "denoiser.safetensors", steps=steps, lr=lr,
                   settings=settings, every=every)  # fmt: skip


def export(folder: Path, vae, model: Denoiser, scale: float, told: dict) -> None:
    """Write the pipeline as fp16 safetensors in the diffusers layout, and `told` about it."""
    vae.register_to_config(scaling_factor=scale)
    pipe = assemble(vae, model.text_encoder, model.tokenizer, model.unet)
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    pipe.to(torch.float32)
    # transformers would obey a "float16" here and diffusers would not: half a pipeline each
    config = folder / "text_encoder" / "config.json"
    config.write_text(config.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))
    (folder / "training.json").write_text(json.dumps(told, indent=1) + "\n")


def restore_from_export(pipeline: Path, folder: Path) -> None:
    """Checkpoints in `folder` out of an exported pipeline, where there are none yet.

    They stand at the step that the export had reached, with its log, its averaged weights and an
    optimizer that remembers nothing: a run goes on from shipped weights when `steps` is raised.
    """
    told = json.loads((pipeline / "training.json").read_text())
    pipe = StableDiffusionPipeline.from_pretrained(pipeline, safety_checker=None)
    model = Denoiser(build_tokenizer())
    model.unet.load_state_dict(pipe.unet.state_dict())
    model.text_encoder.load_state_dict(pipe.text_encoder.state_dict())
    shared = {"images": told["pool"]["images"], "seed": told["seed"]}
    scale = round(pipe.vae.config.scaling_factor, 4)
    own = {"vae": {"size": told["size"]}, "denoiser": {"scale": scale}}
    for stage, module in (("vae", pipe.vae), ("denoiser", model)):
        path, run = folder / f"{stage}.safetensors", told[stage]
        if not path.exists():
            settings = {**shared, **own[stage], "batch": run["batch"], "lr": run["lr"]}
            blank = torch.optim.AdamW(module.parameters())
            save_checkpoint(path, module, Ema(module), blank, run["steps"], run["log"], settings)


def describe_run(args, vae, model: Denoiser, images: int) -> dict:
    """What the model card says of the training: data, sizes, steps, losses, hours, hardware."""
    return {
        "size": args.size,
        "seed": args.seed,
        "pool": {"images": images, "everyday": args.scenes, "places": args.scenes // 10,
                 "radiographs": args.scenes // 10},
        "parameters": {"vae": parameter_count(vae), "unet": parameter_count(model.unet),
                       "text_encoder": parameter_count(model.text_encoder)},
        **{stage: _stage(args.folder / f"{stage}.safetensors") for stage in ("vae", "denoiser")},
        "hardware": hardware(args.device),
        "precision": choose_precision("auto", torch.device(args.device)),
        "torch": torch.__version__.split("+")[0],
    }  # fmt: skip


def hardware(device: str) -> str:
    """The device in words, as the card names it."""
    if torch.device(device).type == "cuda":
        return f"one {torch.cuda.get_device_name(device)}"
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} thread(s)"


def _stage(checkpoint: Path) -> dict:
    """One stage's steps, batch, learning rate and log, as its checkpoint has them."""
    log, settings = read_log(checkpoint), read_settings(checkpoint)
    return {"steps": log[-1]["step"], "batch": settings["batch"], "lr": settings["lr"], "log": log}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line, what it leaves open filled in from the device's recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket"), help="checkpoints")
    parser.add_argument(
        "--go-on-from", type=Path, default=None, help="an exported pipeline, for a new --folder"
    )
    parser.add_argument("--export", type=Path, default=None, help="where the pipeline is written")
    parser.add_argument("--size", type=int, default=64, choices=(64, 128), help="pixels")
    parser.add_argument("--scenes", type=int, help="everyday scenes in the pool")
    parser.add_argument("--vae-steps", type=int, help="steps of the autoencoder")
    parser.add_argument("--vae-batch", type=int)
    parser.add_argument("--steps", type=int, help="steps of the diffusion model")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--lr", type=float, help="peak learning rate of the diffusion model")
    parser.add_argument("--every", type=int, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes beside this one that "
                        "render scenes and draw batches")  # fmt: skip
    parser.add_argument("--compile", action="store_true", help="faster, after a minute")
    args = parser.parse_args(argv)
    for name, value in RECIPES[torch.device(args.device).type].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    torch.backends.cudnn.benchmark = True  # every step has the same shapes
    few = args.scenes // 10
    pool = build_pool(args.folder, args.size, args.scenes, few, few, max(1, args.workers))
    if args.go_on_from:
        restore_from_export(args.go_on_from, args.folder)
    shared = {"seed": args.seed, "device": args.device, "every": args.every}
    state = last(train_vae(pool, args.folder, size=args.size, steps=args.vae_steps,
                           batch=args.vae_batch, **shared))  # fmt: skip
    state.ema.copy_to(state.module)
    vae = state.module.eval()
    latents = pool_latents(vae, pool, args.folder, args.device)
    begun = args.folder / "denoiser.safetensors"
    # a run that goes on keeps its scale, whose last digit another machine might round otherwise
    scale = (
        read_settings(begun)["scale"]
        if begun.exists()
        else round(1 / float(latents[0].float().std()), 4)
    )
    state = last(train_denoiser(pool, latents, scale, args.folder, steps=args.steps,
                                batch=args.batch, lr=args.lr, compile=args.compile,
                                workers=args.workers, **shared))  # fmt: skip
    state.ema.copy_to(state.module)
    target = args.export or args.folder / "pipeline"
    told = describe_run(args, vae, state.module, len(pool.images))
    export(target, vae.cpu(), state.module.cpu().eval(), scale, told)
    print(json.dumps({"pipeline": str(target), "scale": scale, "steps": state.step}))


if __name__ == "__main__":
    main()
