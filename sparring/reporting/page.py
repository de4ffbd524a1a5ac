"""Results as one self-contained HTML page: no network, nothing but this file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from ..results.curves import comparable
from ..results.intervals import Interval
from ..results.metric_report import MetricReport
from ..results.result import EpsRow, Result
from ..runtime.files import write
from ..runtime.fractions import format_number
from . import figures, format, over_seeds, study_table
from . import metric_tables as beside
from .forest import forest

FEW = 4  # results that a heading names, and whose own sections are open at once
TONES = {"trust": "good", "look": "warn", "do not trust": "bad"}


def page(
    results: Sequence[Result],
    path: str | Path,
    *,
    title: str | None = None,
    measures: Sequence[MetricReport] = (),
    study: study_table.Found | None = None,
) -> Path:
    """Write the report of one result, or of several compared; returns its path.

    Arguments:
        measures: metrics of the same models, for a section of their own.
        study: the same results by evaluation, whose table and picture, a line a run, come first.

    Every text from a result is escaped: a stranger's names cannot become markup.

    Raises:
        ValueError: if there are no results.
    """
    format.require_results(results)
    path, given, results = Path(path), results, format.labelled(results)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": format.interval, "percent": lambda v: f"{100 * v:.2f}"}
    several = len(results) > 1
    recipes = over_seeds.recipes(results)
    curved = [r for r in results if len(r.by_eps) > 1] if study else results
    html = environment.get_template("page.html.j2").render(
        title=title or _heading([r.name for r in results]),
        several=several,
        overview=study and study_table.accuracies(study),
        forest=study and _safe(figures.svg(forest(study), "accuracy of every run")),
        mark=study_table.DOUBTED,
        few=len(results) <= FEW,
        words=format,
        shown=format_number,
        tone=TONES,
        pairs=format.compared(results),
        doubted=[r.name for r in results if not format.trusted(r)],
        recipes=recipes,
        versus=over_seeds.versus(recipes),
        detectors=format.detectors(results),
        summary=_summary(results),
        notes=_notes(results, seeded=bool(recipes)),
        radii=_figure(figures.radii(curved) if curved else None, "accuracy against eps"),
        metrics=_metrics(curved, measures),
        training=_figure(figures.training(results), "loss and validation accuracy by epoch"),
        sections=[_section(r, old.name) for r, old in zip(results, given, strict=True)],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, html.encode())
    return path


def _heading(names: Sequence[str]) -> str:
    """What a page is of: its result, or those it compares, counted where they are many."""
    if len(names) == 1:
        return names[0]
    return f"Comparison of {f'{len(names)} results' if len(names) > FEW else ', '.join(names)}"


def _safe(markup: str) -> Any:
    return jinja2.filters.Markup(markup)  # type: ignore[attr-defined]


def _figure(figure: Any, about: str) -> Any:
    return None if figure is None else _safe(figures.svg(figure, about))


def _metrics(results: Sequence[Result], measures: Sequence[MetricReport]) -> dict[str, Any] | None:
    """The section on metrics, with its figures as images; None where there is nothing to say."""
    found = beside.section(measures, comparable(results))
    found["curves"] = _figure(found["curves"], "robust accuracy against eps, over seeds")
    found["softmax"] = _figure(found["softmax"], "mean softmax a class, on and off the support")
    return found if measures or found["curves"] else None


def _summary(results: Sequence[Result]) -> dict[str, Any]:
    """The comparison: heads and rows; the best of a column, of those measured alike, is marked."""
    radii, several = format.radii(results), len(format.threats(results)) > 1
    rows = []
    for r in results:
        own = {(format.threat(r, row), row.eps): row for row in r.by_eps}
        found = [own.get(key) for key in radii]
        cells = [_cell(r, r.clean)]
        cells += [None if row is None else _robust(r, row) for row in found]
        cells += [_cell(r, r.robust, upper=bool(r.early))] if several else []
        rows.append({"result": r, "minutes": format.minutes(r), "cells": cells})
    for group in format.alike(results):
        own = {r.name for r in group} if len(group) > 1 else set()
        _mark([row["cells"] for row in rows if row["result"].name in own])
    heads = ["clean", *(_head(name if several else "", eps) for name, eps in radii)]
    return {"heads": heads + (["worst case"] if several else []), "rows": rows}


def _mark(rows: Sequence[Sequence[dict[str, Any] | None]]) -> None:
    """Mark what is best in each column of rows that can be compared."""
    for column in zip(*rows, strict=True):
        cells = [cell for cell in column if cell and cell["sound"]]
        for cell in cells:
            cell["best"] = cell["value"] == max(one["value"] for one in cells)


def _cell(r: Result, i: Interval, *, upper: bool = False, below: str = "") -> dict[str, Any]:
    """An accuracy, its interval and what stands below; `sound` ones may be a column's best."""
    share, _, span = format.interval(i).partition(" ")
    text = ("≤ " if upper else "") + share
    sound = not upper and format.trusted(r)
    return {"text": text, "span": span, "value": i.accuracy, "sound": sound, "below": below}


def _robust(r: Result, row: EpsRow) -> dict[str, Any]:
    return _cell(r, row.robust, upper=bool(format.skipped(row)), below=format.least(row, r.n))


def _head(name: str, eps: float | None) -> str:
    return (
        " ".join(filter(None, (name, "" if eps is None else f"eps {format_number(eps)}")))
        or "robust"
    )


def _notes(results: Sequence[Result], *, seeded: bool) -> list[str]:
    """What a reader of a comparison must know; the two highest where no recipe has more seeds."""
    if len(results) == 1:
        return []
    notes = []
    for key, values in {
        "data": {f"{r.dataset} {r.split}" for r in results},
        "numbers of samples": {str(r.n) for r in results},
        "suites": {f"{r.suite} v{r.suite_version}" for r in results},
        "threats": {" and ".join(format.threats([r])) for r in results},
    }.items():
        if len(values) > 1:
            notes.append(
                f"The results are of different {key} ({', '.join(sorted(values))}): "
                "they can't be compared directly."
            )
    groups = [] if seeded else format.alike(results)
    return notes + [
        f"Of the two highest{f' under {group[0].suite}' if len(groups) > 1 else ''}: {said}."
        for group in groups
        if (said := _highest(group))
    ]


def _highest(results: Sequence[Result]) -> str:
    """Of results measured alike: whether the two best robust accuracies are told apart."""
    sound = [r for r in results if format.trusted(r) and not r.early]
    if len(sound) < 2:
        return ""
    first, second = sorted(sound, key=lambda r: -r.robust.accuracy)[:2]
    if paired := format.compared([r for r in sound if r is first or r is second]):
        return paired[0].sentence()
    if first.robust.low >= second.robust.high:
        return ""
    return (
        f"the 95 % intervals of the robust accuracies of {first.name} and {second.name} overlap, "
        "this many samples do not tell them apart by themselves"
    )


def _section(r: Result, name: str) -> dict[str, Any]:
    samples = figures.samples(r)
    tops = format.tops(r)
    return {
        "result": r,
        "levels": [
            {"name": format.radius(row, threat), "row": row, "threat": threat}
            for threat, row in tops.items()
        ],
        "norms": [
            (threat, rows)
            for threat in tops
            if len(rows := [row for row in r.by_eps if format.threat(r, row) == threat]) > 1
        ],
        "where": " and ".join(format.radius(row, threat) for threat, row in tops.items()),
        "standing": round(r.robust.accuracy * r.n),
        "fired": format.fired(r),
        "reasons": format.other_reasons(r),
        "quiet": [c for c in r.checks if not c.fired],
        "confusion": _figure(figures.confusion(r), "confusion matrices, clean and under attack"),
        "detection": _figure(figures.detection(r), "ROC curves, clean and under attack"),
        "surface": _figure(figures.surface(r), "loss over the plane of two steps"),
        "probes": format.probed(r),
        "added": _figure(figures.added(r), "features added most often"),
        "samples": None
        if samples is None
        else _safe(figures.png(samples, "clean, adversarial, difference")),
        "minutes": format.minutes(r),
        "commands": _commands(r, name),
        "recipe": json.dumps(r.recipe, indent=1, ensure_ascii=False) if r.recipe else None,
    }


def _commands(r: Result, name: str) -> list[str]:
    recipe = r.recipe.get("recipe", {}).get("name", "RECIPE.toml") if r.recipe else "RECIPE.toml"
    rows = [(format.threat(r, row), format_number(row.eps)) for row in r.by_eps if row.eps]
    several = len(format.tops(r)) > 1
    eps = [f"--at {name}={eps}" if several else f"--eps {eps}" for name, eps in rows]
    what = " ".join([f"--suite {r.suite}", *eps, f"--n {r.n} --split {r.split}"])
    return [
        f"sparring train {recipe} --out runs/{name}",
        f"sparring evaluate runs/{name} {what}",
        f"sparring report runs/{name}",
    ]
