"""Tables of a run: rows of words and numbers, written as a reader would write them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from cdlib.world import CONCEPTS

DASH = "–"
NARROW = "\u00a0"  # a space at which no line breaks

# What stands in the welcome page's table, in this order: a pattern of names, and its words.
SPOKEN = {
    r"pocket\.vae\.psnr": "autoencoder, there and back: PSNR",
    r"pocket\.samples\.object_accuracy": "samples that show the object asked for",
    r"pocket\.samples\.colour_accuracy": "samples that show the colour asked for",
    r"m_hat\.(\w+)\.auc": "{0}: heat map, AUC",
    r"m_pre\.(\w+)\.acc": "{0}: coarse mask, accuracy",
    r"m_pre\.(\w+)\.iou": "{0}: coarse mask, IoU",
    r"m_pre\.(\w+)\.miou": "{0}: coarse mask, mIoU",
    r"removal\.(\w+)\.psnr\.m": "{0} removed before fine-tuning: PSNR",
    r"removal\.(\w+)\.psnr\.m_prime": "{0} removed after fine-tuning: PSNR",
    r"removal\.(\w+)\.psnr\.m_crop": "{0} covered with a mirrored piece: PSNR",
    r"removal\.(\w+)\.psnr\.cv2": "{0} removed by OpenCV: PSNR",
    r"removal\.(\w+)\.leakage\.m": "{0} removed before fine-tuning: still seen",
    r"removal\.(\w+)\.leakage\.m_prime": "{0} removed after fine-tuning: still seen",
    r"m_crop\.(\w+)\.iou": "{0}: mask by the mirrored piece, IoU",
    r"m_refined\.(\w+)\.acc": "{0}: refined mask, accuracy",
    r"m_refined\.(\w+)\.iou": "{0}: refined mask, IoU",
    r"m_refined\.(\w+)\.miou": "{0}: refined mask, mIoU",
    r"synthetic\.(\w+)\.fid": "{0}: synthetic images, FID",
    r"synthetic\.(\w+)\.kid": "{0}: synthetic images, KID",
    r"baseline\.otsu\.(\w+)\.iou": "{0}: Otsu's threshold, IoU",
    r"baseline\.grabcut\.(\w+)\.iou": "{0}: GrabCut, IoU",
    r"baseline\.daam\.(\w+)\.iou": "{0}: attention cut as DAAM does, IoU",
    r"unet_m_pre\.(\w+)\.iou": "{0}: U-Net on coarse masks, IoU",
    r"unet_d_s\.(\w+)\.iou": "{0}: U-Net on refined masks, IoU",
    r"unet_d_s_synthetic\.(\w+)\.iou": "{0}: U-Net on refined masks and synthetic images, IoU",
    r"unet_coloured\.(\w+)\.iou": "{0}: the same with outlines by colour, IoU",
    r"unet_attended\.(\w+)\.iou": "{0}: U-Net on masks by colour and attention, IoU",
    r"unet_supervised\.(\w+)\.iou": "{0}: U-Net on true masks, IoU",
}
GATES = {r"pocket\.m_hat\.(\w+)\.auc": "attention to “{0}”: AUC"}
COST = r"chapter\.\d\d\.(seconds|peak_rss_mb)"


class Table:
    """Rows of words: an HTML table without row numbers in a notebook, plain text elsewhere."""

    def __init__(self, rows: Sequence[Mapping[str, str]]) -> None:
        self.frame = pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        return self.frame.to_html(index=False, border=0, classes="table", justify="left")

    def __repr__(self) -> str:
        return self.frame.to_string(index=False)


def table(rows: Sequence[Mapping[str, str]]) -> Table:
    """A table to show, from one mapping a row: column to text."""
    if not rows:
        raise ValueError("rows: give at least one.")
    return Table(rows)


def number(value: float | None, unit: str | None = None) -> str:
    """A number as the prose writes it: fractions to three places, dB to one, else three digits."""
    if value is None:
        return DASH
    if isinstance(value, int):
        return f"{value:,d}"
    if unit == "fraction":
        return f"{value:.3f}"
    text = format(value, ".1f" if unit == "dB" else ".3g")
    return f"{text}{NARROW}{unit}" if unit else text


def span(ci95: Sequence[float] | None, unit: str | None = None) -> str:
    """An interval, without its unit and in one piece."""
    if ci95 is None:
        return DASH
    low, high = (number(end, unit).removesuffix(f"{NARROW}{unit}") for end in ci95)
    return f"{low} to {high}".replace(" ", NARROW)


def _measured(gate: Mapping) -> str:
    """A gate's number, with as many places as it takes to see a miss."""
    words = number(gate["value"], gate["unit"])
    missed = gate["value"] < gate["target"]
    if missed and words == number(gate["target"], gate["unit"]):
        return format(gate["value"], ".5f")
    return words


def gates_table(gates: Mapping[str, Mapping]) -> Table:
    """Gate, what was asked, what was measured with interval and n, and whether that holds."""
    return table(
        [
            {
                "gate": spoken(name, SPOKEN | GATES) or name,
                "asked": f"≥{NARROW}{number(gate['target'], gate['unit'])}",
                "measured": _measured(gate),
                "95% interval": span(gate["ci95"], gate["unit"]),
                "n": number(gate["n"]),
                "verdict": "held" if gate["value"] >= gate["target"] else "missed",
            }
            for name, gate in gates.items()
        ]
    )


def results_table(results: Mapping[str, Mapping]) -> Table:
    """The results that have words of their own, in the order of `SPOKEN`."""
    rows = [
        _result_row(spoken(name, {pattern: words}), record)
        for pattern, words in SPOKEN.items()
        for name, record in sorted(results.items(), key=_by_concept)
        if re.fullmatch(pattern, name)
    ]
    return _so_far(rows)


def _so_far(rows: Sequence[Mapping[str, str]]) -> Table:
    """What the chapters have left, or that none has run, where the welcome page is run alone."""
    return table(rows or [{"result": "none yet: make book runs the other chapters first"}])


def _by_concept(result: tuple[str, Mapping]) -> int:
    """The place among the concepts of the one in a result's name; findings come after."""
    parts = result[0].split(".")
    return next((k for k, concept in enumerate(CONCEPTS) if concept in parts), len(CONCEPTS))


def all_results_table(results: Mapping[str, Mapping]) -> Table:
    """Every result under its own name, but for what the chapters cost."""
    named = [name for name in sorted(results) if not re.fullmatch(COST, name)]
    return _so_far([_result_row(name, results[name]) for name in named])


def costs_table(results: Mapping[str, Mapping]) -> Table:
    """Seconds and memory of the chapters that have run so far."""
    chapters = sorted({r["chapter"] for n, r in results.items() if re.fullmatch(COST, n)})
    cost = {
        (record["chapter"], found[1]): record["value"]
        for name, record in results.items()
        if (found := re.fullmatch(COST, name))
    }
    return _so_far(
        [
            {
                "chapter": chapter,
                "seconds": f"{cost[chapter, 'seconds']:.0f}",
                "memory at most": f"{cost[chapter, 'peak_rss_mb']:,d} MB",
            }
            for chapter in chapters
        ]
    )


def spoken(name: str, words: Mapping[str, str] = SPOKEN) -> str | None:
    """A result's name in words, None for one that has none."""
    for pattern, text in words.items():
        if found := re.fullmatch(pattern, name):
            return text.format(*found.groups())
    return None


def _result_row(words: str, record: Mapping) -> dict[str, str]:
    unit = record["unit"]
    return {
        "result": words,
        "value": number(record["value"], unit),
        "95% interval": span(record["ci95"], unit),
        "n": number(record["n"]),
        "paper": number(record["paper"], unit),
        "chapter": (record["chapter"] or DASH)[:2],
        "source": record["source"],
    }
