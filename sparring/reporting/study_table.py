"""Write a study as a table and as Markdown: a row per run, over its seeds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from ..results.collapsed import SUFFIX, has_collapsed, with_collapsed
from ..results.intervals import Interval
from ..results.metric_report import MetricReport, MetricRow
from ..results.result import EpsRow, Result
from ..runtime.fractions import format_number
from ..runtime.text import printable
from . import format
from .digits import decimals, fixed, with_interval
from .metric_tables import ARROWS

SEED = "-seed"
UNSOUND_MARK = "†"


class Grid(NamedTuple):
    """Hold a table of text; the first cell of a line is the name of a run."""

    heads: list[str]
    lines: list[list[str]]


class Column(NamedTuple):
    """Name an evaluation at a radius, with its head."""

    head: str
    evaluation: str
    threat: str
    eps: float | None


ResultsByEvaluation = Mapping[str, Sequence[Result]]  # by evaluation


def study_markdown(
    results: ResultsByEvaluation, reports: Mapping[str, Sequence[MetricReport]]
) -> str:
    """Return Markdown tables of accuracies and, if there are any, of metrics.

    A cell of one seed has the 95 % interval over samples; of several seeds it has mean ± standard
    deviation and their number. Accuracies are in %: clean (of the test split, in the evaluation
    with the most samples), then a column for each evaluation and radius; † where the verdict is
    "not sound". Minutes are the wall time of training.
    """
    metrics = [report for group in reports.values() for report in group]
    tables = [accuracy_table(results), _metric_table(metrics, results)]
    return "\n\n".join(_markdown(table) for table in tables if table.lines)


def columns(results: ResultsByEvaluation) -> list[Column]:
    """Return a column for each evaluation and radius; a lone radius is not named."""
    keys = [(name, *key) for name, group in results.items() for key in format.all_radii(group)]
    several = {name for name, *_ in keys if sum(key[0] == name for key in keys) > 1}
    heads = [
        f"{key[0]} {format_number(key[2])}" if key[0] in several and key[2] else key[0]
        for key in keys
    ]
    return [Column(head, *key) for head, key in zip(heads, keys, strict=True)]


def by_run(
    records: Iterable[Result | MetricReport], collapsed: Collection[str] = ()
) -> dict[str, list[Any]]:
    """Return records grouped by run, seeds together, in order.

    Seeds that did not learn are a run of their own: a mean with them is of no training.

    Arguments:
        collapsed: names of more seeds that did not learn: a report of metrics does not say so.
    """
    groups: dict[str, list[Any]] = {}
    for record in records:
        run = record.name.rpartition(SEED)[0] or record.name
        apart = record.name in collapsed or (isinstance(record, Result) and has_collapsed(record))
        groups.setdefault(run + SUFFIX * apart, []).append(record)
    return groups


def rows_at(results: ResultsByEvaluation, run: str, column: Column) -> list[tuple[Result, EpsRow]]:
    """Return a run's results of an evaluation that have this radius, each with its row."""
    seeds = by_run(results[column.evaluation]).get(run, [])
    rows = [(r, row) for r in seeds for row in r.by_eps if row.eps == column.eps]
    return [(r, row) for r, row in rows if format.threat_name(r, row) == column.threat]


def largest_evaluation(results: ResultsByEvaluation, run: str) -> list[Result]:
    """Return results used for clean accuracy: of the test split, where there are any.

    Of several evaluations, that of most seeds; ties go to more samples.
    """
    evaluations = [by_run(group).get(run, []) for group in results.values()]
    return max(filter(None, evaluations), key=lambda s: (s[0].split == "test", len(s), s[0].n))


def accuracy_table(results: ResultsByEvaluation, labels: Mapping[str, str] | None = None) -> Grid:
    """Return the table of accuracies that `study_markdown` writes; runs may have other labels."""
    heads, lines, labels = columns(results), list[list[str]](), with_collapsed(labels or {})
    for run in by_run(r for group in results.values() for r in group):
        seeds = largest_evaluation(results, run)
        rows = [rows_at(results, run, column) for column in heads]
        cells = [
            robust_cell([(r, row.robust) for r, row in at], early=any(map(_is_bound, at)))
            for at in rows
        ]
        label = printable(labels.get(run, run))
        lines.append([label, accuracy_cell([r.clean for r in seeds]), *cells, minutes(seeds)])
    return Grid(["run", "clean", *(column.head for column in heads), "minutes"], lines)


def _is_bound(at: tuple[Result, EpsRow]) -> bool:
    return format.num_skipped(at[1]) > 0 or bool(format.bound_text([at[1].sampled]))


def minutes(seeds: Sequence[Result]) -> str:
    """Return the mean training time in minutes, or a dash."""
    seconds = [r.train["seconds"] for r in seeds if "seconds" in r.train]
    return f"{fmean(seconds) / 60:.1f}" if seconds else "–"


def accuracy_cell(accuracies: Sequence[Interval], mark: str = "") -> str:
    """Return a share with its interval, or mean ± deviation over seeds; a mark is at the value."""
    if len(accuracies) == 1:
        value, _, span = format.percent(accuracies[0]).partition(" ")
        return f"{value}{mark} {span}"
    values = [100 * i.accuracy for i in accuracies]
    return _spread_cell(values, "{:.2f}".format, mark)


def robust_cell(
    shares: Sequence[tuple[Result, Interval | None]], *, early: bool | None = None
) -> str:
    """Return robust accuracy over seeds, marked ≤ after an early end and † if not sound."""
    measured = [(r, share) for r, share in shares if share is not None]
    early = any(r.early for r, _ in measured) if early is None else early
    mark = "" if all(format.is_trusted(r) for r, _ in measured) else UNSOUND_MARK
    return "≤ " * early + accuracy_cell([share for _, share in measured], mark)


def _metric_table(reports: Sequence[MetricReport], results: ResultsByEvaluation) -> Grid:
    collapsed = {r.name for group in results.values() for r in group if has_collapsed(r)}
    heads = {
        (row.name, row.data): f"{row.name} {ARROWS[row.better]}"
        + ("" if row.data == report.dataset else f" ({row.data})")
        for report in reports
        for row in report.rows
    }
    runs = by_run(reports, collapsed).items()
    places = {key: decimals(row.value for row in _metric_rows(reports, *key)) for key in heads}
    lines = [
        [run, *(_metric_cell(_metric_rows(seeds, *key), places[key]) for key in heads)]
        for run, seeds in runs
    ]
    return Grid(["run", *heads.values()], lines)


def metric_means(
    reports: Sequence[MetricReport],
    labels: Mapping[str, str] | None = None,
    results: ResultsByEvaluation | None = None,
) -> Grid:
    """Return the means of metrics alone, a row per run: what fits in a terminal.

    Arguments:
        results: of the same study; they say which seeds did not learn.
    """
    table, labels = _metric_table(reports, results or {}), with_collapsed(labels or {})
    lines = [
        [printable(labels.get(run, run)), *(cell.split(" ")[0] for cell in cells)]
        for run, *cells in table.lines
    ]
    return Grid(table.heads, lines)


def _metric_rows(reports: Sequence[MetricReport], name: str, data: str) -> list[MetricRow]:
    rows = (row for m in reports for row in m.rows if (row.name, row.data) == (name, data))
    return [row for row in rows if row.value is not None]


def _metric_cell(rows: Sequence[MetricRow], places: int) -> str:
    if len(rows) == 1:
        return with_interval(rows[0].value, rows[0].low, rows[0].high, places)
    values = [row.value for row in rows if row.value is not None]
    return _spread_cell(values, lambda value: fixed(value, places))


def _spread_cell(values: Sequence[float], text: Callable[[float], str], mark: str = "") -> str:
    if not values:
        return "–"
    return f"{text(fmean(values))}{mark} ± {text(stdev(values))} ({len(values)})"


def _markdown(table: Grid) -> str:
    lines = [[f"`{run}`", *rest] for run, *rest in table.lines]
    rows = [table.heads, ["---"] * len(table.heads), *lines]
    return "\n".join("| " + " | ".join(map(_markdown_cell, row)) + " |" for row in rows)


def _markdown_cell(text: str) -> str:
    return printable(text).replace("|", "\\|")
