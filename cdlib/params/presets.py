"""The presets' numbers: how much to run."""

from __future__ import annotations

PRESETS: dict[str, dict[str, int | float | str]] = {
    "quick": {
        "model": "pocket",
        "n_scenes": 8,
        "n_samples": 4,
        "n_images": 8,
        "steps": 10,
        "rule": "otsu",
        "n_train": 8,
        "finetune_steps": 12,
        "batch_size": 8,
        "learning_rate": 5e-4,
        "mean_over": "region",
        "removal_steps": 4,
        "dilate": 1,
        "removal_scale": 2.0,
        "resample": 2,
        "space": "lab",
        "n_val": 2,
        "n_synthetic": 8,
        "synthetic_scale": 3.0,
        "background_scale": 2.0,
        "width": 8,
        "segmenter_steps": 30,
        "segmenter_batch": 8,
        "n_seeds": 1,
        "n_pictures": 4,
    },
    "book": {
        "model": "pocket",
        "n_scenes": 48,
        "n_samples": 16,
        "n_images": 32,
        "steps": 20,
        "rule": "otsu",
        "n_train": 64,
        "finetune_steps": 120,
        "batch_size": 16,
        "learning_rate": 5e-4,
        "mean_over": "region",
        "removal_steps": 10,
        "dilate": 1,
        "removal_scale": 2.0,
        "resample": 2,
        "space": "lab",
        "n_val": 16,
        "n_synthetic": 32,
        "synthetic_scale": 3.0,
        "background_scale": 2.0,
        "width": 8,
        "segmenter_steps": 200,
        "segmenter_batch": 16,
        "n_seeds": 2,
        "n_pictures": 12,
    },
    # Steps of fine-tuning are nowhere given: "one day" on two GPUs is of this order.
    "paper": {
        "model": "CompVis/stable-diffusion-v1-4",
        "n_scenes": 48,
        "n_samples": 24,
        "n_images": 1000,
        "steps": 50,
        "rule": "gmm",
        "n_train": 10_000,
        "finetune_steps": 50_000,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "mean_over": "all",
        "removal_steps": 50,
        "dilate": 0,
        "removal_scale": 1.0,
        "resample": 1,
        "space": "rgb",
        "n_val": 100,
        "n_synthetic": 10_000,
        "synthetic_scale": 1.0,
        "background_scale": 1.0,
        "width": 64,
        "segmenter_steps": 12_000,
        "segmenter_batch": 32,
        "n_seeds": 3,
        "n_pictures": 12,
    },
}

# Chapters that have more to make in their time than others: numbers in place of the preset's.
OF_CHAPTER: dict[str, dict[str, dict[str, int | float | str]]] = {
    # all stages anew, for another domain: nothing that the chapters before have made serves it
    "08_medical": {
        "book": {
            "n_images": 24,
            "n_train": 32,
            "finetune_steps": 48,
            "n_val": 12,
            "segmenter_steps": 160,
            "n_seeds": 1,
            "rule": "gmm",  # whose third mode is what that chapter looks at
            "space": "rgb",  # a radiograph is grey: there is no hue to tell a shadow by
        },
        # the narrowest network takes too many steps to learn how rare a finding's pixels are
        "quick": {"width": 8, "segmenter_steps": 60, "rule": "gmm", "space": "rgb"},
    },
}


def preset_numbers(preset: str, chapter: str) -> dict[str, int | float | str]:
    """What a preset says for a chapter."""
    return PRESETS[preset] | OF_CHAPTER.get(chapter, {}).get(preset, {})
