"""What was written down about the shipped weights, and the model card that says it in words.

    python -m cdlib.pocket.card      # writes weights/README.md and weights/loss.png

from weights/training.json (left by the training) and weights/gates.json (by the gates).
"""

from __future__ import annotations

import json
from pathlib import Path

from ..store import code_hash, fingerprint

WEIGHTS = Path(__file__).parent / "weights"

CARD = """# The pocket model

A text-to-image latent diffusion model of the pocket world, in the layout of diffusers'
`StableDiffusionPipeline`. It is the foundation model of this book: small enough for two cores,
trained from captions alone, and run by the same code as Stable Diffusion.

```python
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained("cdlib/pocket/weights", safety_checker=None)
```

## Data
{everyday:,} everyday scenes of the world's "train" split ({size}x{size} pixels), {places:,} empty
places and {radiographs:,} radiograph-like pictures, with captions drawn anew at every step: one or
two objects, often their colour and the place, sometimes the place alone, sometimes nothing. No mask
was used. The word "background" is in the vocabulary and in no caption.

## Training
| part | parameters | steps | batch | hours |
|---|---|---|---|---|
| autoencoder | {vae:,} | {vae_steps:,} | {vae_batch} | {vae_hours:.2f} |
| U-Net and text encoder | {unet:,} + {text_encoder:,} | {steps:,} | {batch} | {hours:.2f} |

Hardware: {hardware}; torch {torch}; products in {precision}; AdamW, EMA of 0.999; v-prediction.
Hours are wall-clock on a machine that had other work beside it. Command:
`python -m cdlib.pocket.train`.

![Training loss of both stages against the step](loss.png)

## Gates
Measured on held-out scenes and fresh samples by `python -m cdlib.pocket.gates` on {date}
({gate_hardware}, {gate_seconds:.0f} s).

| gate | measured | 95% interval | n | asked for | |
|---|---|---|---|---|---|
{gates}

Attention maps are interpolated to the size of the image before its pixels are ranked. With their
cells repeated instead, the AUC is {repeated}.

The judge of the samples is a classifier trained on real scenes. On held-out real scenes it names
the object in {judge_object:.1%} and the colour in {judge_colour:.1%} of {judge_n} cases. Guidance
scale of the samples: {guidance}.

## Limits
It knows {n_words} words and nothing outside the pocket world. Samples of two objects, and of small
objects, are less sure than those of one. It is made for teaching and for testing a method, and says
nothing about photographs, nor its radiographs about patients.
"""


def load_training(folder: Path = WEIGHTS) -> dict:
    """The log of the training: steps, losses, seconds, hardware, for both stages."""
    return json.loads((folder / "training.json").read_text())


def load_gates(folder: Path = WEIGHTS) -> dict:
    """The gates as `python -m cdlib.pocket.gates` measured them on the shipped weights."""
    return json.loads((folder / "gates.json").read_text())


def stale_records(folder: Path = WEIGHTS) -> list[str]:
    """Why the recorded gates no longer speak of these weights and this code; empty if they do."""
    manifest = load_gates(folder)["manifest"]
    found = {"model": fingerprint(folder), "code": code_hash(["cdlib.pocket.gates"])}
    return [
        f"the gates were recorded with another {part} ({manifest[part]}, now {now}): make records"
        for part, now in found.items()
        if manifest[part] != now
    ]


def gate_rows(gates: dict) -> str:
    """The gates as rows of a Markdown table."""
    rows = []
    for name, g in gates.items():
        digits = 4 if g["unit"] == "fraction" else 2  # a miss may be a small one
        low, high = (f"{end:.{digits}f}" for end in g["ci95"])
        value = f"{g['value']:.{digits}f}" + ("" if g["unit"] == "fraction" else f" {g['unit']}")
        verdict = "held" if g["held"] else "**missed**"
        rows.append(
            f"| {name} | {value} | {low} to {high} | {g['n']} | {g['target']} | {verdict} |"
        )
    return "\n".join(rows)


def write_card(folder: Path = WEIGHTS) -> None:
    """README.md and loss.png beside the weights."""
    from .vocabulary import WORDS

    training, gates = load_training(folder), load_gates(folder)
    vae, denoiser = (training[stage]["log"][-1] for stage in ("vae", "denoiser"))
    judge, manifest = gates["details"]["classifier"], gates["manifest"]
    text = CARD.format(
        **training["pool"], **training["parameters"], size=training["size"],
        vae_steps=vae["step"], vae_batch=training["vae"]["batch"], vae_hours=vae["seconds"] / 3600,
        steps=denoiser["step"], batch=training["denoiser"]["batch"],
        hours=denoiser["seconds"] / 3600, hardware=training["hardware"], torch=training["torch"],
        precision=training["precision"],
        date=manifest["date"], gate_hardware=manifest["hardware"], gate_seconds=manifest["seconds"],
        gates=gate_rows(gates["gates"]), repeated=_listed(gates["details"]),
        judge_object=judge["object_accuracy"], judge_colour=judge["colour_accuracy"],
        judge_n=judge["n"],
        guidance=gates["details"]["guidance"], n_words=len(WORDS),
    )  # fmt: skip
    (folder / "README.md").write_text(text)
    draw_losses(training, folder / "loss.png")


def _listed(details: dict) -> str:
    """The AUC of maps whose cells are repeated, by concept."""
    auc = details["auc_of_repeated_cells"]
    return ", ".join(f"{value:.3f} ({concept})" for concept, value in auc.items())


def draw_losses(training: dict, path: Path) -> None:
    """Both stages' losses against their steps."""
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    for axis, stage in zip(axes, ("vae", "denoiser"), strict=True):
        log = training[stage]["log"]
        axis.plot([row["step"] for row in log], [row["loss"] for row in log])
        axis.set(title=stage, xlabel="step", ylabel="training loss", yscale="log")
    fig.savefig(path, dpi=120)
    plt.close(fig)


if __name__ == "__main__":
    write_card()
