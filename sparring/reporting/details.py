"""Show the details of results in the terminal: every attack with its cost, detection rates."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from ..results.detection import Detection
from ..results.result import EpsRow, Result
from . import format
from .fitting import Cell, FittingTable, Head, Paragraph


def attacks(results: Sequence[Result]) -> list[RenderableType]:
    """Return a table of attacks for each result and norm, at its largest radius."""
    several = len(format.threat_names(results)) > 1
    return [
        _attacks(r, row, name, several)
        for r in results
        for name, row in format.largest_radii(r).items()
    ]


def _attacks(r: Result, row: EpsRow, name: str, several: bool) -> FittingTable:
    heads = [Head("attack", left=True, name=True), Head("accuracy"), Head("robust")]
    heads += [Head("skipped"), Head("seconds", rank=1)]
    heads += [Head("forwards", rank=2), Head("backwards", rank=3)]
    rows = []
    for a in row.attacks:
        robust = str(round(a.accuracy * r.n))
        costs = (f"{a.seconds:.1f}", f"{a.forwards:.1f}", f"{a.backwards:.1f}")
        cells = (format.attack_text(a), robust, str(a.skipped or ""), *costs)
        rows.append([Cell(a.name), *map(_cell, cells)])
    skipped = str(format.num_skipped(row) or "")
    total = f"{sum(a.seconds for a in row.attacks):.1f}"
    label = f"worst case in {name}" if several and name else "worst case"
    worst = (label, format.robust_text(row), str(row.count), skipped, total, "", "")
    rows.append([_cell(text, "bold") for text in worst])
    for c in row.certified:
        of = "smoothed model" if format.is_smoothed(c) else "certified"
        first = f", first {c.n}" if c.n < r.n else ""
        cells = (format.certificate_text(c), "", "", f"{c.seconds:.1f}", "", "")
        rows.append([Cell(f"{c.name} ({of}{first})"), *map(_cell, cells)])
    suite = f"suite {r.suite} v{r.suite_version}"
    return FittingTable(heads, rows, f"{r.name}: {suite}, {format.radius_text(row, name)}")


def detection(results: Sequence[Result]) -> list[RenderableType]:
    """Return the rates of detectors, models of two classes, and how they were evaded."""
    detectors = format.detectors(results)
    if not detectors:
        return []
    rates = format.detection_heads(detectors[0][1])
    heads = [Head("result", left=True, name=True), Head("samples", left=True)]
    heads += [Head(text, rank=max(0, k - 2)) for k, text in enumerate(rates)]
    rows = [
        [Cell(r.name if not k else ""), Cell(format.detection_row_name(d, row))]
        + [_cell(text) for text in format.detection_cells(row)]
        for r, d in detectors
        for k, row in enumerate(d.rates)
    ]
    title = "detection in % [95 % interval], at the largest radius"
    return [FittingTable(heads, rows, title), *(_evasions(r, d) for r, d in detectors)]


def _evasions(r: Result, d: Detection) -> Paragraph:
    most = ", ".join(f"{format.shorten(u.name)} ({u.count})" for u in d.added[:5])
    added = f"; added most often: {most}" if most else ""
    few = format.too_few_negatives(d)
    return Paragraph(f"{r.name}: {format.flips_text(d)}{added}" + (f"; {few}" if few else ""))


def _cell(text: str, style: str = "") -> Cell:
    return Cell(text, format.without_interval(text), style)
