"""What every training here shares: averaged weights, and a state on disk that a kill leaves whole.

A checkpoint is one safetensors file: tensors under "model.", "ema." and "optimizer.", and in its
metadata, as JSON, how far the run is, its log and the settings it was begun with.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cdlib.files import written_whole


class Ema:
    """An exponential moving average of what a module learns, warmed up so it forgets the start.

    Update n decays by min(decay, (1 + n) / (10 + n)): for as long as the warm-up lasts, it is the
    mean over about the last tenth of the run, however short the run.
    """

    def __init__(self, module: torch.nn.Module, decay: float = 0.999):
        self.decay, self.updates = decay, 0
        self.shadow = {
            name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad
        }

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        """Move towards the module's present parameters."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in module.named_parameters():
            if name in self.shadow:
                self.shadow[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: torch.nn.Module) -> None:
        """Overwrite the module's parameters with the averages."""
        for name, parameter in module.named_parameters():
            if name in self.shadow:
                parameter.copy_(self.shadow[name])


def save_checkpoint(
    path: Path,
    module: torch.nn.Module,
    ema: Ema,
    optimizer: torch.optim.Optimizer,
    step: int,
    log: list[dict],
    settings: dict,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Write all that a continued run needs; the old file stays until the new one is whole.

    Frozen parameters are left out: they come with the module that the run starts from.
    """
    tensors = {f"model.{k}": v for k, v in _learned(module).items()}
    tensors |= {f"ema.{k}": v for k, v in ema.shadow.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    told = {"step": str(step), "updates": str(ema.updates), "log": json.dumps(log)}
    told["settings"] = json.dumps(settings)
    if scaler is not None:
        told["scaler"] = json.dumps(scaler.state_dict())
    tensors = {k: v.detach().contiguous().cpu() for k, v in tensors.items()}
    with written_whole(path) as aside:
        save_file(tensors, aside, metadata=told)


def load_checkpoint(
    path: Path,
    module: torch.nn.Module,
    ema: Ema,
    optimizer: torch.optim.Optimizer,
    settings: dict,
    scaler: torch.amp.GradScaler | None = None,
) -> tuple[int, list[dict]]:
    """Restore what `save_checkpoint` wrote; gives the step reached and the log, or (0, []).

    Raises ValueError if the run was begun with other settings: going on would be neither run.
    """
    if not path.exists():
        return 0, []
    told = _metadata(path)
    begun = json.loads(told["settings"])
    for name, value in settings.items():
        if begun.get(name) != value:
            raise ValueError(
                f"{name}={value!r}: the run in {path} was begun with {begun.get(name)!r}; "
                "go on with that, or train in another folder."
            )
    tensors = load_file(path)
    learned = _under("model.", tensors)
    if learned.keys() != _learned(module).keys():
        raise ValueError(f"{path} holds the weights of another kind of model.")
    module.load_state_dict(learned, strict=False)  # the frozen ones are not in it
    for name, value in _under("ema.", tensors).items():
        ema.shadow[name].copy_(value)
    ema.updates = int(told["updates"])
    _restore_optimizer(optimizer, _under("optimizer.", tensors))
    if scaler is not None:
        scaler.load_state_dict(json.loads(told["scaler"]))
    return int(told["step"]), json.loads(told["log"])


def read_log(path: Path) -> list[dict]:
    """The log of the run that `path` belongs to, one entry after the other."""
    return json.loads(_metadata(path)["log"])


def read_settings(path: Path) -> dict:
    """The settings of the run that `path` belongs to."""
    return json.loads(_metadata(path)["settings"])


def _learned(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A module's state without its frozen parameters."""
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states: dict[int, dict] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            # The fused kernel pairs weights and moments by their place in memory, so a moment must
            # be laid out as its weight is; from the file it comes in plain order.
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        states.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def _under(prefix: str, tensors: dict) -> dict:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
