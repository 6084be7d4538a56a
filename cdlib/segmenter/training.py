"""Training a segmenter on images and masks, whoever made the masks (section 6.2)."""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F

from cdlib.checks import real_number, whole_number
from cdlib.metrics.scores import confusion, scores_from_confusion
from cdlib.precision import autocast, choose_precision
from cdlib.segmenter.augment import draw_batch
from cdlib.segmenter.nets import CELL, Segmenter, check_images, choose_device
from cdlib.store.keys import tensor_digest
from cdlib.training import Ema, load_checkpoint, save_checkpoint

Stack = torch.Tensor | Sequence[torch.Tensor]  # of one shape, or of several


@dataclass
class SegmenterState:
    """Where a training is.

    step: steps done. loss: mean over the steps since the state before. val_iou: pooled IoU with the
    validation masks, None without them. log: a row like this, with the seconds that training has
    taken so far, for every state up to this one.
    """

    step: int
    loss: float
    val_iou: float | None
    log: list[dict] = field(repr=False)
    _net: Segmenter = field(repr=False)

    def segmenter(self) -> Segmenter:
        """The network as it is now, its weights averaged: a copy, for training goes on in place."""
        net = copy.deepcopy(self._net).to(memory_format=torch.contiguous_format)
        return net.eval().requires_grad_(False)


def train_segmenter(images: Stack, masks: Stack, **how: object) -> Segmenter:
    """The network that `segmenter_steps` ends with; `how` is what it takes."""
    return deque(segmenter_steps(images, masks, **how), maxlen=1).pop().segmenter()


def segmenter_steps(
    images: Stack,  # (N, 3, H, W) in [0, 1], or N of (3, H, W)
    masks: Stack,  # (N, H, W) bool or in [0, 1], or N of (H, W)
    *,
    width: int = 8,
    steps: int = 400,
    batch_size: int = 32,
    lr: float = 2e-3,
    average: float = 0.99,
    recolour: float = 1.0,
    val: tuple[Stack, Stack] | None = None,
    size: int | None = None,
    seed: int = 0,
    precision: str = "auto",
    every: int = 50,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "auto",
) -> Iterator[SegmenterState]:
    """Train a `Segmenter` from scratch, yielding its state as it goes.

    The paper's recipe: binary cross-entropy, Adam at a constant rate, windows and mirror images
    (see `draw_batch`), a number of steps fixed beforehand, and the weights that it ends with, not
    the best ones: with nothing to be chosen, nothing can be chosen by what the masks do not know.
    Two additions. The weights are averaged over the last steps, for at a constant rate the very
    last ones are a draw from what the steps wander about in (Polyak and Juditsky, 1992). And images
    are recoloured: more of them then look alike to the network, which learns the mean of their
    masks, so that more errors of single masks average out.

    masks: soft ones are learned as the probabilities that they are.
    average: decay of the weights' exponential mean, in [0, 1], see `cdlib.training.Ema`: it reaches
        over some 1 / (1 - average) steps, but over no more than a tenth of all. 0 takes the last
        weights, as the paper does.
    recolour: how freely the colours of images are changed at each step, in [0, 1], see
        `recoloured`; 0 leaves them as they are, as the paper does. For objects that are known by
        their colours take less than 1.
    val: images and masks to measure IoU with at every state; it changes nothing in the training.
        Give masks of the same making: a truth looked at while training is no longer one to test on.
    size: pixels of a window's side; None takes whole images, which then have to be of one size.
    precision: of the convolutions' products, "bf16", "fp32" or "auto", which is "bf16" where the
        hardware has it; weights and loss are float32.
    every: steps from one state, and checkpoint, to the next; the last step always has both.
    checkpoint: a file for the state of the run. If it exists, the run goes on from there: on the
        same machine to the same weights, bit for bit, that it would have had without a break.
    device: "auto" (an accelerator if there is one, else the CPU) or a torch device.

    The same seed gives the same weights on the same machine with as many threads, on a CPU.

    Raises ValueError, at once, for an argument that does not fit and for a checkpoint of another
    run; FloatingPointError for a loss that is not finite.
    """
    _check_pairs("images", images, "masks", masks)
    if val is not None:
        _check_pairs("val", val[0], "val", val[1])
    steps, every = whole_number("steps", steps, 1), whole_number("every", every, 1)
    settings = {
        "width": whole_number("width", width, 1),
        "batch_size": whole_number("batch_size", batch_size, 1),
        "lr": real_number("lr", lr, 0, above=True),
        "average": real_number("average", average, 0, 1),
        "recolour": real_number("recolour", recolour, 0, 1),
        "size": _window_size(images, size),
        "seed": whole_number("seed", seed, 0),
        "precision": choose_precision(precision, choose_device(device)),
    }
    if batch_size * math.prod(-(-side // CELL) for side in settings["size"]) < 2:
        raise ValueError(
            f"batch_size={batch_size}: must be at least 2 with windows of up to {CELL} pixels, "
            "for the coarsest level to have something to normalise over."
        )
    if checkpoint is not None:
        checkpoint = Path(checkpoint)
        settings["data"] = tensor_digest([*images, *masks])
    run = _Run(images, masks, settings, checkpoint, choose_device(device))
    if run.done > steps:
        raise ValueError(f"steps={steps}: the run in {checkpoint} is at step {run.done} already.")
    return _states(run, steps, every, val)


class _Run:
    """A network, its optimiser, what they learn from, and how far they are."""

    def __init__(self, images, masks, settings: dict, checkpoint: Path | None, device) -> None:
        self.images, self.masks, self.settings = images, masks, settings
        self.checkpoint, self.device = checkpoint, device
        told = {name: value for name, value in settings.items() if name not in ("width", "data")}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings["seed"])
            net = Segmenter(settings["width"], {**told, "images": len(images)})
        _start_at_the_mean(net, masks)
        self.net = net.to(device, memory_format=torch.channels_last)  # a third sooner
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=settings["lr"], fused=True)
        self.average = _Average(self.net, settings["average"])
        self.done, self.log = 0, []
        if checkpoint is not None:
            self.done, self.log = load_checkpoint(checkpoint, *self._state(), settings)

    def step(self, number: int) -> float:
        """Learn from batch `number`; gives its loss."""
        how = {name: self.settings[name] for name in ("batch_size", "size", "recolour", "seed")}
        x, y = (
            part.to(self.device)
            for part in draw_batch(self.images, self.masks, number, **how)
        )  # fmt: skip
        self.net.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():  # whatever the caller's is
            with autocast(self.device, self.settings["precision"]):
                logits = self.net(x)
            loss = F.binary_cross_entropy_with_logits(logits.float(), y)
            cost = loss.item()
            if not math.isfinite(cost):
                raise FloatingPointError(
                    f"the loss is {cost} at step {number + 1}; a lower lr than "
                    f"{self.settings['lr']:g} may help"
                )
            loss.backward()
        self.optimizer.step()
        self.average.update(self.net)
        return cost

    def averaged(self) -> Segmenter:
        """A network with the mean weights."""
        net = copy.deepcopy(self.net)
        net.load_state_dict(self.average.shadow, strict=False)  # without the count of batches
        return net

    def save(self, row: dict) -> None:
        self.done, self.log = row["step"], [*self.log, row]
        self.net.trained["steps"] = self.done
        if self.checkpoint is not None:
            save_checkpoint(self.checkpoint, *self._state(), self.done, self.log, self.settings)

    def state(self) -> SegmenterState:
        row = {name: value for name, value in self.log[-1].items() if name != "seconds"}
        return SegmenterState(**row, log=list(self.log), _net=self.averaged())

    def _state(self) -> tuple:
        return self.net, self.average, self.optimizer


class _Average(Ema):
    """Of a network's weights and of what batch normalisation measured along with them.

    Averaged weights give other activations than the last ones, so the last statistics are not
    theirs. Those averaged in step with the weights are close.
    """

    def __init__(self, net: Segmenter, decay: float) -> None:
        super().__init__(net, decay)
        self.shadow = {name: value.clone() for name, value in self._averaged(net)}

    @torch.no_grad()
    def update(self, net: Segmenter) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in self._averaged(net):
            self.shadow[name].lerp_(value, 1 - decay)

    @staticmethod
    def _averaged(net: Segmenter) -> list[tuple[str, torch.Tensor]]:
        return [(name, one) for name, one in net.state_dict().items() if one.is_floating_point()]


def _start_at_the_mean(net: Segmenter, masks: Stack) -> None:
    """Let its first answer be the masks' mean, as odds, everywhere.

    From one half a rate of a few thousandths would take a thousand steps to get to the few percent
    that a small object covers (the prior of Lin et al., 2017, section 3.3).
    """
    covered = sum(mask.float().sum().item() for mask in masks)
    share = min(max(covered / sum(mask.numel() for mask in masks), 0.001), 0.999)
    torch.nn.init.constant_(net.unet.final_conv.bias, math.log(share / (1 - share)))


def _states(
    run: _Run, steps: int, every: int, val: tuple[Stack, Stack] | None
) -> Iterator[SegmenterState]:
    if run.done == steps:
        run.net.trained["steps"] = steps
        yield run.state()
    costs, seconds = [], run.log[-1]["seconds"] if run.log else 0.0
    for step in range(run.done, steps):
        began = time.perf_counter()
        costs.append(run.step(step))
        seconds += time.perf_counter() - began
        if (step + 1) % every == 0 or step + 1 == steps:
            loss, costs = sum(costs) / len(costs), []
            iou = None if val is None else _pooled_iou(run.averaged(), *val)
            row = {"step": step + 1, "loss": loss, "val_iou": iou, "seconds": round(seconds, 3)}
            run.save(row)
            yield run.state()


def _pooled_iou(net: Segmenter, images: Stack, masks: Stack) -> float:
    """IoU over all pixels of all images, everything cut at one half."""
    if isinstance(images, torch.Tensor) and isinstance(masks, torch.Tensor):
        counts = confusion(net.predict(images) >= 0.5, masks.float() >= 0.5)
    else:
        said = net.predict(list(images))
        pairs = zip(said, masks, strict=True)
        counts = [confusion(a[None] >= 0.5, b[None].float() >= 0.5)[0] for a, b in pairs]
    return float(scores_from_confusion(sum(counts))["iou"])


def _window_size(images: Stack, size: int | None) -> list[int]:
    sides = {tuple(image.shape[1:]) for image in images}
    if size is None:
        if len(sides) > 1:
            raise ValueError(
                f"size=None: images of {len(sides)} different sizes need one for the windows."
            )
        return list(sides.pop())
    least = min(min(pair) for pair in sides)
    size = whole_number("size", size, 1, least)
    return [size, size]


def _check_pairs(name: str, images: Stack, name_of_masks: str, masks: Stack) -> None:
    """ValueError unless every image has a mask of its size, with values in [0, 1]."""
    if len(images) != len(masks) or not len(images):
        raise ValueError(
            f"{name_of_masks}: must be one for each image, at least one; "
            f"there are {len(masks)} for {len(images)} images."
        )
    for batch in [images] if isinstance(images, torch.Tensor) else [one[None] for one in images]:
        check_images(name, batch)
    for image, mask in zip(images, masks, strict=True):
        if mask.shape != image.shape[1:]:
            raise ValueError(
                f"{name_of_masks}: a mask of {tuple(mask.shape)} does not fit its image of "
                f"{tuple(image.shape)}."
            )
        low, high = (float(end) for end in mask.float().aminmax())
        if not (low >= 0 and high <= 1):  # NaN is not
            raise ValueError(
                f"{name_of_masks}: must be bool, or probabilities in [0, 1]; "
                f"theirs are from {low:g} to {high:g}."
            )
