"""Estimates handed to the prose."""

from __future__ import annotations

from cdlib.metrics import Estimate
from cdlib.results import glue, glue_text


def glue_estimate(
    name: str,
    estimate: Estimate | None,
    *,
    unit: str | None = "fraction",
    paper: float | None = None,
) -> None:
    """Glue an estimate with its interval and n; None reads "not measured" in the prose."""
    if estimate is None:
        for key in (name, f"{name}.ci95", f"{name}.n"):
            glue_text(key, "not measured")
        return
    glue(name, estimate.value, ci95=estimate.ci95, n=estimate.n, unit=unit, paper=paper)
