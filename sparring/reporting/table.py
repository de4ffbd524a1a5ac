"""Results as a terminal table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..evaluation.result import EpsRow, Interval, Result


def interval(i: Interval) -> str:
    """An accuracy and its 95 % interval, in per cent.

    >>> interval(Interval(0.95, 0.93, 0.97))
    '95.00 [93.0, 97.0]'
    """
    return f"{100 * i.accuracy:.2f} [{100 * i.low:.1f}, {100 * i.high:.1f}]"


def radius(row: EpsRow) -> str:
    """How a radius is named: `eps 0.1`, or the threat itself where it has none."""
    return "threat" if row.eps is None else f"eps {row.eps:g}"


def minutes(result: Result) -> str:
    """Training time, if it is known."""
    seconds = result.train.get("seconds")
    return f"{seconds / 60:.1f}" if isinstance(seconds, int | float) else "–"


def require_results(results: Sequence[Result]) -> None:
    """Raise unless there is something to show."""
    if not results:
        raise ValueError("there are no results to show: evaluate a run first")


def table(results: Sequence[Result]) -> Group:
    """Accuracies clean and per radius, a row a result; then each attack of the largest radius, and
    what checks found."""
    require_results(results)
    rows = sorted((row for r in results for row in r.by_eps), key=lambda row: row.eps or 0.0)
    radii = list(dict.fromkeys(radius(row) for row in rows))
    summary = Table(title="accuracy in % [95 % interval]", title_justify="left")
    for head in ("result", "data", "n", "clean", *radii, "train min"):
        summary.add_column(head, justify="left" if head in ("result", "data") else "right")
    for r in results:
        own = {radius(row): f"{interval(row.robust)}  {row.count}" for row in r.by_eps}
        data = f"{r.dataset} {r.split}"
        summary.add_row(
            r.name, data, str(r.n), interval(r.clean), *(own.get(k, "–") for k in radii), minutes(r)
        )
    return Group(summary, *(_attacks(r) for r in results), *(_checks(r) for r in results))


def _attacks(r: Result) -> Table:
    where = radius(r.by_eps[-1]) if r.by_eps else ""
    out = Table(
        title=f"{r.name}: suite {r.suite} v{r.suite_version}, {r.threat.get('name', '')} {where}",
        title_justify="left",
    )
    for head in ("attack", "accuracy", "seconds", "forwards", "backwards"):
        out.add_column(head, justify="left" if head == "attack" else "right")
    for a in r.attacks:
        shown = interval(Interval(a.accuracy, a.low, a.high))
        out.add_row(a.name, shown, f"{a.seconds:.1f}", f"{a.forwards:.1f}", f"{a.backwards:.1f}")
    out.add_row(
        "worst case",
        interval(r.robust),
        f"{sum(a.seconds for a in r.attacks):.1f}",
        "",
        "",
        style="bold",
    )
    return out


def _checks(r: Result) -> Text:
    fired = [c for c in r.checks if c.fired]
    if not fired:
        return Text(f"{r.name}: none of {len(r.checks)} checks fired", style="green")
    lines = [f"{r.name}: {c.name}: {c.detail}\n  {c.advice}" for c in fired]
    return Text("\n".join(lines), style="yellow")
