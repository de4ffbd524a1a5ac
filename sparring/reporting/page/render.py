"""Fill the templates: one self-contained HTML page, which needs no network."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from ...results.curves import comparable_curves
from ...results.levels import headline, ranked
from ...results.metric_report import MetricReport
from ...results.result import Result
from ...runtime.files import write
from ...runtime.fractions import format_number
from ...runtime.text import printable
from .. import format, over_seeds
from ..study_page import StudyPage
from . import answer, classes, comparison, curves, section
from .metrics import metrics_section
from .study import study_context

FOLDER = Path(__file__).parent
FEW = 4  # results that a heading names
MOST_WHOLE = 24  # with more results, pictures, classes and recipes are left to a page of each


def page(
    results: Sequence[Result],
    path: str | Path,
    *,
    title: str | None = None,
    metrics: Sequence[MetricReport] = (),
    study: StudyPage | None = None,
    at: float | None = None,
    files: Sequence[Path | None] = (),
) -> Path:
    """Write the report of one result, or of several compared; return its path.

    Every text from a result is escaped, so that names in a foreign file cannot become markup. The
    page has one script, which sorts tables and copies text; its hash is the only one allowed.

    Arguments:
        metrics: metrics of the same models, for another section.
        study: the same results by evaluation, with the study's question: they make its page.
        at: the radius at which results are compared; default: their headline's.
        files: of each result, for a link.

    Raises:
        ValueError: if there are no results, or none measured the radius `at`.
    """
    format.require_results(results)
    path, names = Path(path), [printable(r.name, format.NAME_LETTERS) for r in results]
    if study is not None:
        return write_page(path, study.title, study_context(study, metrics) | {"kind": "study"})
    links = [_link(file, path) for file in files] or [""] * len(results)
    shown = format.unique_names(results)
    headline(shown, at)  # raises for a radius that nobody measured
    named = dict(zip([r.name for r in shown], zip(names, links, strict=True), strict=True))
    in_order = ranked(shown, at) if len(shown) > 1 else shown
    return write_page(path, title or _heading(in_order), _report(in_order, named, metrics, at))


def write_page(path: Path, title: str, context: dict[str, Any]) -> Path:
    """Fill the template that the context's `kind` chooses, and write the page; return its path."""
    html = _environment().get_template("page.html.j2").render(**(_common(title) | context))
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, html.encode())
    return path


@functools.cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(FOLDER)
    pages = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {
        "svg": jinja2.filters.Markup,  # type: ignore[attr-defined]
        "percent": lambda v: f"{100 * v:.2f}",
        "share": answer.share_text,
        "span": lambda i: f"{100 * i.low:.1f} to {100 * i.high:.1f}",
        "tone": lambda verdict: answer.TONES.get(verdict, "warn"),
    }
    pages.globals |= {"format": format, "shown": format_number}
    return pages


@functools.cache
def _asset(name: str) -> tuple[str, str]:
    """Return a style sheet or script of the page, and its hash as the CSP names it."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return text, f"'sha256-{digest}'"


def _common(title: str) -> dict[str, Any]:
    style, style_hash = _asset("page.css")
    script, script_hash = _asset("page.js")
    markup: Any = jinja2.filters.Markup  # type: ignore[attr-defined]
    return {
        "title": printable(title),
        "style": markup(style),
        "script": markup(script),
        "policy": f"default-src 'none'; img-src data:; style-src {style_hash}; "
        f"script-src {script_hash}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "kind": "report",
        "most_lines": curves.MOST_LINES,
        "most_bars": classes.MOST_BARS,
        "most_rows": classes.MOST_ROWS,
    }


def _heading(results: Sequence[Result]) -> str:
    if len(results) == 1:
        return results[0].name
    names = ", ".join(r.name for r in results)
    return f"Comparison of {f'{len(results)} results' if len(results) > FEW else names}"


def _link(file: Path | None, page_path: Path) -> str:
    """Return the address of a result's file, relative to the page."""
    if file is None:
        return ""
    try:
        path = Path(os.path.relpath(file, page_path.parent)).as_posix()
    except ValueError:  # on another drive of Windows
        return file.resolve().as_uri()
    return urllib.parse.quote(path)


def _report(
    results: Sequence[Result],
    named: dict[str, tuple[str, str]],
    metrics: Sequence[MetricReport],
    at: float | None,
) -> dict[str, Any]:
    whole = len(results) <= MOST_WHOLE
    sections = []
    for k, r in enumerate(results):
        name, link = named[r.name]
        measured = any(row.eps == at for row in r.by_eps)
        shown = section.section(r, name, headline([r], at if measured else None), whole=whole)
        sections.append(shown | {"id": f"result-{k + 1}", "link": link})
    return {"sections": sections, "several": len(results) > 1} | _between(results, metrics, at)


def _between(
    results: Sequence[Result], metrics: Sequence[MetricReport], at: float | None
) -> dict[str, Any]:
    """Return the parts of a page that are of all results."""
    several = len(results) > 1
    recipes = over_seeds.recipe_rows(results, at)
    alone: dict[str, Any] = {}
    if several:
        groups = comparison.groups(results, at)
        one = len(groups) == 1
        alone = {
            "summary": comparison.summary(results, groups),
            "answers": [comparison.answer_of(group, alone=one) for group in groups],
            "forests": [comparison.forest(group, alone=one) for group in groups],
            "setting": answer.setting(results),
            "notes": comparison.notes(results),
            "pairs": format.compared_pairs(results, at),
            "unsound": [r.name for r in results if not format.is_trusted(r)],
            "recipes": recipes,
            "recipe_pairs": over_seeds.recipe_pairs(recipes),
            "detectors": format.detectors(results),
        }
    return alone | {
        "radii": curves.radii(results),
        "training": curves.training(results),
        "metrics": metrics_section(metrics, comparable_curves(results)),
    }
