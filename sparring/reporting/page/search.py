"""Gather the charts and the table of a search's page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...results.trials import COMPLETE, FAILED, PRUNED, SearchRecord, Trial, importance, pareto
from ...runtime.text import printable
from .. import charts
from ..format import NAME_LETTERS
from .answer import share_text
from .render import write_page

ROUND = 5.0  # per cent: an axis ends at a multiple
MOST_PANELS = 8
HEADS = ("trial", "robust", "clean", "epochs", "minutes")


def search_page(record: SearchRecord, path: str | Path) -> Path:
    """Write the report of a search: its best trial, the front, and every trial; return its path."""
    name = printable(record.name, NAME_LETTERS)
    return write_page(Path(path), f"Search of {name}", search_context(record) | {"kind": "search"})


def search_context(record: SearchRecord) -> dict[str, Any]:
    """Return what the template shows of a search."""
    front = pareto(record.trials)
    counts = {state: sum(t.state == state for t in record.trials) for state in
              (COMPLETE, PRUNED, FAILED)}  # fmt: skip
    order = sorted(record.trials, key=lambda t: (-(t.robust or -1), -(t.clean or 0), t.number))
    best, paths = record.best, [*record.space]
    return {
        "record": record,
        "best": best,
        "answer": []
        if best is None
        else [(printable(p, NAME_LETTERS), value_text(best.parameters[p])) for p in paths],
        "facts": _facts(record, counts),
        "heads": [*HEADS, *(printable(path, NAME_LETTERS) for path in paths)],
        "lines": [(t, t in front, _cells(t, paths)) for t in order],
        "failed": [(t.number, printable(t.reason)) for t in record.trials if t.state == FAILED],
        "front": [front_chart(record.trials, front)] if front else [],
        "importance": [importance_chart(shares)] if (shares := importance(record)) else [],
        "panels": [chart for path in paths[:MOST_PANELS] if (chart := value_chart(record, path))],
        "percent": share_text,
    }


def _facts(record: SearchRecord, counts: dict[str, int]) -> list[tuple[str, str]]:
    minutes = sum(t.seconds for t in record.trials) / 60
    words = {COMPLETE: "complete", PRUNED: "ended early", FAILED: "failed"}
    facts = [(words[state], str(count)) for state, count in counts.items() if count]
    facts += [("minutes", f"{minutes:.1f}"), ("seed", str(record.seed))]
    return facts + [("trials alone:", printable(change)) for change in record.fidelity]


def value_text(value: object) -> str:
    """Return a value of a trial: a number in four digits, a text in one line."""
    return f"{value:.4g}" if isinstance(value, float) else printable(value, NAME_LETTERS)


def _cells(trial: Trial, paths: Sequence[str]) -> list[str]:
    shares = ["" if v is None else f"{100 * v:.2f}" for v in (trial.robust, trial.clean)]
    values = [value_text(trial.parameters[path]) for path in paths]
    return [*shares, str(trial.epochs), f"{trial.seconds / 60:.1f}", *values]


def front_chart(trials: Sequence[Trial], front: Sequence[Trial]) -> str:
    """Return robust against clean accuracy of the complete trials, the front joined by a line."""
    others = [t for t in trials if t.state == COMPLETE and t.robust is not None and t not in front]
    lines = [
        charts.Line("front", _points(front[::-1]), joined=len(front), tone=0),
        charts.Line("others", _points(others), joined=0, tone=6),
    ]
    done = [*front, *others]
    x = _axis("clean validation accuracy, %", [100 * (t.clean or 0) for t in done])
    y = _axis("robust validation accuracy, %", [100 * (t.robust or 0) for t in done])
    title = "Robust against clean accuracy of the trials"
    return charts.lines([one for one in lines if one.points], title=title, x=x, y=y, dodge=False)


def _points(trials: Sequence[Trial]) -> list[charts.Point]:
    return [
        charts.Point(
            100 * (t.clean or 0),
            100 * (t.robust or 0),
            hover=f"trial {t.number}: robust {100 * (t.robust or 0):.2f} %, clean "
            f"{100 * (t.clean or 0):.2f} %; "
            + ", ".join(f"{p} = {value_text(v)}" for p, v in t.parameters.items()),
        )
        for t in trials
    ]


def _axis(name: str, values: Sequence[float]) -> charts.Axis:
    low, high = min(values), max(values)
    low, high = ROUND * (low // ROUND), ROUND * -(-high // ROUND)
    return charts.Axis(name, low, high if high > low else low + ROUND)


def importance_chart(shares: dict[str, float]) -> str:
    """Return bars of the share of the variance of robust accuracy that each path explains alone."""
    rows = [charts.Bar(printable(path, 40), 100 * share) for path, share in shares.items()]
    title = "What robust accuracy depends on"
    return charts.bars(rows, title=title, axis="variance explained alone, %")


def value_chart(record: SearchRecord, path: str) -> str:
    """Return robust accuracy against a path's numbers, or "" for choices."""
    trials = [t for t in record.trials if t.robust is not None]
    pairs = [(t.parameters[path], t) for t in trials]
    numbers = [(v, t) for v, t in pairs if isinstance(v, int | float)]
    if not numbers or len({v for v, _ in numbers}) < 2:
        return ""
    kinds = {COMPLETE: [], PRUNED: []}
    for v, t in sorted(numbers, key=lambda one: one[0]):
        text = f"trial {t.number}: {value_text(v)}, robust {100 * (t.robust or 0):.2f} %"
        point = charts.Point(v, 100 * (t.robust or 0), hollow=t.state == PRUNED, hover=text)
        kinds.setdefault(t.state, []).append(point)
    names = {COMPLETE: "complete", PRUNED: "ended early"}
    lines = [
        charts.Line(names.get(state, state), points, joined=0, tone=k)
        for k, (state, points) in enumerate(kinds.items())
        if points
    ]
    log = record.space[path].endswith(":log")
    ends = [v for v, _ in numbers]
    whole = all(isinstance(v, int) for v in ends)
    x = charts.Axis(printable(path, 40), min(ends), max(ends), _marks(ends, log), whole, log)
    y = _axis("robust, %", [100 * (t.robust or 0) for _, t in numbers])
    title = f"Robust accuracy against {printable(path, 40)}"
    return charts.lines(lines, title=title, x=x, y=y, dodge=False)


def _marks(values: Sequence[float], log: bool) -> Sequence[float]:
    """Return marks of a logarithmic axis: its ends and their geometric mean, in two digits."""
    if not log:
        return ()
    low, high = min(values), max(values)
    return [float(f"{v:.2g}") for v in (low, (low * high) ** 0.5, high)]
