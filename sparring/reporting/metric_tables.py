"""Metrics and accuracy curves: a terminal table, figures, and what the page's section holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..results.curves import Curve
from ..results.metric_report import MetricReport, MetricRow
from .figures import STYLE, colour, legend

ARROWS = {"higher": "↑", "lower": "↓"}


def measures(found: Sequence[MetricReport]) -> Group:
    """A table a data set: a row a metric, a column a model."""
    where = list(dict.fromkeys(row.data for m in found for row in m.rows))
    return Group(*(_table(found, data) for data in where))


def _table(found: Sequence[MetricReport], data: str) -> Table:
    own = {m.dataset for m in found}
    title = f"metrics on {data}" + ("" if data in own else ", off the support")
    out = Table(title=Text(f"{title}: mean [95 % interval]"), title_justify="left")
    out.add_column("metric")
    for m in found:
        out.add_column(Text(f"{m.name} (n = {m.n})"), justify="right")
    out.add_column("unit")
    for head, cells, unit in grid(found, data):
        out.add_row(Text(head), *(Text(said(c)) for c in cells), Text(unit))
    return out


def grid(found: Sequence[MetricReport], data: str) -> list[tuple[str, list[MetricRow | None], str]]:
    """Rows of a comparison on one data set: the metric with its arrow, a cell a model, the unit.

    Metrics with other arguments stand in rows of their own.
    """
    known: dict[str, tuple[MetricRow, dict[int, MetricRow]]] = {}
    for k, m in enumerate(found):
        for row in m.rows:
            if row.data == data:
                key = f"{row.name}{sorted(row.config.items())}"
                known.setdefault(key, (row, {}))[1][k] = row
    return [
        (f"{row.name} {ARROWS[row.better]}", [cells.get(k) for k in range(len(found))], row.unit)
        for row, cells in known.values()
    ]


def said(row: MetricRow | None) -> str:
    """The mean, its interval, and how many samples have no value.

    >>> said(MetricRow("ebd", "d", 0.25, 0.2, 0.3, 0.25, 100, 3, "u", "higher", 1.0))
    '0.25 [0.2, 0.3], 3 undefined'
    """
    if row is None:
        return "–"
    lost = f", {row.undefined} undefined" if row.undefined else ""
    if row.value is None:
        return f"none{lost}"
    span = "" if row.low is None or row.high is None else f" [{row.low:.3g}, {row.high:.3g}]"
    return f"{row.value:.3g}{span}{lost}"


def curves(found: Sequence[Curve]) -> Figure | None:
    """Robust accuracy against eps, a line a recipe; bands are 95 %, over seeds where there are
    several, else over samples. A panel for the protocol of common samples where it is known."""
    if not found:
        return None
    panels = [[c for c in found if c.common == common] for common in (False, True)]
    panels = [p for p in panels if p]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2 if len(panels) == 1 else 9.2, 3.4), layout="constrained")
        names = list(dict.fromkeys(c.name for c in found))
        drawn = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(drawn, panels, strict=True):
            for c in panel:
                tone = colour(names.index(c.name))
                label = c.name + (f" ({len(c.seeds)} seeds)" if len(c.seeds) > 1 else "")
                axes.plot(c.eps, 100 * np.array(c.mean), color=tone, marker="o", ms=3, label=label)
                low, high = (100 * np.clip(v, 0, 1) for v in (c.low, c.high))
                axes.fill_between(c.eps, low, high, color=tone, alpha=0.2, lw=0)
            axes.set(xlabel=f"eps ({panel[0].threat}, input units)", ylim=(0, 102))
            axes.set_ylabel("accuracy, %")
            axes.set_xlim(left=0)
            title = "all samples"
            if panel[0].common:
                title = f"samples that all get right: {_share(panel[0])}"
            axes.set_title(title, fontsize=9)
        legend(figure, drawn)
    return figure


def _share(c: Curve) -> str:
    return f"{100 * c.share:.1f} %" + ("" if c.sem is None else f" ± {100 * c.sem:.1f} (s.e.m.)")


def softmax(found: Sequence[MetricReport]) -> Figure | None:
    """Mean probability a class ± one standard deviation over samples, a panel a data set, a model
    a colour; dashed is flat, 1/K. None where only the model's own data were looked at."""
    where = list(dict.fromkeys(p.data for m in found for p in m.profiles))
    if len(where) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        width = min(4.2 * len(where), 12.6)
        figure = Figure(figsize=(width, 3.1), layout="constrained")
        own = {m.dataset for m in found}
        for axes, data in zip(figure.subplots(1, len(where), squeeze=False)[0], where, strict=True):
            shown = [(k, p) for k, m in enumerate(found) for p in m.profiles if p.data == data]
            for i, (k, p) in enumerate(shown):
                at = np.arange(len(p.mean)) + (i - (len(shown) - 1) / 2) * 0.8 / len(shown)
                axes.bar(at, p.mean, 0.8 / len(shown), color=colour(k), label=found[k].name)
                axes.errorbar(at, p.mean, p.std, fmt="none", ecolor="#666666", lw=0.7)
            classes = max(len(p.mean) for _, p in shown)
            axes.axhline(1 / classes, ls="--", lw=1, color="#444444")
            axes.set_title(data + ("" if data in own else ", off the support"), fontsize=9)
            axes.set(xlabel="class", ylabel="mean probability", ylim=(0, 1))
            axes.set_xticks(range(classes))
        legend(figure, [axes])
    return figure


def section(found: Sequence[MetricReport], lines: Sequence[Curve]) -> dict[str, Any]:
    """What the page shows: tables, and the figures as they are."""
    where = list(dict.fromkeys(row.data for m in found for row in m.rows))
    return {
        "heads": [(m.name, m.n, f"{100 * m.clean:.1f}") for m in found],
        "tables": [
            (data, [(head, [said(c) for c in cells], unit) for head, cells, unit in rows])
            for data in where
            if (rows := grid(found, data))
        ],
        "own": {m.dataset for m in found},
        "seeds": sorted({m.seed for m in found}),
        "commits": sorted({m.commit for m in found if m.commit}),
        "curves": curves(lines),
        "softmax": softmax(found),
    }
