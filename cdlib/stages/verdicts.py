"""What was asked of the book's results before they were measured, and what was found.

    asked_and_found({"bird": {"unet_share": Estimate(...), ...}, "dog": {...}})

A concept's numbers are estimates by name, see `NUMBERS`; one that is not known is None or absent,
and what depends on it is "not measured".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from cdlib.metrics import Estimate

Numbers = Mapping[str, Estimate | None]

# Pooled IoU of one method above another's in points of 100, and of one as a share of another's.
NUMBERS = {
    "gain_m_refined": "M above M_pre",
    "gain_unet_d_s": "U-Net on D_s above M",
    "gain_unet_d_s_synthetic": "U-Net on D_s + D'_s above U-Net on D_s",
    "gain_otsu": "U-Net on D_s + D'_s above Otsu",
    "gain_grabcut": "U-Net on D_s + D'_s above GrabCut",
    "gain_daam": "U-Net on D_s + D'_s above attention as DAAM cuts it",
    "gain_m_crop": "U-Net on D_s + D'_s above M_crop",
    "gain_unet_m_pre": "U-Net on D_s + D'_s above U-Net on M_pre",
    "share": "U-Net on D_s + D'_s as a share of U-Net on true masks",
    "gain_coloured": "the same network on outlines by colour, above the best of these five",
    "share_coloured": "the same network on outlines by colour, as a share of U-Net on true masks",
    "gain_attended": "U-Net on D_s by colour and attention, above the best of these five",
    "share_attended": "U-Net on D_s by colour and attention, as a share of U-Net on true masks",
}
ORDER = ("gain_m_refined", "gain_unet_d_s", "gain_unet_d_s_synthetic")
RIVALS = ("gain_otsu", "gain_grabcut", "gain_daam", "gain_m_crop", "gain_unet_m_pre")
CONCEPTS_IN_ORDER = 3  # of four
SHARE = 0.92  # of the supervised U-Net's IoU, on the mean of four; the paper's own is 0.874
POINTS = 10  # above each unsupervised baseline


class Verdict(NamedTuple):
    """asked: in words. found: a concept's numbers in words, "" where not measured. held: None
    where too little is measured to tell."""

    asked: str
    found: dict[str, str]
    held: bool | None


def asked_and_found(numbers: Mapping[str, Numbers]) -> list[Verdict]:
    """A verdict for everything that was asked; `numbers` has the paper's four concepts."""
    return [
        _order(numbers),
        _share("share", numbers),
        *(_above(name, numbers) for name in RIVALS),
        _share("share_coloured", numbers),
        _above("gain_coloured", numbers),
        _share("share_attended", numbers),
        _above("gain_attended", numbers),
    ]


def _order(numbers: Mapping[str, Numbers]) -> Verdict:
    """Each stage better than the one before; the last, which adds synthetic images, no worse."""
    found, kept = {}, []
    for concept, known in numbers.items():
        steps = [known.get(name) for name in ORDER]
        if None in steps:
            found[concept] = ""
            continue
        first, second, last = (step.value for step in steps)
        kept.append(first > 0 and second > 0 and last >= 0)
        found[concept] = f"{first:+.1f}, {second:+.1f}, {last:+.1f}: " + _word(kept[-1])
    missing = len(numbers) - len(kept)
    if sum(kept) >= CONCEPTS_IN_ORDER:
        held = True
    else:  # what is not measured may still decide it
        held = None if sum(kept) + missing >= CONCEPTS_IN_ORDER else False
    asked = (
        f"M_pre < M < U-Net on D_s ≤ U-Net on D_s + D'_s for {CONCEPTS_IN_ORDER} of "
        f"{len(numbers)} (steps in points of IoU)"
    )
    return Verdict(asked, found, held)


def _share(name: str, numbers: Mapping[str, Numbers]) -> Verdict:
    asked = f"{NUMBERS[name]}, on the mean: {SHARE:g} or more"
    found, values = _each(numbers, name, "{:.3f}".format)
    held = sum(values) / len(values) >= SHARE if _complete(values, numbers) else None
    return Verdict(asked, found, held)


def _above(name: str, numbers: Mapping[str, Numbers]) -> Verdict:
    asked = f"{NUMBERS[name]}: {POINTS} points of IoU or more"
    found, values = _each(numbers, name, "{:+.1f}".format)
    if any(value < POINTS for value in values):
        return Verdict(asked, found, False)
    return Verdict(asked, found, True if _complete(values, numbers) else None)


def _each(numbers: Mapping[str, Numbers], name: str, form: Callable[[float], str]):
    known = {concept: row.get(name) for concept, row in numbers.items()}
    found = {concept: form(one.value) if one else "" for concept, one in known.items()}
    return found, [one.value for one in known.values() if one]


def _complete(values: list[float], numbers: Mapping[str, Numbers]) -> bool:
    return bool(values) and len(values) == len(numbers)


def _word(held: bool) -> str:
    return "held" if held else "missed"
