"""A study as a table, and as Markdown: a row a run, over its seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from ..evaluation.metrics.record import Measures
from ..evaluation.result import EpsRow, Interval, Result
from . import words
from .metrics import ARROWS

SEED = "-seed"
DOUBTED = "†"


class Grid(NamedTuple):
    """A table of text; the first cell of a line is the name of a run."""

    heads: list[str]
    lines: list[list[str]]


def studied(
    results: Mapping[str, Sequence[Result]], measures: Mapping[str, Sequence[Measures]]
) -> str:
    """Accuracies, then metrics if there are any. Of one seed with the 95 % interval over samples,
    of several the mean ± standard deviation over seeds and their number.

    Accuracies are in %: clean (of the evaluation with the most samples), then a column for each
    evaluation and radius; † where the verdict is "do not trust". Minutes are those of training,
    wall time.
    """
    tables = [accuracies(results), _metrics([m for held in measures.values() for m in held])]
    return "\n\n".join(_markdown(table) for table in tables if table.lines)


def accuracies(found: Mapping[str, Sequence[Result]]) -> Grid:
    """What `studied` says of accuracies, of the results of each evaluation."""
    columns = [(name, *key) for name, held in found.items() for key in words.radii(held)]
    several = {name for name, *_ in columns if sum(one[0] == name for one in columns) > 1}
    heads = [f"{n} {eps:g}" if n in several and eps else n for n, _, eps in columns]
    lines = []
    for run in _runs([r for held in found.values() for r in held]):
        own = {name: [r for r in held if _run(r) == run] for name, held in found.items()}
        most = max(own.values(), key=lambda rs: (len(rs), rs[0].n if rs else 0))
        cells = [_accuracy([r.clean for r in most])]
        for name, threat, eps in columns:
            rows = [(r, row) for r in own[name] for row in r.by_eps if row.eps == eps]
            cells.append(_standing([(r, row) for r, row in rows if words.threat(r, row) == threat]))
        seconds = [r.train["seconds"] for r in most if "seconds" in r.train]
        minutes = f"{fmean(seconds) / 60:.1f}" if seconds else "–"
        lines.append([run, *cells, minutes])
    return Grid(["run", "clean", *heads, "minutes"], lines)


def _accuracy(found: Sequence[Interval]) -> str:
    if len(found) == 1:
        return words.interval(found[0])
    return _spread([100 * i.accuracy for i in found], "{:.2f}".format)


def _standing(found: Sequence[tuple[Result, EpsRow]]) -> str:
    """The worst case, an upper bound where some attack was not run on all; marked if doubted."""
    bound = "≤ " if any(words.skipped(row) for _, row in found) else ""
    mark = "" if all(words.trusted(r) for r, _ in found) else f" {DOUBTED}"
    return bound + _accuracy([row.robust for _, row in found]) + mark


def _metrics(found: Sequence[Measures]) -> Grid:
    """A column a metric and data set."""
    columns = {
        (row.name, row.data): f"{row.name} {ARROWS[row.better]}"
        + ("" if row.data == m.dataset else f" ({row.data})")
        for m in found
        for row in m.rows
    }
    lines = [
        [run, *(_measured([m for m in found if _run(m) == run], *key) for key in columns)]
        for run in _runs(found)
    ]
    return Grid(["run", *columns.values()], lines)


def _measured(own: Sequence[Measures], name: str, data: str) -> str:
    rows = [row for m in own for row in m.rows if (row.name, row.data) == (name, data)]
    known = [row for row in rows if row.value is not None]
    if len(known) != 1:
        return _spread([row.value for row in known if row.value is not None], words.measured)
    value, low, high = map(words.measured, (known[0].value, known[0].low, known[0].high))
    return f"{value} [{low}, {high}]"


def _spread(values: Sequence[float], said: Callable[[float], str]) -> str:
    """Mean ± standard deviation (how many); a dash for none."""
    if not values:
        return "–"
    return f"{said(fmean(values))} ± {said(stdev(values))} ({len(values)})"


def _run(one: Result | Measures) -> str:
    return one.name.rpartition(SEED)[0] or one.name


def _runs(found: Sequence[Result | Measures]) -> list[str]:
    return [*dict.fromkeys(map(_run, found))]


def _markdown(table: Grid) -> str:
    lines = [[f"`{run}`", *rest] for run, *rest in table.lines]
    every = [table.heads, ["---"] * len(table.heads), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in every)
