"""`finetune`: its checks, and the loop that yields its state as it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cdlib.checks import one_of, real_number, whole_number
from cdlib.finetune.draws import encode_examples
from cdlib.finetune.objective import NOISES
from cdlib.finetune.trainer import Losses, Trainer
from cdlib.models import check_images, encode_prompts, latent_factor
from cdlib.precision import PRECISIONS, autocast, choose_precision
from cdlib.store import tensor_digest

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


@dataclass
class FinetuneState:
    """Where a fine-tuning is.

    step: steps done. loss: mean over all draws since the state before; loss_f, loss_b: over those
    with the prompt y_f and y_b, None if there was none. log: a row like this, with the seconds
    that training has taken so far, for every state up to this one.
    """

    step: int
    loss: float
    loss_f: float | None
    loss_b: float | None
    log: list[dict] = field(repr=False)
    _trainer: Trainer = field(repr=False)

    def pipeline(self, ema: bool = True) -> StableDiffusionPipeline:
        """m' as an ordinary pipeline, ready for `remove` and `save_pretrained`.

        It has m's precision, and shares m's autoencoder and text encoder. Its U-Net is a copy of
        its own, adapters merged; with `ema` it has the weights' moving average. Take it before
        asking for the next state: training goes on in place.
        """
        return self._trainer.pipeline(ema)


def finetune(
    pipe: StableDiffusionPipeline,
    images: torch.Tensor,  # (N, 3, H, W) in [0, 1]
    m_pre: torch.Tensor,  # (N, h, w) bool, True on the object
    *,
    y_f: str,
    y_b: str = "a photo of a background",
    p: float = 0.5,
    steps: int = 500,
    batch_size: int = 16,
    lr: float = 1e-4,
    rectangles: int = 1,
    noise: str = "whole",
    normalise: bool = False,
    flip: bool = True,
    lora_rank: int | None = None,
    precision: str = "auto",
    accumulate: int = 1,
    gradient_checkpointing: bool = False,
    ema_decay: float = 0.9999,
    explodes: float = 5.0,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    every: int = 50,
) -> Iterator[FinetuneState]:
    """Fine-tune the U-Net on images of one concept (section 4.1), yielding its state as it goes.

    With probability p a draw has the prompt y_f and the loss on all of the latent; otherwise it
    has y_b and the loss inside a random rectangle, or the union of several `rectangles`, without
    the cells of `m_pre`. AdamW with torch's defaults at a constant lr (section 4.3). `pipe` is not
    changed; text encoder and autoencoder are not trained.

    noise: "whole" or "rectangle", see `objective.noised`. normalise: see `masked_square`.
    batch_size: draws in a step, over all processes and all of its `accumulate` passes together.
    flip: learn from mirror images as often.
    lora_rank: None trains all weights; a number trains adapters of that rank on the attention
        layers, merged when a pipeline is asked for.
    precision: of the products in U-Net and autoencoder. "auto" is "bf16" where the hardware has it,
        which then takes half the time and needs no care, having the range of "fp32", and that
        elsewhere; "fp16" is for GPUs without it, with its loss scaled. Weights, loss and optimiser
        are float32 in all of them.
    gradient_checkpointing: less memory for a third more time.
    ema_decay: of the weights' moving average, whose warm-up starts anew with this run: the paper's
        .9999 with the warm-up of the model it starts from would lag by ten thousand steps.
    explodes: stop at a loss of more than this many times what zeros for an answer would cost.
        That is about 1 where the loss counts, ten times what a trained model has.
    checkpoint: a file for the state of the run. If it exists, the run goes on from there: on the
        same machine to the same weights, bit for bit, that it would have had without a break.
    every: steps from one state, and checkpoint, to the next; the last step always has both.

    Raises ValueError, at once, for an argument that does not fit and for a checkpoint of another
    run; FloatingPointError, on the way, for a loss that explodes or is not a number. The last
    checkpoint is kept then.
    """
    check_images(pipe, images)
    check_masks(pipe, images, m_pre)
    settings = {
        "y_f": y_f,
        "y_b": y_b,
        "p": real_number("p", p, 0, 1),
        "batch_size": whole_number("batch_size", batch_size, 1),
        "lr": real_number("lr", lr, 0, above=True),
        "rectangles": whole_number("rectangles", rectangles, 1),
        "noise": one_of("noise", noise, NOISES),
        "normalise": bool(normalise),
        "flip": bool(flip),
        "lora_rank": None if lora_rank is None else whole_number("lora_rank", lora_rank, 1),
        "precision": choose_precision(precision, pipe.device, PRECISIONS),
        "ema_decay": real_number("ema_decay", ema_decay, 0, 1),
        "seed": whole_number("seed", seed, 0),
    }
    steps, every = whole_number("steps", steps, 1), whole_number("every", every, 1)
    explodes = real_number("explodes", explodes, 1)
    with autocast(pipe.device, "fp32"):
        prompts = encode_prompts(pipe, [y_b, y_f])
    with autocast(pipe.device, settings["precision"]):
        examples = encode_examples(pipe, images, m_pre, flip)
    if checkpoint is not None:
        checkpoint = Path(checkpoint)
        nets = (pipe.unet, pipe.vae, pipe.text_encoder)
        settings["model"] = tensor_digest(weight for net in nets for weight in net.parameters())
        settings["data"] = tensor_digest((images, m_pre))
    trainer = Trainer(
        pipe,
        examples,
        prompts,
        settings,
        accumulate=whole_number("accumulate", accumulate, 1),
        gradient_checkpointing=gradient_checkpointing,
        explodes=explodes,
        checkpoint=checkpoint,
    )
    done, log = trainer.load()
    if done > steps:
        raise ValueError(f"steps={steps}: the run in {checkpoint} is at step {done} already.")
    return _states(trainer, done, steps, every, log)


def _states(
    trainer: Trainer, done: int, steps: int, every: int, log: list[dict]
) -> Iterator[FinetuneState]:
    if done == steps:
        yield _state(trainer, log)
    cost, seconds = Losses(), log[-1]["seconds"] if log else 0.0
    for step in range(done, steps):
        began = time.perf_counter()
        cost += trainer.step(step)
        seconds += time.perf_counter() - began
        if (step + 1) % every == 0 or step + 1 == steps:
            losses = {"loss": cost.mean, "loss_f": cost.mean_f, "loss_b": cost.mean_b}
            log.append({"step": step + 1, **losses, "seconds": round(seconds, 3)})
            trainer.save(step + 1, log)
            cost = Losses()
            yield _state(trainer, log)


def _state(trainer: Trainer, log: list[dict]) -> FinetuneState:
    row = {name: value for name, value in log[-1].items() if name != "seconds"}
    return FinetuneState(**row, log=list(log), _trainer=trainer)


def check_masks(pipe: StableDiffusionPipeline, images: torch.Tensor, m_pre: torch.Tensor) -> None:
    """ValueError unless `m_pre` is one bool mask an image, on the grid of its latent."""
    factor = latent_factor(pipe)
    wanted = (len(images), images.shape[2] // factor, images.shape[3] // factor)
    if not isinstance(m_pre, torch.Tensor) or m_pre.dtype != torch.bool:
        kind = m_pre.dtype if isinstance(m_pre, torch.Tensor) else type(m_pre).__name__
        raise ValueError(f"m_pre: must be a bool tensor, not {kind}.")
    if tuple(m_pre.shape) != wanted:
        raise ValueError(
            f"m_pre: must be {wanted}, a mask an image on the latent grid, "
            f"not {tuple(m_pre.shape)}."
        )
