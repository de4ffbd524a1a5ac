"""Work out what a large evaluation costs, from the measured slopes, as the page shows it."""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

SAMPLES, CLASSES, GPUS = 1_000_000, 1000, 8
SURVIVOR = (7_840, 1_900)  # forward and backward passes of `autoattack`, 9 targets


class Cost(NamedTuple):
    """Hold the seconds of one core: those of the checks, and those of each sample."""

    fixed: float
    per_sample: float
    passes: float
    classes: float

    @property
    def hours(self) -> float:
        """Return the core-hours of the example's short cascade."""
        return (self.fixed + SAMPLES * self.per_sample * self.classes) / 3600


def cost(table: dict[str, Any]) -> Cost | None:
    """Return the line through time over samples, and the factor of the classes; None without."""
    samples, classes = (table["series"][f"evaluation, {key}"] for key in ("samples", "classes"))
    if len(samples["values"]) < 2 or CLASSES not in classes["values"]:
        return None
    line = statistics.linear_regression(samples["values"], samples["seconds"])
    factor = dict(zip(classes["values"], classes["seconds"], strict=True))
    row = next(p for p in table["points"] if p["kind"] == "evaluate")
    passes = row["forwards"] + row["backwards"]
    ratio = factor[CLASSES] / factor[min(factor)]
    return Cost(max(line.intercept, 0.0), line.slope, passes, ratio)


def text(table: dict[str, Any]) -> str:
    """Return the example in words and numbers."""
    found = cost(table)
    if found is None:
        return "The series over samples and classes are not measured yet."
    forwards, backwards = SURVIVOR
    passes = SAMPLES * (forwards + backwards)
    rows = [
        (
            "each further sample of the short cascade, 10 classes",
            f"{1e3 * found.per_sample:.3g} ms",
        ),
        ("what does not grow with the samples", f"{found.fixed:.2g} s"),
        ("1,000 classes instead of 10", f"× {found.classes:.2f}"),
        ("a million samples, 1,000 classes, one core", f"{found.hours:.3g} hours"),
        ("the same, shared by eight processes", f"{found.hours / GPUS:.3g} hours"),
        ("passes a sample, short cascade", f"{found.passes:,.0f}"),
        ("passes a surviving sample, `autoattack`", f"{forwards + backwards:,}"),
        ("passes of a million survivors, `autoattack`", f"{passes:.3g}"),
        ("the same, for each of eight GPUs", f"{passes / GPUS:.3g}"),
    ]
    lines = ["| quantity | value |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows)])
