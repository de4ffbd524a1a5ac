"""Show a search in the terminal: the best trials, and what accuracy depends on."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.text import Text

from ..results.trials import SearchRecord, importance, pareto
from ..runtime.search_progress import value_text
from .literal import LiteralTable

MOST = 8  # trials of the front


def search_summary(record: SearchRecord) -> Group:
    """Return the trials that no other beats, and the share of the variance of each path."""
    table = LiteralTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("trial", "robust", "clean", *record.space):
        table.add_column(head, justify="right", overflow="fold")
    for trial in pareto(record.trials)[:MOST]:
        shares = [f"{100 * (v or 0):.2f}" for v in (trial.robust, trial.clean)]
        values = [value_text(trial.parameters[path]) for path in record.space]
        table.add_row(str(trial.number), *shares, *values)
    shares = [f"{path} {100 * share:.0f} %" for path, share in importance(record).items()]
    dim = [Text(f"variance explained alone: {', '.join(shares)}", style="dim")] if shares else []
    title = Text("trials that no other beats in robust and clean validation accuracy", style="bold")
    return Group(title, table, *dim)
