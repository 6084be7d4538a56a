"""A judge of pictures: which objects, in which colours? Trained on real scenes of the world.

    python -m cdlib.pocket.classifier      # trains it and writes weights/classifier.safetensors

Two sets of independent answers, "is there a dog?" for each concept and "is something red?" for each
colour, so that it can also say that nothing is there: object removal is judged by it, too.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from ..models import POCKET_WEIGHTS
from ..world import COLOURS, CONCEPTS
from .pool import Pool, build_pool


class Classifier(nn.Module):
    """(N, 3, H, W) in [0, 1] to logits, (N, concepts) and (N, colours)."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 128)):
        super().__init__()
        layers, previous = [], 3
        for width in widths:
            for entering, stride in ((previous, 2), (width, 1)):
                convolution = nn.Conv2d(entering, width, 3, stride, 1, bias=False)
                layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
            previous = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(previous, len(CONCEPTS) + len(COLOURS))

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 128) features: where an object is does not matter, so the strongest answer counts."""
        return self.features(images * 2 - 1).amax((2, 3))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.head(self.embed(images))
        return logits[:, : len(CONCEPTS)], logits[:, len(CONCEPTS) :]


def targets(facts: list[dict]) -> torch.Tensor:
    """(N, concepts + colours) of zeros and ones, from what the pool says of its scenes."""
    answers = torch.zeros(len(facts), len(CONCEPTS) + len(COLOURS))
    colours = list(COLOURS)
    for row, fact in zip(answers, facts, strict=True):
        for name, colour in fact.get("objects", []):
            row[CONCEPTS.index(name)] = 1
            row[len(CONCEPTS) + colours.index(colour)] = 1
    return answers


def _augment(images: torch.Tensor, numbers: np.random.Generator) -> torch.Tensor:
    """Flip, shift, and at times the softness of a decoded latent, so that blur is no clue."""
    if numbers.random() < 0.5:
        images = images.flip(3)
    dy, dx = (int(k) for k in numbers.integers(-5, 6, 2))
    images = F.pad(images, (5, 5, 5, 5), mode="replicate")
    images = images[:, :, 5 + dy : images.shape[2] - 5 + dy, 5 + dx : images.shape[3] - 5 + dx]
    if numbers.random() < 0.5:
        small = F.interpolate(images, scale_factor=0.5, mode="area")
        soft = F.interpolate(small, images.shape[2:], mode="bilinear", align_corners=False)
        images = images.lerp(soft, float(numbers.uniform(0.2, 0.9)))
    return images + 0.02 * float(numbers.random()) * torch.randn(images.shape)


def train_classifier(
    pool: Pool, steps: int = 2000, batch: int = 64, lr: float = 2e-3, seed: int = 0
) -> Iterator[tuple[int, float, Classifier]]:
    """Yield (step, loss, net); it sees the everyday scenes and empty places of the pool."""
    torch.manual_seed(seed)
    everyday = [k for k, fact in enumerate(pool.facts) if "objects" in fact]
    answers = targets([pool.facts[k] for k in everyday])
    net = Classifier().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for step in range(steps):
        numbers = np.random.default_rng((seed, step))
        picks = numbers.integers(len(everyday), size=batch)
        images = pool.images[[everyday[k] for k in picks]].float() / 255
        with torch.autocast("cpu", torch.bfloat16):
            logits = torch.cat(net(_augment(images, numbers)), 1)
        loss = F.binary_cross_entropy_with_logits(logits.float(), answers[picks])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield step + 1, loss.item(), net


CLASSIFIER_WEIGHTS = POCKET_WEIGHTS / "classifier.safetensors"


def load_classifier(path: Path = CLASSIFIER_WEIGHTS) -> Classifier:
    """The shipped judge, ready to answer."""
    net = Classifier()
    net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return net.eval()


@torch.no_grad()
def judge(net: Classifier, images: torch.Tensor, batch: int = 128) -> tuple[list[str], list[str]]:
    """The most likely object and the most likely colour of each image, of whatever size."""
    names, colours = [], list(COLOURS)
    hues = []
    for part in images.split(batch):
        objects, tints = net(_at_64(part))
        names += [CONCEPTS[k] for k in objects.argmax(1).tolist()]
        hues += [colours[k] for k in tints.argmax(1).tolist()]
    return names, hues


@torch.no_grad()
def see(net: Classifier, images: torch.Tensor, batch: int = 128) -> torch.Tensor:
    """How likely each concept is to be in each image, of whatever size: (N, concepts) in [0, 1].

    Independent answers, as asked in training: several may be likely, or none.
    """
    return torch.cat([net(_at_64(part))[0].sigmoid() for part in images.split(batch)])


@torch.no_grad()
def features(net: Classifier, images: torch.Tensor, batch: int = 128) -> torch.Tensor:
    """What it makes of images, of whatever size, before it names anything: (N, 128)."""
    return torch.cat([net.embed(_at_64(part)) for part in images.split(batch)])


def _at_64(images: torch.Tensor) -> torch.Tensor:
    """The size that the classifier learned to look at."""
    return images if images.shape[2:] == (64, 64) else F.interpolate(images, (64, 64), mode="area")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket"), help="the pool")
    parser.add_argument("--scenes", type=int, default=24_000)
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args(argv)
    few = args.scenes // 10
    pool = build_pool(args.folder, 64, args.scenes, few, few)
    states = tqdm(train_classifier(pool, args.steps), total=args.steps, mininterval=5)
    step, loss, net = deque(states, maxlen=1).pop()
    CLASSIFIER_WEIGHTS.parent.mkdir(exist_ok=True)
    state = net.to(memory_format=torch.contiguous_format).state_dict()
    weights = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    save_file(weights, CLASSIFIER_WEIGHTS, metadata={"steps": str(step)})
    print(json.dumps({"loss": round(loss, 4), "steps": step}))


if __name__ == "__main__":
    main()
