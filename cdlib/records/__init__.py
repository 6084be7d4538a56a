"""Recorded numbers: measured by `make records` for every concept, shown by the chapters.

A build measures its own concept live. What the other concepts give would take a laptop too long,
so it was measured before, by the same chapters, and lies in book/records/<chapter>/<concept>.json:
the numbers that the chapter glued, and a manifest of what made them.

    others = cdlib.load_records("04_removal", live=p.concept, model=p.model)
    cdlib.glue_records(others, "m_refined.{c}.iou", "removal.{c}.psnr.m_prime")
    tables.table(cdlib.record_rows(others))

    python -m cdlib.records                                        # all that is missing or stale
    python -m cdlib.records --chapter 04_removal --concept dog     # one
"""

from .reading import (
    ABLATED,
    ABLATIONS,
    RECORDED,
    SIZES,
    Record,
    glue_records,
    load_record,
    load_records,
    record_rows,
    recorded_hours,
    stale_records,
)

__all__ = [
    "ABLATED",
    "ABLATIONS",
    "RECORDED",
    "SIZES",
    "Record",
    "glue_records",
    "load_record",
    "load_records",
    "record_rows",
    "recorded_hours",
    "stale_records",
]
