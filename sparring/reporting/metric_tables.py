"""Show metrics as a terminal table, and as the cells of the page's."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..results.metric_report import MetricReport, MetricRow
from .digits import decimals, with_interval
from .literal import LiteralTable

ARROWS = {"higher": "↑", "lower": "↓"}


def metrics_table(reports: Sequence[MetricReport]) -> Group:
    """Return a terminal table per data set: a row per metric, a column per model."""
    return Group(*(_table(reports, data) for data in datasets(reports)))


def datasets(reports: Sequence[MetricReport]) -> list[str]:
    """Return the data sets that metrics were measured on."""
    return list(dict.fromkeys(row.data for m in reports for row in m.rows))


def _table(reports: Sequence[MetricReport], data: str) -> Table:
    title = f"metrics on {where(reports, data)}: mean [95 % interval]"
    out = LiteralTable(title=Text(title), title_justify="left")
    out.add_column("metric")
    for m in reports:
        out.add_column(Text(f"{m.name} (n = {m.n})"), justify="right")
    out.add_column("unit")
    for head, cells, unit in grid(reports, data):
        out.add_row(Text(head), *map(Text, metric_texts(cells)), Text(unit))
    return out


def where(reports: Sequence[MetricReport], data: str) -> str:
    """Return the name of a data set, and whether it is off the support of the training data."""
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
