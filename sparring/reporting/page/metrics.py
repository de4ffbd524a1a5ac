"""Gather what the page shows of metrics: tables, curves over seeds, softmax by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...results.curves import AccuracyCurve
from ...results.metric_report import MetricReport
from .. import charts, metric_tables
from . import curves

MOST_CLASSES = 20  # of a chart


def metrics_section(
    reports: Sequence[MetricReport], accuracy: Sequence[AccuracyCurve]
) -> dict[str, Any] | None:
    """Return tables and charts of the section on metrics; None if it is empty."""
    drawn = curves.seed_curves(accuracy)
    if not reports and not drawn:
        return None
    return {
        "heads": [(m.name, m.n, f"{100 * m.clean:.1f}") for m in reports],
        "tables": [
            (metric_tables.where(reports, data), _rows(reports, data))
            for data in metric_tables.datasets(reports)
        ],
        "seeds": sorted({m.seed for m in reports}),
        "commits": sorted({m.commit for m in reports if m.commit}),
        "curves": drawn,
        "softmax": softmax_charts(reports),
    }


def _rows(reports: Sequence[MetricReport], data: str) -> list[tuple[str, list[list[str]], str]]:
    return [
        (head, [text.split(" ", 1) for text in metric_tables.metric_texts(cells)], unit)
        for head, cells, unit in metric_tables.grid(reports, data)
    ]


def softmax_charts(reports: Sequence[MetricReport]) -> list[str]:
    """Return a chart per data set: mean probability of each class ± one standard deviation.

    Dashed is flat, 1/K. Without data off the support there are none.
    """
    data = list(dict.fromkeys(p.data for m in reports for p in m.profiles))
    return [_softmax_chart(reports, name) for name in data] if len(data) > 1 else []


def _softmax_chart(reports: Sequence[MetricReport], data: str) -> str:
    shown = [(k, m.name, p) for k, m in enumerate(reports) for p in m.profiles if p.data == data]
    shown = shown[: curves.MOST_LINES]
    classes = max(len(p.mean) for _, _, p in shown)
    last = min(classes, MOST_CLASSES) - 1
    lines = [
        charts.Line(
            name,
            [
                charts.Point(float(c), mean, max(0.0, mean - std), min(1.0, mean + std))
                for c, (mean, std) in enumerate(zip(p.mean, p.std, strict=True))
                if c <= last
            ],
            joined=0,
            tone=k,
        )
        for k, name, p in shown
    ]
    flat = [charts.Point(0.0, 1 / classes), charts.Point(float(last), 1 / classes)]
    lines.append(charts.Line(f"1/{classes}", flat, joined=2, tone=6, dashed=True, marked=False))
    where = metric_tables.where(reports, data)
    return charts.lines(
        lines,
        title=f"Mean softmax by class on {where}",
        x=charts.Axis("class", 0, max(1, last), whole=True),
        y=charts.Axis(f"mean probability, {where}", 0, 1),
    )
