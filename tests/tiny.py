"""Text-to-image pipelines with random weights, small enough to build in a test.

`pocket_shaped()` looks like the shipped model: its own short vocabulary, attention on some blocks.
`sd_shaped()` looks like Stable Diffusion 1.x: four levels, 16 cross-attention layers of 8 heads,
77 tokens. `distillation()` has the first in a chapter's stages.
"""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import models, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from cdlib.params import check_parameters
from cdlib.stages import Distillation
from cdlib.store import Store

SENTENCES = [
    "a photo of a bird on the grass",
    "a photo of a red car on the street",
    "a polar bear in the snow and a dog",
    "a photo of the beach",
]
SPLIT_WORD = "background"  # in no sentence, so the vocabulary has letters for it only


def tokenizer(length: int) -> CLIPTokenizer:
    """CLIP's tokenizer with a vocabulary of the letters and the words of SENTENCES.

    Letters that end a word are named beforehand: those that the trainer comes upon itself get
    numbers in the order of a hash table, another in each process.
    """
    backend, letters = CLIPTokenizer().backend_tokenizer, string.ascii_lowercase
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|startoftext|>", "<|endoftext|>", *(f"{one}</w>" for one in letters)],
        initial_alphabet=list(letters),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    backend.model = models.BPE(end_of_word_suffix="</w>")
    backend.train_from_iterator(SENTENCES, trainer=trainer)
    learnt = json.loads(backend.to_str())["model"]
    merges = [tuple(pair) for pair in learnt["merges"]]
    return CLIPTokenizer(vocab=learnt["vocab"], merges=merges, model_max_length=length)


def pocket_shaped(
    prediction_type: str = "v_prediction", seed: int = 0, in_channels: int = 4
) -> StableDiffusionPipeline:
    """Images in multiples of 4 pixels; cross-attention on the second level and the middle."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = _autoencoder((8, 8, 16))
    return _pipeline(unet, vae, length=16, width=32, prediction_type=prediction_type)


def sd_shaped(prediction_type: str = "epsilon", seed: int = 0) -> StableDiffusionPipeline:
    """Images in multiples of 8 pixels; the 16 cross-attention layers of Stable Diffusion 1.x."""
    torch.manual_seed(seed)
    cross = "CrossAttnDownBlock2D"
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=2,
        down_block_types=(cross, cross, cross, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        cross_attention_dim=32,
        attention_head_dim=8,  # the number of heads, in diffusers' SD 1.x configuration
        norm_num_groups=8,
    )
    vae = _autoencoder((8, 8, 16, 16))
    return _pipeline(unet, vae, length=77, width=32, prediction_type=prediction_type)


def distillation(given: dict, root: Path) -> Distillation:
    """Chapter 7's on a CPU, with these parameters, an untrained model and a store at root."""
    p = check_parameters({**given, "device": "cpu"}, chapter="07_evaluation")
    made = Distillation(p, store=Store(root))
    made.pipe = pocket_shaped()
    return made


def _autoencoder(widths: tuple[int, ...]) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=0.5,
    )


def _pipeline(unet, vae, *, length: int, width: int, prediction_type: str):
    words = tokenizer(length)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=length,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )
    for part in (unet, text_encoder):
        for name, weight in part.named_parameters():
            # Sharpen the queries and keys, so that attention is far from uniform.
            if "attn2.to_q" in name or "attn2.to_k" in name:
                weight.data.mul_(6)
    for part in (unet, vae, text_encoder):
        part.eval().requires_grad_(False)
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=prediction_type,
        steps_offset=1,
        timestep_spacing="leading",
        set_alpha_to_one=False,
        clip_sample=False,
    )
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=words,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
