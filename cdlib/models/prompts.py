"""Prompts as the U-Net reads them, and where in them a word is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import torch
from diffusers import StableDiffusionPipeline


def encode_prompts(pipe: StableDiffusionPipeline, prompts: str | Sequence[str]) -> torch.Tensor:
    """Prompts as the U-Net reads them, padded to the model's length as the pipeline does.

    Returns (B, L, D) on the model's device. ValueError for a prompt that the model would cut, or
    that has a word outside its vocabulary.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError(f"prompts={prompts!r}: must be a string or a list of at least one string.")
    for prompt in prompts:
        n_tokens, limit = len(_token_ids(pipe, prompt)), pipe.tokenizer.model_max_length
        if n_tokens > limit:
            raise ValueError(
                f"prompt={prompt!r} has {n_tokens} tokens; this model reads {limit}, "
                "start and end included."
            )
    with torch.no_grad():
        return pipe.encode_prompt(prompts, pipe.device, 1, False)[0]


def prompt_tokens(pipe: StableDiffusionPipeline, prompt: str) -> list[str]:
    """The prompt's tokens as text, start and end marks included; index k is position k.

    >>> prompt_tokens(pipe, "a polar bear")   # doctest: +SKIP
    ['<|startoftext|>', 'a', 'polar', 'bear', '<|endoftext|>']
    """
    pieces = pipe.tokenizer.convert_ids_to_tokens(_token_ids(pipe, prompt))
    return [piece.removesuffix("</w>") for piece in pieces]


def token_positions(pipe: StableDiffusionPipeline, prompt: str, word: str) -> list[int]:
    """Where `word` sits among the prompt's tokens (position 0 is the start mark).

    A word that the tokenizer splits, or a phrase ("polar bear"), gives all its pieces; a word that
    occurs twice gives both places. Case does not matter, whole words do: "bird" is not in "birds".
    ValueError if the prompt does not have it, if the model's length cuts it off, or if the
    vocabulary has no piece for it.
    """
    ids = _token_ids(pipe, prompt)
    positions = find_word(pipe, ids, word)
    if not positions:
        raise ValueError(
            f"word={word!r} is not in prompt={prompt!r}.{_nearest_words(word, prompt)}"
        )
    last = pipe.tokenizer.model_max_length - 2  # the end mark takes the last place
    if positions[-1] > last:
        raise ValueError(
            f"word={word!r} lies beyond the {last} tokens that this model reads of {prompt!r}."
        )
    return positions


def find_word(pipe: StableDiffusionPipeline, ids: Sequence[int], word: str) -> list[int]:
    """Positions of the pieces of `word` in a prompt that is already token ids; none is no error."""
    if not isinstance(word, str) or not word.strip():
        raise ValueError(f"word={word!r}: must be a word or a phrase.")
    pieces = pipe.tokenizer(word, add_special_tokens=False).input_ids
    if pipe.tokenizer.unk_token_id in pieces:
        raise ValueError(f"word={word!r} is not in this model's vocabulary.")
    marks = set(pipe.tokenizer.all_special_ids)
    texts = pipe.tokenizer.convert_ids_to_tokens(list(ids))
    positions: list[int] = []
    for start in range(1, len(ids) - len(pieces) + 1):
        word_starts = ids[start - 1] in marks or texts[start - 1].endswith("</w>")
        if word_starts and list(ids[start : start + len(pieces)]) == pieces:
            positions.extend(range(start, start + len(pieces)))
    return positions


def _token_ids(pipe: StableDiffusionPipeline, prompt: str) -> list[int]:
    """All of the prompt's tokens, marks included, uncut. ValueError for a word it does not know."""
    encoded = pipe.tokenizer(prompt, return_offsets_mapping=True, verbose=False)
    for token, (start, stop) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
        if token == pipe.tokenizer.unk_token_id and start < stop:  # the marks span no text
            raise ValueError(
                f"prompt={prompt!r}: {prompt[start:stop]!r} is not in this model's vocabulary."
            )
    return encoded.input_ids


def _nearest_words(word: str, prompt: str) -> str:
    words = re.findall(r"\w+", prompt.lower())
    near = difflib.get_close_matches(word.lower(), words, n=3, cutoff=0.4) or words
    return f" Nearest words of the prompt: {', '.join(dict.fromkeys(near))}." if near else ""
