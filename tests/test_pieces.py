"""Pieces of a mask that the word attends to, against a search from pixel to pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cdlib.pieces import attended_pieces


def two_squares(second: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A mask of two squares, and a map that is 1 on the first, `second` on the other, else 0."""
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[:, 2:6, 2:6] = mask[:, 9:14, 9:14] = True
    m_hat = torch.zeros(1, 16, 16)
    m_hat[:, 3, 3], m_hat[:, 11, 11] = 1.0, second
    return mask, m_hat


def by_search(mask: np.ndarray, attention: np.ndarray, least: float) -> np.ndarray:
    """The same, slow and plain: from every pixel to its neighbours, and on."""
    left, pieces = {tuple(pixel) for pixel in np.argwhere(mask)}, []
    while left:
        found, new = set(), {left.pop()}
        while new:
            found |= new
            near = {(y + a, x + b) for y, x in new for a in (-1, 0, 1) for b in (-1, 0, 1)}
            new = near & left
            left -= new
        pieces.append(found)
    strengths = [max(attention[pixel] for pixel in piece) for piece in pieces]
    kept = np.zeros_like(mask)
    for piece, strength in zip(pieces, strengths, strict=True):
        if strength >= least * max(strengths) or strength == max(strengths):
            kept[tuple(np.array(sorted(piece)).T)] = True
    return kept


def test_a_piece_is_left_out_when_the_word_attends_to_it_less():
    mask, m_hat = two_squares(0.5)
    found = attended_pieces(mask, m_hat, 0.8)
    assert found[0, 2:6, 2:6].all() and not found[0, 8:].any()
    assert torch.equal(attended_pieces(mask, m_hat, 0.5), mask)
    assert torch.equal(attended_pieces(*two_squares(0.9), 0.8), mask)


def test_strength_counts_from_the_median_of_the_map():
    mask, m_hat = two_squares(0.5)
    raised = 10 + m_hat  # 10.5 is more than nine tenths of 11
    assert torch.equal(attended_pieces(mask, raised, 0.8), attended_pieces(mask, m_hat, 0.8))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0.05, 0.7))
def test_it_is_a_search_from_pixel_to_pixel(seed, least, share):
    noise = torch.Generator().manual_seed(seed)
    masks = torch.rand(3, 12, 10, generator=noise) < share
    m_hat = torch.rand(3, 6, 5, generator=noise)
    found = attended_pieces(masks, m_hat, least)
    maps = F.interpolate(m_hat[:, None], (12, 10), mode="bilinear")[:, 0]
    for mask, one, kept in zip(masks, maps, found, strict=True):
        expected = by_search(mask.numpy(), (one - one.median()).numpy(), least)
        np.testing.assert_array_equal(kept.numpy(), expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_more_is_left_out_the_more_is_asked(seed, one, other):
    low, high = sorted((one, other))
    noise = torch.Generator().manual_seed(seed)
    masks = torch.rand(2, 12, 12, generator=noise) < 0.3
    m_hat = torch.rand(2, 4, 4, generator=noise)
    loose, strict = (attended_pieces(masks, m_hat, least) for least in (low, high))
    assert not (strict & ~loose).any() and not (loose & ~masks).any()
    assert torch.equal(strict.flatten(1).any(1), masks.flatten(1).any(1))  # never all of a mask
    assert torch.equal(attended_pieces(strict, m_hat, high), strict)


def test_nothing_stays_nothing():
    empty = torch.zeros(1, 8, 8, dtype=torch.bool)
    assert not attended_pieces(empty, torch.rand(1, 4, 4)).any()
    assert attended_pieces(empty[:0], torch.rand(1, 4, 4)[:0]).shape == (0, 8, 8)


def test_a_slip_is_told():
    mask, m_hat = two_squares(0.5)
    with pytest.raises(ValueError, match=r"masks: expected a bool tensor"):
        attended_pieces(mask.float(), m_hat)
    with pytest.raises(ValueError, match=r"masks: must be \(N, H, W\) with N = 2"):
        attended_pieces(mask, torch.cat([m_hat, m_hat]))
    with pytest.raises(ValueError, match=r"m_hat: 1 of 256 values"):
        attended_pieces(mask, torch.where(m_hat == 1, torch.nan, m_hat))
    with pytest.raises(ValueError, match=r"least=1\.5: must be a finite number"):
        attended_pieces(mask, m_hat, 1.5)
