"""Show metrics and accuracy curves: terminal table, figures, and a section of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..results.curves import AccuracyCurve
from ..results.metric_report import MetricReport, MetricRow
from .digits import decimals, with_interval
from .figures import STYLE, colour, legend, legend_name
from .literal import LiteralTable

ARROWS = {"higher": "↑", "lower": "↓"}


def metrics_table(reports: Sequence[MetricReport]) -> Group:
    """Return a terminal table per data set: a row per metric, a column per model."""
    return Group(*(_table(reports, data) for data in _datasets(reports)))


def _datasets(reports: Sequence[MetricReport]) -> list[str]:
    return list(dict.fromkeys(row.data for m in reports for row in m.rows))


def _table(reports: Sequence[MetricReport], data: str) -> Table:
    title = f"metrics on {_where(reports, data)}: mean [95 % interval]"
    out = LiteralTable(title=Text(title), title_justify="left")
    out.add_column("metric")
    for m in reports:
        out.add_column(Text(f"{m.name} (n = {m.n})"), justify="right")
    out.add_column("unit")
    for head, cells, unit in grid(reports, data):
        out.add_row(Text(head), *map(Text, metric_texts(cells)), Text(unit))
    return out


def _where(reports: Sequence[MetricReport], data: str) -> str:
    return data + ("" if data in {m.dataset for m in reports} else ", off the support")


def grid(
    reports: Sequence[MetricReport], data: str
) -> list[tuple[str, list[MetricRow | None], str]]:
    """Return rows on one data set: the metric with its arrow, a cell per model, the unit.

    A metric at other arguments gets another row.
    """
    known: dict[str, tuple[MetricRow, dict[int, MetricRow]]] = {}
    for k, m in enumerate(reports):
        for row in m.rows:
            if row.data == data:
                key = f"{row.name}{sorted(row.config.items())}"
                known.setdefault(key, (row, {}))[1][k] = row
    return [
        (f"{row.name} {ARROWS[row.better]}", [cells.get(k) for k in range(len(reports))], row.unit)
        for row, cells in known.values()
    ]


def metric_texts(rows: Sequence[MetricRow | None]) -> list[str]:
    """Return means of a metric, their intervals, and the numbers of samples without a value.

    All have the same decimals.

    >>> metric_texts([MetricRow("ebd", "d", 0.4, 0.38, 0.42, 0.4, 100, 3, "u", "higher", 1.0)])
    ['0.400 [0.380, 0.420], 3 undefined']
    """
    places = decimals(row.value for row in rows if row)
    return ["–" if row is None else _metric_text(row, places) for row in rows]


def _metric_text(row: MetricRow, places: int) -> str:
    undefined = f", {row.undefined} undefined" if row.undefined else ""
    if row.value is None:
        return f"none{undefined}"
    return with_interval(row.value, row.low, row.high, places) + undefined


def curve_figure(curves: Sequence[AccuracyCurve]) -> Figure | None:
    """Draw robust accuracy against eps, a line per recipe; None without curves.

    Bands are 95 %, over several seeds or over the samples of one. Curves on common samples have a
    panel of theirs.
    """
    if not curves:
        return None
    panels = [p for common in (False, True) if (p := [c for c in curves if c.common == common])]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2 if len(panels) == 1 else 9.2, 3.4), layout="constrained")
        names = list(dict.fromkeys(c.name for c in curves))
        grid_axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(grid_axes, panels, strict=True):
            for c in panel:
                tone = colour(names.index(c.name))
                text = legend_name(c.name) + (
                    f" ({len(c.seeds)} seeds)" if len(c.seeds) > 1 else ""
                )
                axes.plot(c.eps, 100 * np.array(c.mean), color=tone, marker="o", ms=3, label=text)
                low, high = (100 * np.clip(v, 0, 1) for v in (c.low, c.high))
                axes.fill_between(c.eps, low, high, color=tone, alpha=0.2, lw=0)
            c = panel[0]
            axes.set(xlabel=f"eps ({c.threat}, input units)", ylabel="accuracy, %", ylim=(0, 102))
            axes.set_xlim(left=0)
            spread = "" if c.sem is None else f" ± {100 * c.sem:.1f} (s.e.m.)"
            right = f"samples that all get right: {100 * c.share:.1f} %{spread}"
            axes.set_title(right if c.common else "all samples", fontsize=9)
        legend(figure, grid_axes)
    return figure


def softmax_figure(reports: Sequence[MetricReport]) -> Figure | None:
    """Draw the mean probability per class ± one standard deviation over samples.

    A panel per data set, a colour per model; dashed is flat, 1/K. None if no data off the support
    were measured.
    """
    datasets = list(dict.fromkeys(p.data for m in reports for p in m.profiles))
    if len(datasets) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(min(4.2 * len(datasets), 12.6), 3.1), layout="constrained")
        panels = figure.subplots(1, len(datasets), squeeze=False)[0]
        for axes, data in zip(panels, datasets, strict=True):
            shown = [(k, p) for k, m in enumerate(reports) for p in m.profiles if p.data == data]
            for i, (k, p) in enumerate(shown):
                x = np.arange(len(p.mean)) + (i - (len(shown) - 1) / 2) * 0.8 / len(shown)
                axes.bar(
                    x, p.mean, 0.8 / len(shown), color=colour(k), label=legend_name(reports[k].name)
                )
                axes.errorbar(x, p.mean, p.std, fmt="none", ecolor="#666666", lw=0.7)
            classes = max(len(p.mean) for _, p in shown)
            axes.axhline(1 / classes, ls="--", lw=1, color="#444444")
            axes.set_title(_where(reports, data), fontsize=9)
            axes.set(xlabel="class", ylabel="mean probability", ylim=(0, 1), xticks=range(classes))
        legend(figure, [axes])
    return figure


def section(reports: Sequence[MetricReport], curves: Sequence[AccuracyCurve]) -> dict[str, Any]:
    """Return the page's section: tables as text, and Matplotlib figures."""
    return {
        "heads": [(m.name, m.n, f"{100 * m.clean:.1f}") for m in reports],
        "tables": [
            (data, [(head, metric_texts(cells), unit) for head, cells, unit in rows])
            for data in _datasets(reports)
            if (rows := grid(reports, data))
        ],
        "trained_on": {m.dataset for m in reports},
        "seeds": sorted({m.seed for m in reports}),
        "commits": sorted({m.commit for m in reports if m.commit}),
        "curves": curve_figure(curves),
        "softmax": softmax_figure(reports),
    }
