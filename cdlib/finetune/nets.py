"""The U-Net while it learns, and back again: a copy of m's, its adapters, the weights of m'."""

from __future__ import annotations

import copy

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig

from cdlib.training import Ema

LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def trainable_copy(
    unet: UNet2DConditionModel,
    device: torch.device,
    *,
    lora_rank: int | None = None,
    gradient_checkpointing: bool = False,
    seed: int = 0,
) -> UNet2DConditionModel:
    """A float32 copy that learns: all of its weights, or LoRA adapters on its attention layers.

    It stays in evaluation mode, where a net with dropout (Stable Diffusion has none) leaves it
    out, so that nothing is drawn but what `draw` draws.
    """
    net = copy.deepcopy(unet).requires_grad_(lora_rank is None).eval()
    if lora_rank is not None:
        config = LoraConfig(
            r=lora_rank,
            lora_alpha=lora_rank,  # W + B A, without a further factor
            init_lora_weights="gaussian",  # A; B is zero, so that training starts from m
            target_modules=LORA_TARGETS,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net.add_adapter(config)
    if device.type == "cpu":
        # the fused kernel's backward pass is several times slower than plain products on a CPU
        net.set_attn_processor(AttnProcessor())
    if gradient_checkpointing:
        net.enable_gradient_checkpointing()
    return net.to(device).float()


@torch.no_grad()
def plain_weights(net: UNet2DConditionModel, ema: Ema | None) -> dict[str, torch.Tensor]:
    """The state of a U-Net without adapters that does what `net` does (its average, with `ema`)."""
    merged = copy.deepcopy(net)
    if ema is not None:
        ema.copy_to(merged)
    if getattr(merged, "peft_config", None):
        merged.fuse_lora()
        merged.unload_lora()
    return merged.state_dict()
