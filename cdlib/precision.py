"""In which numbers nets are computed: bfloat16 where the hardware multiplies it, else float32.

    choose_precision("auto", device)        # "bf16" or "fp32"

What a processor does not multiply it emulates. Where it does, bfloat16 takes a half or less of
float32's time; on a laptop without, six to nine times as long (`make bench` has the ratio of the
machine it runs on).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from cdlib.checks import one_of

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
CPU_HAS = ("avx512_bf16", "amx_bf16")  # of x86; those of ARM are not told apart by torch


def choose_precision(
    precision: str, device: torch.device, allowed: Iterable[str] = ("fp32", "bf16")
) -> str:
    """The one of `allowed` that is meant; "auto" is "bf16" where `device` multiplies it.

    Raises ValueError for what is neither "auto" nor allowed.
    """
    if one_of("precision", precision, ("auto", *allowed)) != "auto":
        return precision
    return "bf16" if multiplies_bfloat16(device) else "fp32"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for it, as CPUs with AVX-512 BF16 or AMX have and NVIDIA
    GPUs from Ampere on; False where torch does not tell."""
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        return any(has.get(name, False) for name in CPU_HAS)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return False


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Products in `precision`, one of PRECISIONS, whatever the caller's own autocast says.

    Without a cache: inside a caller's autocast it would outlive the step, and with it old weights.
    """
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype, enabled=dtype is not None, cache_enabled=False)
