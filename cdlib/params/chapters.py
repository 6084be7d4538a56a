"""Which chapter has which parameters."""

from __future__ import annotations

from cdlib.world import CONCEPTS
from cdlib.world.radiograph import FINDINGS

from .parameter import Parameter
from .presets import PRESETS

COMMON = (
    Parameter("preset", "book", "how much to run: quick, book or paper", choices=tuple(PRESETS)),
    Parameter("concept", "bird", "the object to look for", choices=tuple(CONCEPTS)),
    Parameter(
        "model",
        "auto",
        "pocket, a diffusers folder or a hub id; auto takes the preset's",
        choices=("auto", "pocket"),
        pattern=r"\S*/.*\S",
        otherwise="a diffusers folder (./name) or a hub id (owner/name)",
        preset=True,
    ),
    Parameter("seed", 0, "where all randomness starts", low=0, high=2**31 - 1),
    Parameter(
        "device",
        "auto",
        "where the model runs: auto, cpu, mps, cuda or cuda:N",
        choices=("auto", "cpu", "mps", "cuda"),
        pattern=r"cuda:\d+",
        otherwise="cuda:N",
    ),
)
# In every chapter that fine-tunes, removes objects or trains a U-Net.
PRECISION = Parameter(
    "precision",
    "auto",
    "of the nets' products: bf16 or fp32; auto takes bf16 where the processor multiplies it",
    choices=("auto", "bf16", "fp32"),
)
DIFFICULTY = Parameter(
    "difficulty", 0.3, "clutter and camouflage of the scenes, 0 (plain) to 1", low=0.0, high=1.0
)

N_IMAGES = Parameter(
    "n_images", 0, "images measured; 0 takes the preset's", 0, 100_000, preset=True
)
N_SAMPLES = Parameter(
    "n_samples", 0, "images drawn by the model; 0 takes the preset's", 0, 4096, preset=True
)
N_VAL = Parameter(
    "n_val", 0, "images that choices are made on; 0 takes the preset's", 0, 100_000, preset=True
)
# How M_hat and M_pre are made, in every chapter that needs them.
MASKS = (
    Parameter("steps", 0, "steps of the DDIM grid; 0 takes the preset's", 0, 1000, preset=True),
    Parameter(
        "t0",
        0,
        "timesteps averaged, the least noisy ones; 0 takes four fifths of steps",
        0,
        1000,
        preset=True,
    ),
    Parameter("n_noise", 1, "noise draws at each timestep", 1, 64),
    Parameter(
        "rule",
        "auto",
        "threshold rule of the preliminary mask: gmm (code), otsu, ...; auto takes the preset's",
        choices=("auto", "gmm", "posterior", "otsu", "percentile"),
        preset=True,
    ),
)
# How m' is made: the same in the chapter that trains it and in those that use it, which thereby
# find it in the store.
FINETUNING = (
    Parameter(
        "n_train", 0, "images to fine-tune on; 0 takes the preset's", 0, 1_000_000, preset=True
    ),
    Parameter(
        "finetune_steps",
        0,
        "steps of fine-tuning; 0 takes the preset's",
        0,
        10_000_000,
        preset=True,
    ),
    Parameter(
        "batch_size", 0, "images in a step of it; 0 takes the preset's", 0, 65_536, preset=True
    ),
    Parameter(
        "learning_rate", 0.0, "AdamW's learning rate; 0 takes the preset's", 0.0, 0.1, preset=True
    ),
    # Not "p": that is what chapters call their checked parameters.
    Parameter("p_foreground", 0.5, "odds of the whole image with the prompt y_f", 0.0, 1.0),
    Parameter("rectangles", 1, "rectangles of background in a step with y_b", 1, 64),
    Parameter(
        "noise",
        "whole",
        "what is noised for y_b: the whole latent (code) or the rectangle (paper)",
        choices=("whole", "rectangle"),
    ),
    Parameter(
        "mean_over",
        "auto",
        "cells in the loss's mean: all (code) or the region that counts; auto takes the preset's",
        choices=("auto", "all", "region"),
        preset=True,
    ),
    Parameter("lora_rank", 0, "rank of LoRA's matrices; 0 trains the whole U-Net", 0, 1024),
)
SCHEDULER = Parameter(
    "scheduler",
    "DDIMScheduler",
    "the sampler, by its name in diffusers",
    choices=(
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "PNDMScheduler",
    ),
    pattern=r"[A-Z]\w+Scheduler",
    otherwise="another of diffusers' schedulers",
)
# How objects are removed, and what the removal is compared in.
REMOVAL = (
    SCHEDULER,
    Parameter("removal_steps", 0, "steps of a removal; 0 takes the preset's", 0, 1000, preset=True),
    Parameter(
        "dilate",
        -1,
        "latent cells by which the removed region is widened; -1 takes the preset's",
        -1,
        8,
        preset=True,
    ),
    Parameter(
        "removal_scale",
        0.0,
        "push from y_f to y_b, 1 is y_b alone; 0 takes the preset's",
        0.0,
        30.0,
        preset=True,
    ),
    Parameter(
        "resample", 0, "how often each step is taken; 0 takes the preset's", 0, 64, preset=True
    ),
    Parameter(
        "space",
        "auto",
        "colour space of the difference image: rgb (code) or lab; auto takes the preset's",
        choices=("auto", "rgb", "lab"),
        preset=True,
    ),
    Parameter(
        "polish",
        "none",
        "outline of M: as it is cut (none, as in the paper) or laid by colour (grabcut)",
        choices=("none", "grabcut"),
    ),
)
# How D', the synthetic images, is made.
SYNTHESIS = (
    Parameter(
        "n_synthetic", 0, "images drawn of each kind; 0 takes the preset's", 0, 1_000_000,
        preset=True,
    ),
    Parameter(
        "synthetic_scale", 0.0, "guidance s of D', 1 is y_f alone; 0 takes the preset's",
        0.0, 30.0, preset=True,
    ),
    Parameter(
        "background_scale", 0.0,
        "push from y_f to y_b for D'_b, 1 is y_b alone; 0 takes the preset's",
        0.0, 30.0, preset=True,
    ),
    Parameter("feather", 1.0, "pixels over which a composite's outline fades", 0.0, 32.0),
    Parameter("least_area", 0.01, "share of an image that a usable mask has at least", 0.0, 1.0),
    Parameter("most_area", 0.6, "share of an image that a usable mask has at most", 0.0, 1.0),
)  # fmt: skip
# How the U-Nets are trained.
SEGMENTER = (
    Parameter(
        "width", 0, "channels of the U-Net's first level; 0 takes the preset's", 0, 512,
        preset=True,
    ),
    Parameter(
        "segmenter_steps", 0, "steps of its training; 0 takes the preset's", 0, 10_000_000,
        preset=True,
    ),
    Parameter(
        "segmenter_batch", 0, "images in a step of it; 0 takes the preset's", 0, 65_536,
        preset=True,
    ),
    Parameter("segmenter_rate", 2e-3, "Adam's learning rate", 1e-7, 1.0),
    Parameter(
        "segmenter_average", 0.99,
        "decay of its weights' running mean; 0 takes the last weights (paper)", 0.0, 1.0,
    ),
    Parameter(
        "segmenter_recolour", 1.0,
        "how freely images are recoloured in training; 0 leaves their colours (paper)", 0.0, 1.0,
    ),
    Parameter(
        "n_seeds", 0, "trainings of each U-Net; 0 takes the preset's", 0, 64, preset=True
    ),
)  # fmt: skip
CHAIN = (*COMMON, PRECISION, DIFFICULTY, N_IMAGES, N_VAL, *MASKS, *FINETUNING, *REMOVAL)

CHAPTERS: dict[str, tuple[Parameter, ...]] = {
    "00_welcome": COMMON,
    "01_pocket_world": COMMON
    + (
        DIFFICULTY,
        Parameter(
            "n_scenes", 0, "scenes shown and measured; 0 takes the preset's", 0, 4096, preset=True
        ),
        N_SAMPLES,
        Parameter(
            "steps", 0, "denoising steps of a sample; 0 takes the preset's", 0, 1000, preset=True
        ),
        Parameter("guidance", 4.0, "classifier-free guidance scale of the samples", 0.0, 30.0),
    ),
    "02_attention": (*COMMON, DIFFICULTY, N_IMAGES, *MASKS),
    "03_finetuning": (
        *(*COMMON, PRECISION, DIFFICULTY, *MASKS, *FINETUNING, SCHEDULER, N_SAMPLES),
        Parameter("s_low", -2.0, "the lowest concept guidance s of the sweep", -30.0, 30.0),
        Parameter("s_high", 7.5, "the highest concept guidance s of the sweep", -30.0, 30.0),
    ),
    "04_removal": CHAIN,
    "05_synthetic": (*CHAIN, *SYNTHESIS),
    "06_segmenter": (
        *(*CHAIN, *SYNTHESIS, *SEGMENTER),
        Parameter(
            "data",
            "pocket",
            "pocket, or a folder with images/ and masks/ of your own to train on",
            choices=("pocket",),
            pattern=r"\S*/.*\S",
            otherwise="a folder (./name)",
        ),
    ),
    "07_evaluation": (
        *(*CHAIN, *SYNTHESIS, *SEGMENTER),
        Parameter(
            "ablate",
            "recorded",
            "ablations: none, recorded (shown from the records) or live (made, for an hour)",
            choices=("none", "recorded", "live"),
        ),
    ),
    "08_medical": (
        *(*CHAIN, *SEGMENTER),
        Parameter("finding", "mass", "what radiographs are searched for", choices=tuple(FINDINGS)),
    ),
    "09_explorer": (
        *(*CHAIN, *SEGMENTER),
        Parameter(
            "n_pictures",
            0,
            "test images that the explorers show; 0 takes the preset's",
            0,
            24,
            preset=True,
        ),
    ),
}
