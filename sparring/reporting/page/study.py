"""Gather the charts and remarks of a study's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...results.curves import comparable_curves
from ...results.metric_report import MetricReport
from ...results.result import Result
from ...runtime.text import printable
from .. import charts, format, study_table
from ..study_page import StudyPage, StudyPanel
from . import curves, metrics, reproduce


def study_context(study: StudyPage, reports: Sequence[MetricReport]) -> dict[str, Any]:
    """Return what the template shows of a study, beside its own data."""
    results = [r for group in study.results.values() for r in group]
    hashes = [one for r in results for one in reproduce.hashes(r, arrays=False)]
    return {
        "study": study,
        "several": True,
        "panels": [panel_chart(panel, _span(study.panels, panel.where)) for panel in study.panels],
        "radii": _curves(study),
        "metrics": metrics.metrics_section(reports, []),
        "unsound": [
            (r.name, kind, printable(r.reason))
            for kind, group in study.results.items()
            for r in group
            if not format.is_trusted(r)
        ],
        "hashes": list({(one.name, one.short): one for one in hashes}.values()),
    }


def panel_chart(panel: StudyPanel, span: tuple[float, float] | None = None) -> str:
    """Return a forest plot of one evaluation of a study.

    Arguments:
        span: of the axis; default: what the rows need.
    """
    rows = [
        charts.ForestRow(
            row.label,
            100 * row.mean,
            100 * row.low,
            100 * row.high,
            [100 * v for v in row.points],
            row.mark,
            row.prefix,
            100 * row.clean,
            row.best,
        )
        for row in panel.rows
    ]
    at = f" at {panel.where}" if panel.where else ""
    title = f"Robust accuracy{at} under {panel.evaluation}"
    return charts.forest(rows, title=title, axis=f"{panel.evaluation}{at}, %", span=span)


def _span(panels: Sequence[StudyPanel], where: str) -> tuple[float, float]:
    """Return one axis for all panels at the same levels, so that they compare by eye."""
    rows = [row for panel in panels if panel.where == where for row in panel.rows]
    values = [v for row in rows for v in (row.low, row.high, row.clean, *row.points)]
    return charts.forest_span([100 * v for v in values])


def _curves(study: StudyPage) -> list[str]:
    """Return accuracy against eps of each evaluation with several radii, over seeds, best first."""
    labels = {row.run: row.label for panel in study.panels for row in panel.rows}
    drawn = []
    for group in study.results.values():
        if any(len(r.by_eps) > len(format.threat_names([r])) for r in group):
            runs = [(_run(r), r) for r in group]
            runs.sort(
                key=lambda one: list(labels).index(one[0]) if one[0] in labels else len(labels)
            )
            named = [replace(r, name=labels.get(run, run)) for run, r in runs]
            drawn += curves.seed_curves(comparable_curves(group)) or curves.radii(named)
    return drawn


def _run(r: Result) -> str:
    return next(iter(study_table.by_run([r])))
