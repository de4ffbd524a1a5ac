"""Results as one self-contained HTML page: no network, nothing but this file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from ..evaluation.result import Interval, Result
from . import figures
from .table import interval, minutes, radius, require_results


def page(results: Sequence[Result], path: str | Path, *, title: str | None = None) -> Path:
    """Write the report of one result, or of several compared; returns its path.

    Every text from a result is escaped: a stranger's names cannot become markup.

    Raises:
        ValueError: if there are no results.
    """
    require_results(results)
    path = Path(path)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": interval, "percent": lambda v: f"{100 * v:.2f}"}
    several = len(results) > 1
    html = environment.get_template("page.html.j2").render(
        title=title
        or ("Comparison of " + ", ".join(r.name for r in results) if several else results[0].name),
        several=several,
        summary=_summary(results),
        notes=_notes(results),
        radii=_safe(figures.svg(figures.radii(results), "accuracy against eps")),
        training=_figure(figures.training(results), "loss and validation accuracy by epoch"),
        sections=[_section(r) for r in results],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(html, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _safe(markup: str) -> Any:
    return jinja2.filters.Markup(markup)  # type: ignore[attr-defined]


def _figure(figure: Any, about: str) -> Any:
    return None if figure is None else _safe(figures.svg(figure, about))


def _summary(results: Sequence[Result]) -> dict[str, Any]:
    """The comparison: heads and rows; the best of a column is marked."""
    radii = sorted({row.eps or 0.0 for r in results for row in r.by_eps})
    columns = ["clean", *radii]
    rows = []
    for r in results:
        own: dict[Any, Interval] = {
            "clean": r.clean,
            **{row.eps or 0.0: row.robust for row in r.by_eps},
        }
        rows.append(
            {
                "name": r.name,
                "n": r.n,
                "minutes": minutes(r),
                "cells": [own.get(c) for c in columns],
            }
        )
    best = [
        max((row["cells"][k].accuracy for row in rows if row["cells"][k]), default=None)
        for k in range(len(columns))
    ]
    heads = ["clean", *(f"eps {e:g}" if e else "robust" for e in radii)]
    return {
        "heads": heads,
        "rows": rows,
        "best": best if len(results) > 1 else [None] * len(columns),
    }


def _notes(results: Sequence[Result]) -> list[str]:
    """What a reader of a comparison must know."""
    if len(results) == 1:
        return []
    notes = []
    for key, values in {
        "data": {f"{r.dataset} {r.split}" for r in results},
        "numbers of samples": {str(r.n) for r in results},
        "suites": {f"{r.suite} v{r.suite_version}" for r in results},
        "threats": {str(r.threat.get("name")) for r in results},
    }.items():
        if len(values) > 1:
            notes.append(
                f"The results are of different {key} ({', '.join(sorted(values))}): "
                "they can't be compared directly."
            )
    first, second = sorted(results, key=lambda r: -r.robust.accuracy)[:2]
    if first.robust.low < second.robust.high:
        notes.append(
            f"The 95 % intervals of the two highest robust accuracies, {first.name} "
            f"and {second.name}, overlap: this many "
            "samples do not tell them apart by themselves."
        )
    return notes


def _section(r: Result) -> dict[str, Any]:
    samples = figures.samples(r)
    return {
        "result": r,
        "radius": radius(r.by_eps[-1]) if r.by_eps else "",
        "standing": r.by_eps[-1].count if r.by_eps else 0,
        "fired": [c for c in r.checks if c.fired],
        "quiet": [c for c in r.checks if not c.fired],
        "confusion": _figure(figures.confusion(r), "confusion matrices, clean and under attack"),
        "samples": None
        if samples is None
        else _safe(figures.png(samples, "clean, adversarial, difference")),
        "minutes": minutes(r),
        "commands": _commands(r),
        "recipe": json.dumps(r.recipe, indent=1, ensure_ascii=False) if r.recipe else None,
    }


def _commands(r: Result) -> list[str]:
    name = r.recipe.get("recipe", {}).get("name", "RECIPE.toml") if r.recipe else "RECIPE.toml"
    eps = " ".join(f"--eps {row.eps:g}" for row in r.by_eps if row.eps)
    return [
        f"sparring train {name} --out runs/{r.name}",
        f"sparring evaluate runs/{r.name} --suite {r.suite} {eps} --n {r.n} --split {r.split}",
        f"sparring report runs/{r.name}",
    ]
