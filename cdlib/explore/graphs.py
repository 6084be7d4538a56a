"""A text-to-image pipeline as four ONNX graphs, of which the U-Net's shows its attention.

    text     ids (B, L) int64                          -> embeddings (B, L, D)
    unet     sample (B, C, h, w), timestep (B,) float32,
             embeddings (B, L, D)                      -> prediction (B, C, h, w),
                                                          attention (B, L, h, w)
    encoder  images (B, 3, H, W) in [0, 1]             -> mean, std (B, C, h, w)
    decoder  latents (B, C, h, w)                      -> images (B, 3, H, W) in [0, 1]

B is free. Latents are scaled as the U-Net expects them, in both directions. attention[b, k] is what
`cdlib.capture_attention` gives for token k in one pass: heads and all cross-attention layers
averaged.
"""

from __future__ import annotations

import copy
import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import nn

from cdlib.attention import capture_attention, cross_attention_layers
from cdlib.models import latent_factor

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from diffusers.models.attention_processor import Attention

OPSET = 17
PARTS = ("text", "unet", "encoder", "decoder")


@dataclass(frozen=True)
class Part:
    """One of the four: a module, an example of its inputs, and the names of both its ends."""

    module: nn.Module
    example: tuple[torch.Tensor, ...] = field(repr=False)
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Its parameters by name, float32."""
        return {
            name: value.detach().float().cpu().contiguous().numpy()
            for name, value in self.module.named_parameters()
        }

    def run(self, weights: Mapping[str, np.ndarray] | None = None) -> tuple[torch.Tensor, ...]:
        """What PyTorch answers to the example, with other weights if they are given."""
        other = {name: torch.from_numpy(value) for name, value in (weights or {}).items()}
        with torch.no_grad():
            found = torch.func.functional_call(self.module, other, self.example)
        return found if isinstance(found, tuple) else (found,)


def latent_grid(pipe: StableDiffusionPipeline) -> tuple[int, int]:
    """(h, w) of the latents that the model was trained on."""
    size = pipe.unet.config.sample_size
    return (size, size) if isinstance(size, int) else tuple(size)


def pipeline_parts(pipe: StableDiffusionPipeline) -> dict[str, Part]:
    """The four parts by the names in `PARTS`, copies in float32 on the CPU.

    Raises ValueError for a U-Net whose attention could not be shown without changing it.
    """
    with capture_attention(pipe, positions=[0]):
        pass  # refuses what does not compute plain attention
    height, width = latent_grid(pipe)
    length = pipe.tokenizer.model_max_length
    draw = torch.Generator().manual_seed(0)
    channels, factor = pipe.unet.config.in_channels, latent_factor(pipe)
    latents = torch.randn(2, channels, height, width, generator=draw)
    images = torch.rand(2, 3, height * factor, width * factor, generator=draw)
    y = torch.randn(2, length, pipe.unet.config.cross_attention_dim, generator=draw)
    ids = torch.randint(0, len(pipe.tokenizer), (2, length), generator=draw)
    moments = torch.tensor([21.0, 421.0])
    return {
        "text": Part(_Text(pipe), (ids,), ("ids",), ("embeddings",)),
        "unet": Part(
            _UNet(pipe), (latents, moments, y),
            ("sample", "timestep", "embeddings"), ("prediction", "attention"),
        ),
        "encoder": Part(_Encoder(pipe), (images,), ("images",), ("mean", "std")),
        "decoder": Part(_Decoder(pipe), (latents,), ("latents",), ("images",)),
    }  # fmt: skip


def trace_part(part: Part) -> onnx.ModelProto:
    """The graph of a part, its initializers named as its parameters, their values meaningless.

    Random weights keep the exporter from merging parameters that happen to be equal, and no
    folding keeps it from storing them transposed: so one graph serves m and m' by name.
    """
    blank = copy.deepcopy(part.module)
    draw = torch.Generator().manual_seed(0)
    for parameter in blank.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of traced sizes that are fixed here, and of its own parts
        torch.onnx.export(
            blank, part.example, buffer, dynamo=False, opset_version=OPSET,
            do_constant_folding=False, input_names=list(part.inputs),
            output_names=list(part.outputs),
            dynamic_axes={name: {0: "batch"} for name in (*part.inputs, *part.outputs)},
        )  # fmt: skip
    proto = onnx.load_from_string(buffer.getvalue())
    for node in proto.graph.node:
        node.doc_string = ""
    # Padding by hand, as the autoencoder does, leaves the exporter in doubt about sizes.
    for output, answer in zip(proto.graph.output, part.run(), strict=True):
        for dim, size in zip(output.type.tensor_type.shape.dim[1:], answer.shape[1:], strict=True):
            dim.dim_value = size
    return proto


def take_out_weights(proto: onnx.ModelProto, part: Part, location: str) -> list[str]:
    """Point the graph at a file of float32 weights beside it, and say in which order it has them.

    What is no parameter (a causal mask, frequencies of the timestep) stays in the graph.
    """
    weights, order, offset = part.weights, [], 0
    for tensor in proto.graph.initializer:
        if tensor.name not in weights:
            continue
        shape = weights[tensor.name].shape
        if tuple(tensor.dims) != shape:
            raise ValueError(f"{tensor.name}: {tuple(tensor.dims)} in the graph, {shape} outside.")
        size = 4 * math.prod(shape)
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        told = {"location": location, "offset": str(offset), "length": str(size)}
        for key, value in told.items():
            tensor.external_data.add(key=key, value=value)
        order.append(tensor.name)
        offset += size
    return order


class _Text(nn.Module):
    def __init__(self, pipe: StableDiffusionPipeline) -> None:
        super().__init__()
        self.encoder = _plain(pipe.text_encoder)
        self.encoder.set_attn_implementation("eager")

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.encoder(input_ids=ids)[0]


class _UNet(nn.Module):
    def __init__(self, pipe: StableDiffusionPipeline) -> None:
        super().__init__()
        self.unet = _plain(pipe.unet)
        self.layers = list(cross_attention_layers(SimpleNamespace(unet=self.unet)).values())
        self.shown: list[torch.Tensor] = []
        for layer in self.layers:
            layer.module.set_processor(_ShowingProcessor(self.shown))

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, embeddings: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.shown.clear()
        size = tuple(int(n) for n in sample.shape[-2:])
        prediction = self.unet(sample, timestep, embeddings).sample
        maps = [
            F.interpolate(one.transpose(1, 2).unflatten(2, layer.grid(*size)), size=size)
            for layer, one in zip(self.layers, self.shown, strict=True)
        ]
        return prediction, sum(maps) / len(maps)


class _ShowingProcessor:
    """Plain cross-attention that leaves its probabilities, heads averaged, in a list."""

    def __init__(self, shown: list[torch.Tensor]) -> None:
        self.shown = shown

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,  # (B, cells, C)
        encoder_hidden_states: torch.Tensor,  # (B, tokens, D)
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if attn.norm_cross:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        query, key, value = (
            projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (B, heads, ., d)
            for projected in (
                attn.to_q(hidden_states),
                attn.to_k(encoder_hidden_states),
                attn.to_v(encoder_hidden_states),
            )
        )
        probabilities = (query @ key.transpose(-1, -2) * attn.scale).softmax(-1)
        self.shown.append(probabilities.mean(1))  # (B, cells, tokens)
        output = (probabilities @ value).transpose(1, 2).flatten(2)
        output = attn.to_out[1](attn.to_out[0](output))  # linear, dropout
        return output / attn.rescale_output_factor


class _Encoder(nn.Module):
    """Mean and spread of z0's posterior, of which `cdlib.models.encode_images` takes a sample."""

    def __init__(self, pipe: StableDiffusionPipeline) -> None:
        super().__init__()
        vae = _plain(pipe.vae)
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv
        self.scaling, self.channels = vae.config.scaling_factor, vae.config.latent_channels

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        moments = self.encoder(images * 2 - 1)
        moments = moments if self.quant_conv is None else self.quant_conv(moments)
        mean, log_variance = moments[:, : self.channels], moments[:, self.channels :]
        std = (0.5 * log_variance.clamp(-30, 20)).exp()  # bounds of diffusers' own
        return mean * self.scaling, std * self.scaling


class _Decoder(nn.Module):
    def __init__(self, pipe: StableDiffusionPipeline) -> None:
        super().__init__()
        vae = _plain(pipe.vae)
        self.decoder, self.post_quant_conv = vae.decoder, vae.post_quant_conv
        self.scaling = vae.config.scaling_factor

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        z = latents / self.scaling
        z = z if self.post_quant_conv is None else self.post_quant_conv(z)
        return (self.decoder(z) / 2 + 0.5).clamp(0, 1)


def _plain(module: nn.Module) -> nn.Module:
    """A frozen copy in float32 on the CPU, laid out as ONNX lays out tensors."""
    copied = copy.deepcopy(module).float().cpu().to(memory_format=torch.contiguous_format)
    return copied.eval().requires_grad_(False)
