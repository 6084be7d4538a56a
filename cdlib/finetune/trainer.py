"""One step of fine-tuning, on one process or on several, and the state that survives it."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline

from cdlib.finetune.draws import Examples, draw
from cdlib.finetune.nets import plain_weights, trainable_copy
from cdlib.finetune.objective import masked_square, noised, target
from cdlib.precision import autocast
from cdlib.training import Ema, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Losses:
    """How many draws had either task, and the sums of their losses."""

    n_f: int = 0
    sum_f: float = 0.0
    n_b: int = 0
    sum_b: float = 0.0

    def __add__(self, other: Losses) -> Losses:
        return Losses(
            self.n_f + other.n_f,
            self.sum_f + other.sum_f,
            self.n_b + other.n_b,
            self.sum_b + other.sum_b,
        )

    @property
    def mean(self) -> float:
        return (self.sum_f + self.sum_b) / (self.n_f + self.n_b)

    @property
    def mean_f(self) -> float | None:
        return self.sum_f / self.n_f if self.n_f else None

    @property
    def mean_b(self) -> float | None:
        return self.sum_b / self.n_b if self.n_b else None


class Trainer:
    """The U-Net that learns, its optimiser and average, and the processes it is spread over.

    settings: what the outcome depends on, as `finetune` names it; a checkpoint keeps them.
    """

    def __init__(
        self,
        pipe: StableDiffusionPipeline,
        examples: Examples,
        prompts: torch.Tensor,  # (2, L, D): y_b, y_f
        settings: dict,
        *,
        accumulate: int = 1,
        gradient_checkpointing: bool = False,
        explodes: float = 5.0,
        checkpoint: Path | None = None,
    ) -> None:
        self.pipe, self.examples, self.settings = pipe, examples, settings
        self.accumulate, self.explodes, self.checkpoint = accumulate, explodes, checkpoint
        self.accelerator = start_accelerator(pipe)
        self.device = self.accelerator.device
        self.share = share_of(settings["batch_size"], self.accelerator.num_processes, accumulate)
        self.prompts = prompts.to(self.device, torch.float32)
        self.net = trainable_copy(
            pipe.unet,
            self.device,
            lora_rank=settings["lora_rank"],
            gradient_checkpointing=gradient_checkpointing,
            seed=settings["seed"],
        )
        self.model = self.accelerator.prepare_model(self.net)  # the same, or wrapped to share
        learned = [weight for weight in self.net.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(learned, lr=settings["lr"], fused=True)
        self.ema = Ema(self.net, settings["ema_decay"])
        scaled = settings["precision"] == "fp16"  # whose small gradients would vanish
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self.kept_step = 0

    def step(self, number: int) -> Losses:
        """Learn from batch `number`; gives what it cost.

        FloatingPointError, with the weights as they were, if the loss or a gradient is not a number
        or the loss explodes.
        """
        self.optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad(), autocast(self.device, "fp32"):  # whatever the caller's are
            sums = self._gradients(number)
        (n_b, sum_b, blank_b), (n_f, sum_f, blank_f) = self.accelerator.reduce(sums, "sum").tolist()
        cost = Losses(int(n_f), sum_f, int(n_b), sum_b)
        self._check_loss(number, cost.mean, (blank_f + blank_b) / (n_f + n_b))
        self._check_gradients(number)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update(self.net)
        return cost

    def _gradients(self, number: int) -> torch.Tensor:
        """Gradients of the batch's mean loss, over all passes and processes.

        Gives, of this process's draws under y_b and y_f, (2, 3): how many, the sum of their losses,
        and the sum of what zeros for an answer would cost.
        """
        sums = torch.zeros(2, 3, device=self.device)
        for turn in range(self.accumulate):
            last = turn + 1 == self.accumulate
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                foreground, losses, blank = self._losses(number, turn)
                self.scaler.scale(losses.mean() / self.accumulate).backward()
            told = torch.stack([torch.ones_like(blank), losses.detach(), blank], 1)
            sums += torch.stack([told[~foreground].sum(0), told[foreground].sum(0)])
        return sums

    def _losses(self, number: int, turn: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """This process's share of a pass: whether foreground, loss, and loss of answering zeros."""
        told, ranks = self.settings, self.accelerator.num_processes
        first = self.share * (turn * ranks + self.accelerator.process_index)
        draws = draw(
            self.examples,
            number,
            range(first, first + self.share),
            batch_size=told["batch_size"],
            n_timesteps=self.pipe.scheduler.config.num_train_timesteps,
            p=told["p"],
            rectangles=told["rectangles"],
            seed=told["seed"],
        )
        z_t = noised(self.pipe, draws, told["noise"]).to(self.device)
        answer = target(self.pipe, draws).to(self.device)
        region, foreground = draws.region.to(self.device), draws.foreground.to(self.device)
        y = self.prompts[foreground.long()]
        with autocast(self.device, told["precision"]):
            said = self.model(z_t, draws.t.to(self.device), encoder_hidden_states=y).sample
        losses = masked_square(said.float() - answer, region, told["normalise"])
        return foreground, losses, masked_square(answer, region, told["normalise"])

    def _check_loss(self, number: int, loss: float, blank: float) -> None:
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {number + 1}; {self._kept()}")
        if loss > self.explodes * blank:
            raise FloatingPointError(
                f"the loss is {loss:.4g} at step {number + 1}, more than explodes="
                f"{self.explodes:g} times the {blank:.4g} of answering zero everywhere; a lower "
                f"lr than {self.settings['lr']:g} may help; {self._kept()}"
            )

    def _check_gradients(self, number: int) -> None:
        """Checked before they are used, so that no weight, saved or not, ever turns into NaN."""
        if self.scaler.is_enabled():  # leaves out steps that overflow, and lowers its scale
            failed = self.scaler.get_scale() < 1
        else:
            gradients = [w.grad for w in self.net.parameters() if w.grad is not None]
            failed = not torch.nn.utils.get_total_norm(gradients).isfinite()
        if failed:
            raise FloatingPointError(
                f"the gradient is not finite at step {number + 1}; {self._kept()}"
            )

    def _kept(self) -> str:
        if self.checkpoint is None or not self.kept_step:
            return "no checkpoint had been written"
        return f"{self.checkpoint} of step {self.kept_step} is kept"

    def save(self, step: int, log: list[dict]) -> None:
        """Write the checkpoint, if there shall be one; one process writes, all wait for it."""
        if self.checkpoint is None:
            return
        if self.accelerator.is_main_process:
            state = (self.net, self.ema, self.optimizer)
            save_checkpoint(self.checkpoint, *state, step, log, self.settings, self.scaler)
        self.accelerator.wait_for_everyone()
        self.kept_step = step

    def load(self) -> tuple[int, list[dict]]:
        """Go on from the checkpoint: the step it reached and its log, (0, []) without one."""
        if self.checkpoint is None:
            return 0, []
        state = (self.net, self.ema, self.optimizer)
        step, log = load_checkpoint(self.checkpoint, *state, self.settings, self.scaler)
        self.kept_step = step
        return step, log

    def pipeline(self, ema: bool = True) -> StableDiffusionPipeline:
        """m' as it is now, frozen; all but the U-Net and the scheduler are m's own parts."""
        unet = copy.deepcopy(self.pipe.unet)  # for its precision, layout and processors
        unet.load_state_dict(plain_weights(self.net, self.ema if ema else None))
        unet.eval().requires_grad_(False)
        scheduler = type(self.pipe.scheduler).from_config(self.pipe.scheduler.config)
        parts = {**self.pipe.components, "unet": unet, "scheduler": scheduler}
        m_prime = StableDiffusionPipeline(**parts, requires_safety_checker=False)
        m_prime.set_progress_bar_config(disable=True)
        return m_prime


def start_accelerator(pipe: StableDiffusionPipeline) -> Accelerator:
    """Accelerate's view of the processes of this run, on the kind of device that `pipe` is on.

    Precision and accumulation are not left to it: it keeps both in a state that a process has only
    one of, so a second fine-tuning in the same notebook could not choose its own.
    """
    accelerator = Accelerator(cpu=pipe.device.type == "cpu", mixed_precision="no")
    if accelerator.device.type != pipe.device.type:
        raise ValueError(
            f"pipe: is on {pipe.device}, while accelerate has this process on "
            f"{accelerator.device}; load the model there."
        )
    return accelerator


def share_of(batch_size: int, processes: int, accumulate: int) -> int:
    """Draws in one pass of one process; ValueError if the batch cannot be dealt out evenly."""
    if batch_size % (processes * accumulate):
        raise ValueError(
            f"batch_size={batch_size}: must be a multiple of accumulate={accumulate} times the "
            f"{processes} process(es) of this run."
        )
    return batch_size // (processes * accumulate)
