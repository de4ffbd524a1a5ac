"""Show a study in the terminal: its question, the answer, and its runs, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..results.metric_report import MetricReport
from .literal import LiteralTable
from .study_page import StudyText, study_page
from .study_table import Grid, ResultsByEvaluation, metric_means

MOST_METRICS = 4  # columns of a table


class Results(Protocol):
    """Hold results and metrics of a study, by evaluation."""

    @property
    def results(self) -> ResultsByEvaluation: ...
    @property
    def metric_reports(self) -> Mapping[str, Sequence[MetricReport]]: ...


def study_summary(done: Results, plan: StudyText) -> Group:
    """Return a study for the terminal: its question, the answer, and five columns, best first."""
    data = study_page(plan, done.results)
    lines = [Text(data.title, style="bold"), *(Text(t) for t in (data.question,) if t)]
    facts = Text(" · ".join(value for _, value in data.facts), style="dim")
    answer = [Text(" ".join(data.sentences))] if data.sentences else []
    reports = [report for group in done.metric_reports.values() for report in group]
    metrics = metric_means(reports, plan.labels, done.results)
    starts = range(1, len(metrics.heads), MOST_METRICS)
    parts = [terminal_table(_columns(metrics, k, k + MOST_METRICS)) for k in starts]
    return Group(*lines, facts, terminal_table(data.table), *answer, *parts)


def _columns(grid: Grid, start: int, stop: int) -> Grid:
    """Return the first column of a grid, with some of the others."""
    cut = [[line[0], *line[start:stop]] for line in (grid.heads, *grid.lines)]
    return Grid(cut[0], cut[1:])


def terminal_table(grid: Grid) -> Table:
    """Return a grid as a table for the terminal; words are folded, never cut."""
    table = LiteralTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in grid.heads:
        left = head in ("run", "measurement")
        table.add_column(Text(head), justify="left" if left else "right", overflow="fold")
    for line in grid.lines:
        table.add_row(*map(Text, line))
    return table
