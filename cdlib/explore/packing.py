"""Weights in few bytes: float16, its low bytes apart from its high ones, compressed.

A float16's high byte is sign, exponent and the first two bits after the point, and much alike from
weight to weight; its low byte is noise. Side by side they hide that from gzip, one plane after the
other they do not. Nothing is lost, and a page undoes it in milliseconds (`web/src/packing.js`).
"""

from __future__ import annotations

import gzip

import numpy as np


def is_half(values: np.ndarray) -> bool:
    """Can float16 hold every one of these float32 values as it is?"""
    return bool(np.array_equal(_rounded(values).astype(np.float32), values))


def to_halves(values: np.ndarray) -> np.ndarray:
    """The bit patterns, uint16, of values rounded to float16.

    Raises ValueError for values that float16 has no number near to (65520 and above, NaN).
    """
    halves = _rounded(values)
    if not np.isfinite(halves).all():
        raise ValueError(
            f"values: must be finite and below 65520 in size, the range of float16; the largest is "
            f"{np.abs(values).max():g}."
        )
    return halves.view(np.uint16)


def from_halves(halves: np.ndarray) -> np.ndarray:
    """The float32 values of float16 bit patterns (uint16)."""
    return halves.view(np.float16).astype(np.float32)


def pack(halves: np.ndarray) -> bytes:
    """uint16 (P,) to bytes: all low bytes, then all high bytes, gzipped; the same each time."""
    planes = halves.astype("<u2").view(np.uint8).reshape(-1, 2).T
    return gzip.compress(planes.tobytes(), compresslevel=9, mtime=0)


def unpack(packed: bytes) -> np.ndarray:
    """What `pack` was given: uint16 (P,)."""
    planes = np.frombuffer(gzip.decompress(packed), np.uint8).reshape(2, -1)
    return np.ascontiguousarray(planes.T).view("<u2").reshape(-1).astype(np.uint16)


def difference(halves: np.ndarray, base: np.ndarray) -> np.ndarray:
    """How far bit patterns lie from others, uint16 (P,), wrapped around at 2**16.

    Fine-tuned weights lie near those they came from, and so do their bit patterns: within a sign,
    neighbouring patterns are neighbouring numbers. Adding `base`, wrapped as well, undoes it.
    """
    if halves.shape != base.shape:
        raise ValueError(f"halves: {halves.shape} given, the base has {base.shape}.")
    return halves - base


def _rounded(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32).astype(np.float16)
