"""Draw the picture of a study: accuracies of each run, by evaluation and radius."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..results.intervals import Interval
from . import figures, format, study_table

CLEAN = "#888888"


def forest(results: study_table.ResultsByEvaluation) -> Figure:
    """Draw the accuracies of every run, a line per run.

    A disc is the mean over seeds, a dot a seed, and a bar the 95 % interval of one seed alone. A
    disc is hollow where some result is not to be trusted, or an upper bound.
    """
    columns = study_table.columns(results)
    names = list(study_table.by_run(r for group in results.values() for r in group))
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(6.8, 1.0 + 0.26 * len(names)), layout="constrained")
        axes = figure.subplots()
        for y, run in enumerate(names):
            clean = [r.clean for r in study_table.largest_evaluation(results, run)]
            _mark(axes, y, clean, CLEAN, "clean")
            for k, column in enumerate(columns):
                rows = study_table.rows_at(results, run, column)
                filled = all(format.is_trusted(r) and not format.num_skipped(v) for r, v in rows)
                robust = [row.robust for _, row in rows]
                _mark(axes, y, robust, figures.colour(k), column.head, filled)
        axes.set(xlabel="accuracy, %", ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), [figures.legend_name(name) for name in names])
        handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        position: dict[str, Any] = {"loc": "outside right upper"}
        figure.legend(handles.values(), handles.keys(), frameon=False, fontsize=8, **position)
    return figure


def _mark(
    axes: Any, y: float, seeds: list[Interval], tone: str, name: str, filled: bool = True
) -> None:
    if not seeds:
        return
    values = [100 * i.accuracy for i in seeds]
    if len(seeds) == 1:
        axes.plot([100 * seeds[0].low, 100 * seeds[0].high], [y, y], color=tone, lw=1.2)
    else:
        axes.plot(values, [y] * len(values), ".", ms=3, color=tone)
    face = tone if filled else "white"
    axes.plot(
        [fmean(values)],
        [y],
        "o",
        ms=5,
        color=tone,
        mfc=face,
        label=figures.legend_name(name),
        ls="none",
    )
