"""A study as a table, and as Markdown: a row a run, over its seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from ..results.intervals import Interval
from ..results.metric_report import MetricReport
from ..results.result import EpsRow, Result
from ..runtime.fractions import format_number
from . import format
from .metric_tables import ARROWS

SEED = "-seed"
DOUBTED = "†"


class Grid(NamedTuple):
    """A table of text; the first cell of a line is the name of a run."""

    heads: list[str]
    lines: list[list[str]]


class Column(NamedTuple):
    """An evaluation at a radius, and what to call it."""

    head: str
    evaluation: str
    threat: str
    eps: float | None


Found = Mapping[str, Sequence[Result]]


def studied(results: Found, measures: Mapping[str, Sequence[MetricReport]]) -> str:
    """Accuracies, then metrics if there are any. Of one seed with the 95 % interval over samples,
    of several the mean ± standard deviation over seeds and their number.

    Accuracies are in %: clean (of the evaluation with the most samples), then a column for each
    evaluation and radius; † where the verdict is "do not trust". Minutes are those of training,
    wall time.
    """
    tables = [accuracies(results), _metrics([m for held in measures.values() for m in held])]
    return "\n\n".join(_markdown(table) for table in tables if table.lines)


def columns(found: Found) -> list[Column]:
    """One for each evaluation and radius; a lone radius needs no naming."""
    keys = [(name, *key) for name, held in found.items() for key in format.radii(held)]
    several = {name for name, *_ in keys if sum(one[0] == name for one in keys) > 1}
    return [
        Column(
            f"{name} {format_number(eps)}" if name in several and eps else name, name, threat, eps
        )
        for name, threat, eps in keys
    ]


def runs(found: Iterable[Result | MetricReport]) -> dict[str, list[Any]]:
    """By run, seeds left out, in order."""
    groups: dict[str, list[Any]] = {}
    for one in found:
        groups.setdefault(one.name.rpartition(SEED)[0] or one.name, []).append(one)
    return groups


def standing(found: Found, run: str, column: Column) -> list[tuple[Result, EpsRow]]:
    """A run's results of an evaluation that have this radius, each with its row."""
    own = runs(found[column.evaluation]).get(run, [])
    rows = [(r, row) for r in own for row in r.by_eps if row.eps == column.eps]
    return [(r, row) for r, row in rows if format.threat(r, row) == column.threat]


def sound(r: Result, row: EpsRow) -> bool:
    """Whether a worst case is trusted and was measured to its end."""
    return format.trusted(r) and not format.skipped(row)


def most(found: Found, run: str) -> list[Result]:
    """A run's results of the evaluation with the most seeds, then samples: for clean accuracy."""
    held = [runs(results).get(run, []) for results in found.values()]
    return max(held, key=lambda own: (len(own), own[0].n if own else 0))


def accuracies(found: Found) -> Grid:
    """What `studied` says of accuracies, of the results of each evaluation."""
    heads, lines = columns(found), []
    for run in runs(r for held in found.values() for r in held):
        own = most(found, run)
        cells = [_standing(standing(found, run, column)) for column in heads]
        seconds = [r.train["seconds"] for r in own if "seconds" in r.train]
        minutes = f"{fmean(seconds) / 60:.1f}" if seconds else "–"
        lines.append([run, _accuracy([r.clean for r in own]), *cells, minutes])
    return Grid(["run", "clean", *(column.head for column in heads), "minutes"], lines)


def _accuracy(found: Sequence[Interval]) -> str:
    if len(found) == 1:
        return format.interval(found[0])
    return _spread([100 * i.accuracy for i in found], "{:.2f}".format)


def _standing(found: Sequence[tuple[Result, EpsRow]]) -> str:
    """The worst case, an upper bound where some attack was not run on all; marked if doubted."""
    bound = "≤ " if any(format.skipped(row) for _, row in found) else ""
    mark = "" if all(format.trusted(r) for r, _ in found) else f" {DOUBTED}"
    return bound + _accuracy([row.robust for _, row in found]) + mark


def _metrics(found: Sequence[MetricReport]) -> Grid:
    """A column a metric and data set."""
    heads = {
        (row.name, row.data): f"{row.name} {ARROWS[row.better]}"
        + ("" if row.data == m.dataset else f" ({row.data})")
        for m in found
        for row in m.rows
    }
    lines = [[run, *(_measured(own, *key) for key in heads)] for run, own in runs(found).items()]
    return Grid(["run", *heads.values()], lines)


def _measured(own: Sequence[MetricReport], name: str, data: str) -> str:
    rows = [row for m in own for row in m.rows if (row.name, row.data) == (name, data)]
    known = [row for row in rows if row.value is not None]
    if len(known) != 1:
        return _spread([row.value for row in known if row.value is not None], format.measured)
    value, low, high = map(format.measured, (known[0].value, known[0].low, known[0].high))
    return f"{value} [{low}, {high}]"


def _spread(values: Sequence[float], said: Callable[[float], str]) -> str:
    """Mean ± standard deviation (how many); a dash for none."""
    if not values:
        return "–"
    return f"{said(fmean(values))} ± {said(stdev(values))} ({len(values)})"


def _markdown(table: Grid) -> str:
    lines = [[f"`{run}`", *rest] for run, *rest in table.lines]
    every = [table.heads, ["---"] * len(table.heads), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in every)
