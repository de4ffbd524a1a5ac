"""The picture of a study: where each run stands, by evaluation and radius."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..results.intervals import Interval
from . import figures, study_table

CLEAN = "#888888"


def forest(found: study_table.Found) -> Figure:
    """Accuracies of every run, a line a run: the mean over seeds as a disc and each seed as a dot;
    of one seed its 95 % interval as a bar. Hollow where some result is not to be trusted, or an
    upper bound."""
    columns = study_table.columns(found)
    names = list(study_table.runs(r for held in found.values() for r in held))
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(6.8, 1.0 + 0.26 * len(names)))
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        for y, run in enumerate(names):
            clean = [r.clean for r in study_table.most(found, run)]
            _mark(axes, y, clean, CLEAN, "clean")
            for k, column in enumerate(columns):
                rows = study_table.standing(found, run, column)
                sound = all(study_table.sound(r, row) for r, row in rows)
                worst = [row.robust for _, row in rows]
                _mark(axes, y, worst, figures.colour(k), column.head, sound)
        axes.set(xlabel="accuracy, %", ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), names)
        handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        where: dict[str, Any] = {"loc": "outside right upper"}
        figure.legend(handles.values(), handles.keys(), frameon=False, fontsize=8, **where)
    return figure


def _mark(
    axes: Any, y: float, found: list[Interval], tone: str, name: str, sound: bool = True
) -> None:
    """One accuracy of one run; nothing where there is none."""
    if not found:
        return
    values = [100 * i.accuracy for i in found]
    if len(found) == 1:
        axes.plot([100 * found[0].low, 100 * found[0].high], [y, y], color=tone, lw=1.2)
    else:
        axes.plot(values, [y] * len(values), ".", ms=3, color=tone)
    face = tone if sound else "white"
    axes.plot([fmean(values)], [y], "o", ms=5, color=tone, mfc=face, label=name, ls="none")
