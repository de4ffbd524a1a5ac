"""Draw a forest plot: a row per model, with mean, interval, and a point per seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from . import base

MOST_LABEL = 0.42  # of the width: longer names stand above their rows


class ForestRow(NamedTuple):
    """Describe a row; accuracies are in per cent.

    Arguments:
        low, high: 95 % interval; default: none is drawn.
        points: of each seed.
        mark: a sign beside the number, as † for an accuracy not to be trusted, whose disc is
            hollow.
        prefix: `"≤ "` for an upper bound.
        reference: another accuracy of the model, as the clean one: a small grey square.
        bold: one of the best, and not told apart from it.
        hover: what a pointer shows; default: the numbers.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    points: Sequence[float] = ()
    mark: str = ""
    prefix: str = ""
    reference: float | None = None
    bold: bool = False
    hover: str = ""


def forest(
    rows: Sequence[ForestRow],
    *,
    title: str,
    axis: str = "robust accuracy, %",
    reference: str = "clean",
    span: tuple[float, float] | None = None,
    width: float = base.PANEL,
    description: str = "",
) -> str:
    """Return a forest plot as SVG text, in the order of the rows.

    Arguments:
        title: what is compared, in words.
        reference: the name of the rows' second accuracy.
        span: of the axis; default: what the rows need. Panels that are compared share one.
        description: for those who can't see it; default: the numbers of every row.
    """
    longest = max((base.text_width(row.label) for row in rows), default=0.0)
    # Cut names may look alike, so long ones stand above their rows, whole.
    above = longest + 12 > MOST_LABEL * width
    left = 4.0 if above else longest + 12
    numbers = [_number(row) for row in rows]
    right = max((base.text_width(text) for text in numbers), default=0.0) + 8
    drawn = [v for row in rows for v in _values(row) if v is not None]
    low, high = span or forest_span(drawn)
    x = base.Scale(low, high, left + 6, width - right - 8)
    top, step = 10.0, 42.0 if above else 24.0
    bottom = top + step * max(1, len(rows))
    parts = [base.line(x(t), top, x(t), bottom) for t in base.ticks(low, high)]
    for k, (row, number) in enumerate(zip(rows, numbers, strict=True)):
        y = top + step * (k + 1) - 12
        parts.append(_name(row, 0.0 if above else left - 4, y - 18 * above, x, reference))
        parts.append(_row(row, number, x, y, width, reference))
    named = f"{axis}{f' (grey square: {reference})' if _has_reference(rows) else ''}"
    parts.append(base.bottom_axis(x, base.ticks(low, high), bottom, named, width=width))
    about = description or "; ".join(_sentence(row, reference) for row in rows)
    size = {"width": width, "height": bottom + 42}
    return base.document("".join(parts), **size, title=title, description=about)


def _has_reference(rows: Sequence[ForestRow]) -> bool:
    return any(row.reference is not None for row in rows)


def _values(row: ForestRow) -> list[float | None]:
    return [row.value, row.low, row.high, row.reference, *row.points]


def forest_span(values: Sequence[float]) -> tuple[float, float]:
    """Return the span of an axis for some accuracies in per cent: tens around all of them.

    >>> forest_span([62.5, 88.0])
    (60.0, 90.0)
    """
    low, high = min(values, default=0.0), max(values, default=100.0)
    low, high = 10.0 * math.floor((low - 1) / 10), 10.0 * math.ceil((high + 1) / 10)
    return max(0.0, low), min(100.0, max(high, low + 20))


def _number(row: ForestRow) -> str:
    return f"{row.prefix}{row.value:.1f}{row.mark}"


def _sentence(row: ForestRow, reference: str) -> str:
    interval = "" if row.low is None or row.high is None else f" [{row.low:.1f}, {row.high:.1f}]"
    seeds = f", {len(row.points)} seeds" if len(row.points) > 1 else ""
    other = "" if row.reference is None else f", {reference} {row.reference:.1f}"
    return f"{row.label}: {_number(row)}{interval}{seeds}{other}"


def _row(
    row: ForestRow,
    number: str,
    x: base.Scale,
    y: float,
    width: float,
    reference: str,
) -> str:
    hover = row.hover or _sentence(row, reference)
    parts = []
    if row.reference is not None:
        at = x(row.reference)
        square = f'x="{base.pixels(at - 3)}" y="{base.pixels(y - 3)}" width="6" height="6"'
        shown = base.escape(f"{row.label}: {reference} {row.reference:.1f}")
        parts.append(f'<rect {square} fill="{base.colour(6)}"><title>{shown}</title></rect>')
    if row.low is not None and row.high is not None:
        paint = f'stroke="{base.colour(0)}" stroke-width="2"'
        parts.append(base.line(x(row.low), y, x(row.high), y, paint))
    if len(row.points) > 1:
        for value in row.points:
            position = f'cx="{base.pixels(x(value))}" cy="{base.pixels(y + 7)}"'
            shown = base.escape(f"{row.label}, one seed: {value:.1f}")
            parts.append(
                f'<circle {position} r="2" fill="{base.colour(0)}"><title>{shown}</title></circle>'
            )
    parts.append(base.marker(0, x(row.value), y, hollow=bool(row.mark or row.prefix), hover=hover))
    return "".join(parts) + base.label(width, y + 4.5, number, anchor="end", more=_weight(row))


def _weight(row: ForestRow) -> str:
    return ' font-weight="700"' if row.bold else ""


def _name(row: ForestRow, edge: float, y: float, x: base.Scale, reference: str) -> str:
    """Return a row's name left of its plot, or, where `edge` is 0, from there on above it."""
    hover = row.hover or _sentence(row, reference)
    name = base.shorten(row.label, edge or x.stop)
    anchor = "end" if edge else "start"
    return base.label(edge, y + 4.5, name, anchor=anchor, hover=hover, more=_weight(row))
