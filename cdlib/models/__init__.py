"""One loader for every size of model, and the few things that all stages ask of a pipeline.

    pipe = load_model("pocket")                          # the model that comes with this book
    pipe = load_model("CompVis/stable-diffusion-v1-4")   # the paper's, from the Hugging Face hub

Either way the result is a diffusers `StableDiffusionPipeline`, and nothing asks which one it is.
Symbols follow the paper: z0 a clean latent, z_t a noised one, eps noise, y an encoded prompt.
"""

from transformers.utils import logging as transformers_logging

# Importing a pipeline makes transformers say twice that torchvision is missing, which nothing
# here needs; a chapter would print it above its first figure.
_verbosity = transformers_logging.get_verbosity()
transformers_logging.set_verbosity_error()
try:
    from cdlib.models.latents import (
        check_images,
        clean_latents,
        ddim_scheduler,
        ddim_timesteps,
        decode_latents,
        encode_images,
        image_seeds,
        latent_factor,
        noise_latents,
        per_image_noise,
        predict_eps,
    )
    from cdlib.models.loading import POCKET_WEIGHTS, load_model
    from cdlib.models.prompts import encode_prompts, find_word, prompt_tokens, token_positions
finally:
    transformers_logging.set_verbosity(_verbosity)

__all__ = [
    "POCKET_WEIGHTS",
    "check_images",
    "clean_latents",
    "ddim_scheduler",
    "ddim_timesteps",
    "decode_latents",
    "encode_images",
    "encode_prompts",
    "find_word",
    "image_seeds",
    "latent_factor",
    "load_model",
    "noise_latents",
    "per_image_noise",
    "predict_eps",
    "prompt_tokens",
    "token_positions",
]
