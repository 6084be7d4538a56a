"""The cross-attention layers of a U-Net, by short names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffusers.models.attention_processor import Attention

from cdlib.checks import one_of

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel


@dataclass(frozen=True)
class CrossAttentionLayer:
    """One `attn2` of the U-Net: `name` as "down.0.1", "mid" or "up.2.0"; `factor` is how many
    latent cells one cell of its map spans on a side."""

    name: str
    factor: int
    module: Attention

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """The map's size for a latent of `height` by `width` (strided convolutions round up)."""
        return -(-height // self.factor), -(-width // self.factor)


def cross_attention_layers(pipe: StableDiffusionPipeline) -> dict[str, CrossAttentionLayer]:
    """All cross-attention layers by name, in the order in which the U-Net runs them."""
    order = {"down": 0, "mid": 1, "up": 2}
    found = [
        CrossAttentionLayer(_short_name(path), _factor(pipe.unet, path), module)
        for path, module in pipe.unet.named_modules()
        if path.endswith(".attn2") and module.is_cross_attention
    ]
    if not found:
        raise ValueError("pipe: its U-Net has no cross-attention, so its words have no maps.")
    found.sort(key=lambda layer: order[layer.name.split(".")[0]])  # stable within a way
    return {layer.name: layer for layer in found}


def select_layers(
    pipe: StableDiffusionPipeline, layers: Sequence[str] | str | None
) -> dict[str, CrossAttentionLayer]:
    """The layers of the given names; all of them for None or "all", as in the paper."""
    known = cross_attention_layers(pipe)
    if layers is None or layers == "all":
        return known
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise ValueError(f"layers={layers!r}: give at least one of {', '.join(known)}, or 'all'.")
    wanted = {one_of("layers", name, [*known, "all"]) for name in names}
    return {name: layer for name, layer in known.items() if name in wanted or "all" in wanted}


def _short_name(path: str) -> str:
    """The module path "up_blocks.2.attentions.0.transformer_blocks.0.attn2" is "up.2.0"."""
    for long, short in (
        (".attn2", ""),
        ("_blocks", ""),
        ("mid_block.attentions.0", "mid"),
        (".attentions", ""),
        (".transformer.0", ""),
        (".transformer", ""),
    ):
        path = path.replace(long, short)
    return path


def _factor(unet: UNet2DConditionModel, path: str) -> int:
    """How often the latent has been halved where the layer of this path sits, as a power of 2."""
    halved = [block.downsamplers is not None for block in unet.down_blocks]
    doubled = [block.upsamplers is not None for block in unet.up_blocks]
    way, *rest = path.split(".")
    if way == "down_blocks":
        return 2 ** sum(halved[: int(rest[0])])
    if way == "up_blocks":
        return 2 ** (sum(halved) - sum(doubled[: int(rest[0])]))
    return 2 ** sum(halved)
