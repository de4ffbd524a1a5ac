"""Write results as one self-contained HTML page, which needs no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2

from ..results.curves import comparable_curves
from ..results.intervals import Interval
from ..results.levels import CLEAN, Level, comparable_groups, not_told_apart, ranked
from ..results.metric_report import MetricReport
from ..results.result import EpsRow, Result
from ..runtime.files import write
from ..runtime.fractions import format_number
from ..runtime.text import printable
from . import figures, format, metric_tables, over_seeds, study_table
from .forest import forest
from .study_page import StudyPage

FEW = 4  # results that a heading names, and whose own sections are open at once
STRIPPED = "Pictures are not part of this file, which keeps verdicts, predictions and counts."
TONES = {"sound": "good", "look": "warn", "not sound": "bad"}


def page(
    results: Sequence[Result],
    path: str | Path,
    *,
    title: str | None = None,
    metrics: Sequence[MetricReport] = (),
    study: StudyPage | None = None,
    at: float | None = None,
) -> Path:
    """Write the report of one result, or of several compared; return its path.

    Every text from a result is escaped, so that names in a foreign file cannot become markup.

    Arguments:
        metrics: metrics of the same models, for another section.
        study: of the same results; a table and a picture of its runs come first.
        at: the radius at which to compare; default: the recipe's own eps.

    Raises:
        ValueError: if there are no results.
    """
    format.require_results(results)
    path, results = Path(path), ranked(results, at)
    names = [printable(r.name, format.NAME_LETTERS) for r in results]
    results = format.unique_names(results)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"interval": format.percent, "percent": lambda v: f"{100 * v:.2f}"}
    several = len(results) > 1
    recipes = over_seeds.recipe_rows(results, at)
    # Of a study, whose forest has every radius, only curves with several radii are drawn.
    curved = [r for r in results if len(r.by_eps) > 1] if study else results
    html = pages.get_template("page.html.j2").render(
        title=printable(title or _heading([r.name for r in results])),
        several=several,
        overview=study and study.accuracies,
        forest=_figure(forest(study.results) if study else None, "accuracy of every run"),
        mark=study_table.UNSOUND_MARK,
        few=len(results) <= FEW,
        format=format,
        shown=format_number,
        tone=TONES,
        pairs=format.compared_pairs(results, at),
        distrusted=[r.name for r in results if not format.is_trusted(r)],
        recipes=recipes,
        recipe_pairs=over_seeds.recipe_pairs(recipes),
        detectors=format.detectors(results),
        summary=_summary(results),
        notes=_notes(results, seeded=bool(recipes)),
        radii=_figure(figures.radii(curved) if curved else None, "accuracy against eps"),
        metrics=_metrics(curved, metrics),
        training=_figure(figures.training(results), "loss and validation accuracy by epoch"),
        sections=[_section(r, name) for r, name in zip(results, names, strict=True)],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, html.encode())
    return path


def _heading(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"Comparison of {f'{len(names)} results' if len(names) > FEW else ', '.join(names)}"


def _figure(figure: Any, about: str, draw: Callable[[Any, str], str] = figures.svg) -> Any:
    """Return a figure as safe markup, if there is one."""
    markup: Any = jinja2.filters.Markup  # type: ignore[attr-defined]
    return None if figure is None else markup(draw(figure, about))


def _metrics(results: Sequence[Result], reports: Sequence[MetricReport]) -> dict[str, Any] | None:
    """Return the section on metrics, with figures as images; None if it is empty."""
    section = metric_tables.section(reports, comparable_curves(results))
    section["curves"] = _figure(section["curves"], "robust accuracy against eps, over seeds")
    section["softmax"] = _figure(section["softmax"], "mean softmax per class, on and off support")
    return section if reports or section["curves"] else None


def _summary(results: Sequence[Result]) -> dict[str, Any]:
    """Return heads and rows of the comparison, the best of each column marked."""
    radii, several = format.all_radii(results), len(format.threat_names(results)) > 1
    rows = []
    for r in results:
        by_radius = {(format.threat_name(r, row), row.eps): row for row in r.by_eps}
        levels = [by_radius.get(key) for key in radii]
        cells = [_cell(r, r.clean)]
        cells += [None if row is None else _robust(r, row) for row in levels]
        cells += [_cell(r, r.robust, upper=bool(r.early))] if several else []
        rows.append({"result": r, "minutes": format.train_minutes(r), "cells": cells})
    for column, level in enumerate([CLEAN, *(Level(*key) for key in radii)]):
        best = not_told_apart(results, level)
        for row in rows:
            if cell := row["cells"][column]:
                cell["best"] = row["result"].name in best
    heads = [format.level_text(name if several else "", eps) or "robust" for name, eps in radii]
    return {"heads": ["clean", *heads, *(["worst case"] if several else [])], "rows": rows}


def _cell(r: Result, i: Interval, *, upper: bool = False, below: str = "") -> dict[str, Any]:
    """Return a cell: an accuracy, its interval, and a line below; `conclusive` ones may be best."""
    share, _, span = format.percent(i).partition(" ")
    cell = {"text": ("≤ " if upper else "") + share, "span": span, "value": i.accuracy}
    return cell | {"below": below, "conclusive": not upper and format.is_trusted(r)}


def _robust(r: Result, row: EpsRow) -> dict[str, Any]:
    upper, below = bool(format.num_skipped(row)), format.certified_text(row, r.n)
    return _cell(r, row.robust, upper=upper, below=below)


def _notes(results: Sequence[Result], *, seeded: bool) -> list[str]:
    """Return remarks on a comparison; of the two highest only if recipes have one seed."""
    if len(results) == 1:
        return []
    notes = []
    for key, values in {
        "data": {f"{r.dataset} {r.split}" for r in results},
        "numbers of samples": {str(r.n) for r in results},
        "suites": {f"{r.suite} v{r.suite_version}" for r in results},
        "threats": {" and ".join(format.threat_names([r])) for r in results},
    }.items():
        if len(values) > 1:
            different = f"different {key} ({', '.join(sorted(values))})"
            notes.append(f"The results are of {different}: they can't be compared directly.")
    groups = [] if seeded else comparable_groups(results)
    return notes + [
        f"Of the two highest{f' under {group[0].suite}' if len(groups) > 1 else ''}: {text}."
        for group in groups
        if (text := _highest_pair(group))
    ]


def _highest_pair(results: Sequence[Result]) -> str:
    """Return whether the two best robust accuracies of a group differ, in words."""
    conclusive = [r for r in results if format.is_trusted(r) and not r.early]
    if len(conclusive) < 2:
        return ""
    first, second = sorted(conclusive, key=lambda r: -r.robust.accuracy)[:2]
    if paired := format.compared_pairs([r for r in conclusive if r is first or r is second]):
        return paired[0].sentence()
    if first.robust.low >= second.robust.high:
        return ""
    return (
        f"the 95 % intervals of the robust accuracies of {first.name} and {second.name} overlap, "
        "so that this many samples do not tell them apart"
    )


def _section(r: Result, name: str) -> dict[str, Any]:
    largest = format.largest_radii(r)
    return {
        "result": r,
        "levels": [
            {"name": format.radius_text(row, threat), "row": row, "threat": threat}
            for threat, row in largest.items()
        ],
        "norms": [(name, rows) for name in largest if len(rows := format.rows_of(r, name)) > 1],
        "where": " and ".join(format.radius_text(row, threat) for threat, row in largest.items()),
        "robust_count": round(r.robust.accuracy * r.n),
        "fired": format.fired_checks(r),
        "reasons": format.other_reasons(r),
        "quiet": [c for c in r.checks if not c.fired],
        "confusion": _figure(figures.confusion(r), "confusion matrices, clean and under attack"),
        "detection": _figure(figures.detection(r), "ROC curves, clean and under attack"),
        "surface": _figure(figures.surface(r), "loss over the plane of two steps"),
        "probes": format.probe_groups(r),
        "missing": STRIPPED if r.stripped else "The arrays of this result are not beside it.",
        "added": _figure(figures.added_features(r), "features added most often"),
        "samples": _figure(figures.samples(r), "clean, adversarial, difference", figures.png),
        "minutes": format.train_minutes(r),
        "commands": _commands(r, name),
        "recipe": json.dumps(r.recipe, indent=1, ensure_ascii=False) if r.recipe else None,
    }


def _commands(r: Result, name: str) -> list[str]:
    recipe = r.recipe.get("recipe", {}).get("name", "RECIPE.toml") if r.recipe else "RECIPE.toml"
    rows = [(format.threat_name(r, row), format_number(row.eps)) for row in r.by_eps if row.eps]
    several = len(format.largest_radii(r)) > 1
    eps = [f"--at {name}={eps}" if several else f"--eps {eps}" for name, eps in rows]
    options = " ".join([f"--suite {r.suite}", *eps, f"--n {r.n} --split {r.split}"])
    return [
        f"sparring train {recipe} --out runs/{name}",
        f"sparring evaluate runs/{name} {options}",
        f"sparring report runs/{name}",
    ]
