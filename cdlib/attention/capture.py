"""Attention maps of chosen words, gathered while the U-Net runs, without changing what it does.

Diffusers' attention back ends never return probabilities, so the cross-attention layers (and they
alone) get a processor that computes softmax(Q K^T / sqrt(d)) once and uses it twice: for the
layer's output, as always, and for the maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    AttnProcessor2_0,
    SlicedAttnProcessor,
    XFormersAttnProcessor,
)

from cdlib.attention.layers import CrossAttentionLayer, select_layers
from cdlib.checks import whole_number
from cdlib.models import find_word, token_positions

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

# All of these compute plain attention, so ours can stand in for them.
PLAIN = (AttnProcessor, AttnProcessor2_0, SlicedAttnProcessor, XFormersAttnProcessor)


@contextmanager
def capture_attention(
    pipe: StableDiffusionPipeline,
    words: str | Sequence[str] | None = None,
    *,
    prompt: str | None = None,
    positions: Sequence[int | Sequence[int]] | None = None,
    layers: Sequence[str] | str | None = None,
    keep_layers: bool = False,
    size: tuple[int, int] | None = None,
    guided: bool = False,
) -> Iterator[AttentionCapture]:
    """Gather the attention maps of words over every U-Net pass made inside the `with` block.

        with capture_attention(pipe, words=["bird"], guided=True) as capture:
            pipe("a photo of a bird")
        capture.maps     # (1, 1, h, w): images, words, and the latent grid

    words: what to look for, in `prompt` or, without one, in the prompts that the pipeline encodes
        inside the block. The pieces of a word are added.
    positions: token positions instead of words, one map each; a list of positions is one map, the
        sum of them.
    layers: names from `cross_attention_layers`; None is all of them, as in the paper.
    keep_layers: keep a map a layer instead of their mean.
    size: (height, width) of the maps; None is the latent grid. Coarse maps are repeated (nearest).
    guided: the batches are [unconditional, conditional], as a pipeline stacks them for
        classifier-free guidance; only the conditional half is kept.

    Heads are averaged. The model is as before when the block ends, by an exception too. Raises
    ValueError for arguments that do not fit the model, RuntimeError for a block inside a block.
    """
    if (words is None) == (positions is None):
        raise ValueError("words and positions: give one of the two.")
    chosen = select_layers(pipe, layers)
    for layer in chosen.values():
        _check_processor(layer)
    capture = AttentionCapture(chosen, keep_layers=keep_layers, size=size, guided=guided)
    with ExitStack() as undo:
        if positions is not None:
            capture.groups = _check_positions(pipe, positions)
        else:
            words = [words] if isinstance(words, str) else list(words)
            if not words:
                raise ValueError("words=[]: give at least one.")
            if prompt is not None:
                capture.groups = [token_positions(pipe, prompt, word) for word in words]
            else:
                undo.callback(_learn_positions(pipe, words, capture).remove)
        undo.callback(pipe.unet.register_forward_pre_hook(capture.start, with_kwargs=True).remove)
        for layer in chosen.values():
            undo.callback(layer.module.set_processor, layer.module.processor)
            layer.module.set_processor(_CapturingProcessor(layer, capture))
        yield capture


class AttentionCapture:
    """Running sums of attention maps, one for each resolution (or layer, if layers are kept).

    Nothing grows with the number of passes, nor with the tokens that nobody asked for.
    """

    def __init__(
        self,
        layers: Mapping[str, CrossAttentionLayer],
        *,
        keep_layers: bool = False,
        size: tuple[int, int] | None = None,
        guided: bool = False,
    ) -> None:
        self.layers = list(layers)
        self.groups: list[list[int]] | None = None
        self._keep_layers = keep_layers
        self._size = None if size is None else tuple(whole_number("size", n, 1) for n in size)
        self._guided = guided
        self._latent = (0, 0)
        self.reset()

    def reset(self) -> None:
        """Forget all that was gathered."""
        self._sums: dict[object, torch.Tensor] = {}  # (B, h_l * w_l, groups), float32
        self._counts: dict[object, int] = {}
        self._grids: dict[object, tuple[int, int]] = {}

    @property
    def maps(self) -> torch.Tensor:
        """The mean over layers and passes so far, float32: (B, words, h, w).

        With layers kept (B, words, layers, h, w), in the order of `layers`. Row b is the mean over
        row b of every pass. RuntimeError if there was no pass.
        """
        if not self._sums:
            raise RuntimeError("no attention has been captured: the U-Net has not run.")
        raised = {key: self._raise(key) for key in self._sums}
        if self._keep_layers:
            return torch.stack([raised[name] / self._counts[name] for name in self.layers], dim=2)
        return sum(raised.values()) / sum(self._counts.values())

    @property
    def nbytes(self) -> int:
        """Bytes held by the running sums."""
        return sum(total.nbytes for total in self._sums.values())

    def start(self, unet: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        """Before each pass: note the latent's size, from which follow those of all layers."""
        sample = kwargs["sample"] if "sample" in kwargs else args[0]
        if self.groups is None:
            raise ValueError(
                "words: no prompt that has them was encoded inside the block before the U-Net ran; "
                "check the words, or give prompt=..."
            )
        if self._sums and tuple(sample.shape[-2:]) != self._latent:
            raise RuntimeError("the latents changed size while attention was being captured.")
        self._latent = tuple(sample.shape[-2:])

    def add(self, layer: CrossAttentionLayer, probabilities: torch.Tensor) -> None:
        """Add one layer's attention, (B * heads, cells, tokens), heads averaged."""
        grid = layer.grid(*self._latent)
        columns = sorted({k for group in self.groups for k in group})
        picked = probabilities[..., columns].float()
        picked = picked.unflatten(0, (-1, layer.module.heads)).mean(1)  # (B, cells, columns)
        if self._guided:
            picked = picked.chunk(2)[1]
        maps = torch.stack(
            [picked[..., [columns.index(k) for k in group]].sum(-1) for group in self.groups], -1
        )  # (B, cells, groups)
        key = layer.name if self._keep_layers else grid
        if key in self._sums and len(self._sums[key]) != len(maps):
            raise RuntimeError("the batch changed size while attention was being captured.")
        self._sums[key] = self._sums[key].add_(maps) if key in self._sums else maps
        self._counts[key] = self._counts.get(key, 0) + 1
        self._grids[key] = grid

    def _raise(self, key: object) -> torch.Tensor:
        """A running sum on the common grid, (B, groups, h, w), by nearest neighbour."""
        maps = self._sums[key].transpose(1, 2).unflatten(2, self._grids[key])
        return F.interpolate(maps, size=self._size or self._latent, mode="nearest")


class _CapturingProcessor:
    """Diffusers' eager `AttnProcessor` for cross-attention, which shows its probabilities."""

    def __init__(self, layer: CrossAttentionLayer, capture: AttentionCapture) -> None:
        self.layer = layer
        self.capture = capture

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,  # (B, cells, C)
        encoder_hidden_states: torch.Tensor,  # (B, tokens, D)
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        batch, tokens, _ = encoder_hidden_states.shape
        mask = attn.prepare_attention_mask(attention_mask, tokens, batch)
        if attn.norm_cross:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        value = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        probabilities = attn.get_attention_scores(query, key, mask)  # (B * heads, cells, tokens)
        self.capture.add(self.layer, probabilities)
        output = attn.batch_to_head_dim(torch.bmm(probabilities, value))
        output = attn.to_out[1](attn.to_out[0](output))  # linear, dropout
        return output / attn.rescale_output_factor


def _check_processor(layer: CrossAttentionLayer) -> None:
    attn, processor = layer.module, layer.module.processor
    if isinstance(processor, _CapturingProcessor):
        raise RuntimeError("attention is already being captured from this pipeline.")
    unusual = any(
        (attn.spatial_norm, attn.group_norm, attn.norm_q, attn.norm_k, attn.residual_connection)
    )
    if type(processor) not in PLAIN or unusual:
        raise ValueError(
            f"pipe: layer {layer.name} does not compute plain attention "
            f"({type(processor).__name__}); capturing would change the model's output."
        )


def _check_positions(
    pipe: StableDiffusionPipeline, positions: Sequence[int | Sequence[int]]
) -> list[list[int]]:
    last = pipe.tokenizer.model_max_length - 1
    groups = [[p] if isinstance(p, int) else list(p) for p in positions]
    if not groups or not all(groups):
        raise ValueError(f"positions={positions!r}: give at least one position for each map.")
    return [[whole_number("positions", k, 0, last) for k in group] for group in groups]


def _learn_positions(
    pipe: StableDiffusionPipeline, words: Sequence[str], capture: AttentionCapture
) -> torch.utils.hooks.RemovableHandle:
    """Look for the words in every prompt that the text encoder reads.

    Prompts without them (a negative prompt) are passed over; prompts that have them at different
    places cannot share maps and are refused.
    """

    def look(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        for ids in (kwargs["input_ids"] if "input_ids" in kwargs else args[0]).tolist():
            groups = [find_word(pipe, ids, word) for word in words]
            if not all(groups):
                continue
            if capture.groups not in (None, groups):
                raise ValueError(
                    f"words={words}: they are at different places in the prompts given; capture "
                    "one prompt at a time."
                )
            capture.groups = groups

    return pipe.text_encoder.register_forward_pre_hook(look, with_kwargs=True)
