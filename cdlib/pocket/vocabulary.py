"""The pocket model's own CLIP tokenizer: every word of the world's captions is one token."""

from __future__ import annotations

import json
import string
import tempfile
from pathlib import Path

from transformers import CLIPTokenizer

from ..world import BACKGROUNDS, COLOURS, CONCEPTS
from ..world.radiograph import FINDINGS

FUNCTION_WORDS = ("a", "an", "the", "photo", "of", "on", "in", "and", "with")
RADIOGRAPH_WORDS = ("final", "report", "examination", "chest", "no", "finding")
UNTAUGHT_WORDS = ("background",)  # known to the tokenizer, never captioned: fine-tuning teaches it
WORDS = (
    *FUNCTION_WORDS, *CONCEPTS, *COLOURS, *BACKGROUNDS, *RADIOGRAPH_WORDS, *FINDINGS,
    *UNTAUGHT_WORDS,
)  # fmt: skip
MAX_LENGTH = 20  # tokens of a prompt with its start and end; Stable Diffusion has 77
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_pair_tables(
    words: tuple[str, ...] = WORDS,
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges under which each of `words` is one token and others fall to pieces.

    A word is glued together from its end, which no other place in a word looks like, so merges
    of different words cannot get into each other's way ("r d</w>", "i rd</w>", "b ird</w>").
    """
    pieces = [*string.ascii_lowercase, *(c + "</w>" for c in string.ascii_lowercase)]
    merges: list[tuple[str, str]] = []
    for word in words:
        right = word[-1] + "</w>"
        for left in reversed(word[:-1]):
            if (left, right) not in merges:
                merges.append((left, right))
                pieces.append(left + right)
            right = left + right
    vocabulary = {piece: k for k, piece in enumerate([*pieces, START, END])}
    return vocabulary, merges


def build_tokenizer(max_length: int = MAX_LENGTH) -> CLIPTokenizer:
    """A `CLIPTokenizer` over the words of the world, padded with its end token as CLIP's is."""
    vocabulary, merges = byte_pair_tables()
    with tempfile.TemporaryDirectory() as folder:
        vocab_file, merges_file = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocab_file.write_text(json.dumps(vocabulary))
        merges_file.write_text("#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n")
        return CLIPTokenizer(
            str(vocab_file), str(merges_file), model_max_length=max_length, pad_token=END
        )
