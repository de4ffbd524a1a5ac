"""Draw the figure of a page: its runs by robust accuracy, with intervals."""

from __future__ import annotations

from sparring.reporting.charts import ForestRow, forest, standalone
from sparring.results import verdicts
from sparring.runtime.fractions import format_number

from . import statistics
from .collect import Collected, Measured
from .tables import DATA

MARK = "†"


def draw(found: Collected) -> str:
    """Return the figure as the content of an SVG file: a row per run of the main table."""
    items = found.headline()
    main = items[0].evaluation
    bold = statistics.not_told_apart(items)
    rows = [_row(m, m.run in bold) for m in items if m.evaluation == main]
    return standalone(forest(rows, title=title(found), axis=f"robust accuracy, {main}, %")) + "\n"


def title(found: Collected) -> str:
    """Return what the figure shows, with its highest and its lowest run."""
    items = found.headline()
    first = items[0]
    last = [m for m in items if m.evaluation == first.evaluation][-1]
    data = DATA.get(first.results[0].dataset, first.results[0].dataset)
    at = "" if first.eps is None else f", eps {format_number(first.eps)}"
    ends = [f"{percent(m.robust):.1f} % ({m.run})" for m in (first, last)]
    return (
        f"Robust accuracy on {data}{at} under {first.suite}, with 95 % intervals: from "
        f"{ends[0]} down to {ends[1]}"
    )


def _row(measured: Measured, is_bold: bool) -> ForestRow:
    accuracies = [row.robust for _, row in measured.rows]
    robust = statistics.interval(accuracies)
    clean = statistics.interval([r.clean for r in measured.results])
    is_unsound = verdicts.NOT_SOUND in statistics.measurement(measured)
    return ForestRow(
        measured.run,
        percent(robust.accuracy),
        100 * robust.low,
        100 * robust.high,
        points=[percent(i.accuracy) for i in accuracies] if len(accuracies) > 1 else (),
        mark=MARK if is_unsound else "",
        reference=percent(clean.accuracy),
        bold=is_bold,
    )


def percent(share: float) -> float:
    """Return a share in %, without the float's error that would round 88.15 down.

    >>> f"{100 * 0.8815:.1f} {percent(0.8815):.1f}"
    '88.1 88.2'
    """
    return round(100 * share, 6)
