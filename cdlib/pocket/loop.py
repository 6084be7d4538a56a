"""The loop that both stages of the recipe run in: resumable, logged, its weights averaged."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..training import Ema, load_checkpoint, save_checkpoint

T = TypeVar("T")


@dataclass
class Progress:
    """What a training loop yields after every step."""

    step: int
    loss: float
    module: torch.nn.Module
    ema: Ema


def learning_rate(step: int, steps: int, peak: float, warmup: int = 200) -> float:
    """Linear warm-up, flat, then a linear fall to a hundredth over the last two fifths."""
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, max(0.01, (steps - step) / (0.4 * steps)))
    return peak * rise * fall


class CapturedStep:
    """A training step as one CUDA graph: a few calls run it as it is, the next captures it.

    A net this small has a GPU wait for Python, which launches some thousand kernels a step one by
    one; a graph launches them all at once. The price: shapes stay as they are, and what changes
    from step to step is copied to where the graph looks for it.
    https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
    """

    def __init__(self, step: Callable[..., torch.Tensor], warmup: int = 3):
        self.step, self.warmup = step, warmup
        self.graph = self.inputs = self.loss = None

    def __call__(self, *batch: torch.Tensor) -> torch.Tensor:
        if self.warmup:  # libraries set themselves up in the first calls, which no graph may hold
            self.warmup -= 1
            return self._aside(batch)
        if self.graph is None:
            self._capture(batch)
        for place, part in zip(self.inputs, batch, strict=True):
            place.copy_(part, non_blocking=True)
        self.graph.replay()
        return self.loss

    def _aside(self, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        stream, main = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            loss = self.step(*batch)
        main.wait_stream(stream)
        return loss

    def _capture(self, batch: tuple[torch.Tensor, ...]) -> None:
        self.inputs, self.graph = [part.clone() for part in batch], torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self.step(*self.inputs)


def fit(module, draw, loss_of, checkpoint: Path, *, steps: int, lr: float, settings: dict,
        every: int = 200, ema_decay: float = 0.999) -> Iterator[Progress]:  # fmt: skip
    """Minimise `loss_of(*draw(step))` with AdamW and an EMA, resuming from `checkpoint`.

    draw: what step k sees, tensors on any device, from k alone. `settings` is what a step's outcome
    depends on beside its number; a checkpoint of other settings is refused. `steps` may be raised
    or lowered in between: the fall of the learning rate follows.
    """
    parameters = list(module.parameters())
    device = parameters[0].device
    on_gpu = device.type == "cuda"
    rate = torch.tensor(lr, device=device) if on_gpu else lr  # a graph reads it where it lies
    optimizer = torch.optim.AdamW(
        parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True, capturable=on_gpu
    )
    ema = Ema(module, ema_decay)
    start, log = load_checkpoint(checkpoint, module, ema, optimizer, settings)
    began, window = time.time() - (log[-1]["seconds"] if log else 0.0), []
    if start >= steps:
        yield Progress(start, log[-1]["loss"], module, ema)

    def plain_step(*batch: torch.Tensor) -> torch.Tensor:
        loss = loss_of(*batch)
        optimizer.zero_grad(set_to_none=not on_gpu)  # a graph writes gradients where they lie
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss.detach()

    take = CapturedStep(plain_step) if on_gpu else plain_step
    for step in tqdm(range(start, steps), initial=start, total=steps, mininterval=10):
        _set_rate(optimizer, learning_rate(step, steps, lr))
        loss = take(*(part.to(device, non_blocking=True) for part in draw(step)))
        ema.update(module)
        value = loss.item()  # after the step: until here a GPU has no need to wait for us
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {step}; {checkpoint} is kept")
        window.append(value)
        if (step + 1) % every == 0 or step + 1 == steps:
            log.append({"step": step + 1, "loss": float(np.mean(window)),
                        "seconds": round(time.time() - began, 1)})  # fmt: skip
            window = []
            save_checkpoint(checkpoint, module, ema, optimizer, step + 1, log, settings)
        yield Progress(step + 1, value, module, ema)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class _Steps(Dataset):
    """A function of a step's number as a dataset whose items are steps."""

    def __init__(self, draw: Callable[[int], T], steps: int):
        self.draw, self.steps = draw, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> T:
        return self.draw(step)


def drawn_ahead(draw: Callable[[int], T], steps: int, workers: int) -> Callable[[int], T]:
    """`draw` for steps in a row, whose values `workers` processes make before they are asked for.

    A GPU is done with a step sooner than one core is with the captions and the noise of the next.
    draw: what step k sees, of k alone, so that no number of workers changes it. With workers=0 it
    comes back as it is. Raises ValueError where a step is asked for out of turn.
    """
    if workers == 0:
        return draw
    ahead, due = None, 0

    def of(step: int) -> T:
        nonlocal ahead, due
        if ahead is None:
            due = step
            ahead = iter(
                DataLoader(
                    _Steps(draw, steps), batch_size=None, sampler=range(step, steps),
                    num_workers=workers, prefetch_factor=8, multiprocessing_context="fork",
                    pin_memory=torch.cuda.is_available(),
                )
            )  # fmt: skip
        if step != due:
            raise ValueError(f"step={step}: steps are drawn in a row, and {due} is the next.")
        due += 1
        return next(ahead)

    return of


def last(states: Iterator[Progress]) -> Progress:
    """Run a training loop to its end."""
    return deque(states, maxlen=1).pop()
