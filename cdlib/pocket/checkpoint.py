"""Training state on disk as safetensors and JSON; a kill leaves the last one whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


class Ema:
    """An exponential moving average of a module's parameters, warmed up so it forgets the start."""

    def __init__(self, module: torch.nn.Module, decay: float = 0.999):
        self.decay, self.updates = decay, 0
        self.shadow = {k: p.detach().clone() for k, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        """Move towards the module's present parameters."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in module.named_parameters():
            self.shadow[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: torch.nn.Module) -> None:
        """Overwrite the module's parameters with the averages."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.shadow[name])


def save_checkpoint(
    path: Path, module, ema: Ema, optimizer, step: int, log: list[dict], settings: dict
) -> None:
    """Write all that a continued run needs; the old file stays until the new one is whole."""
    tensors = {f"model.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.shadow.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    told = {"step": str(step), "updates": str(ema.updates), "log": json.dumps(log)}
    told["settings"] = json.dumps(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, aside, metadata=told)
    os.replace(aside, path)


def load_checkpoint(
    path: Path, module, ema: Ema, optimizer, settings: dict
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
    module.load_state_dict(_under("model.", tensors))
    for name, value in _under("ema.", tensors).items():
        ema.shadow[name].copy_(value)
    ema.updates = int(told["updates"])
    states: dict[int, dict] = {}
    for name, value in _under("optimizer.", tensors).items():
        index, key = name.split(".", 1)
        states.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return int(told["step"]), json.loads(told["log"])


def read_log(path: Path) -> list[dict]:
    """The log of the run that `path` belongs to: step, mean loss since the last entry, seconds."""
    return json.loads(_metadata(path)["log"])


def read_settings(path: Path) -> dict:
    """The settings of the run that `path` belongs to."""
    return json.loads(_metadata(path)["settings"])


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def _under(prefix: str, tensors: dict) -> dict:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
