"""Draw values against a number, as accuracy against eps: markers, intervals, names at the ends."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ...runtime.fractions import format_number
from . import base


class Point(NamedTuple):
    """Describe one measurement.

    Arguments:
        low, high: 95 % interval; default: none is drawn.
        hollow: an upper bound, or a number not to be trusted.
        hover: what a pointer shows; default: the numbers.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    hollow: bool = False
    hover: str = ""


class Line(NamedTuple):
    """Describe the points of one model, in order of x.

    Arguments:
        joined: how many of the last points are joined by a line: only neighbours on a scale that
            was measured all along; default: all but one at x = 0.
        tone: index of colour and marker; default: the place among the lines.
        dashed, marked: how the line is drawn; without marks it is a curve of very many points.
    """

    name: str
    points: Sequence[Point]
    joined: int | None = None
    tone: int | None = None
    dashed: bool = False
    marked: bool = True


class Axis(NamedTuple):
    """Describe an axis: its name with the unit, its span, and the marks, if they are given.

    Arguments:
        whole: marks are whole numbers, as of epochs.
        log: the scale is logarithmic; low must be above 0.
    """

    name: str
    low: float
    high: float
    marks: Sequence[float] = ()
    whole: bool = False
    log: bool = False


def lines(
    series: Sequence[Line],
    *,
    title: str,
    x: Axis,
    y: Axis,
    width: float = base.PANEL,
    height: float = 300,
    dodge: bool = True,
    description: str = "",
) -> str:
    """Return a chart as SVG text.

    Between points there is a line only where a `Line` joins them: a straight line claims values
    that nobody measured.

    Arguments:
        dodge: move lines aside by some pixels, so that equal ones stay visible.
        description: for those who can't see it; default: the numbers of every line.
    """
    names = [base.shorten(one.name, 0.34 * width) for one in series]
    right = max((base.text_width(name) for name in names if name), default=0.0) + 26
    top, left = 30.0, 40.0
    bottom = top + max(height - top - 44, base.ROW * (len(series) - 1) + 8)
    across = base.Scale(x.low, x.high, left + 14, width - right, x.log)
    up = base.Scale(y.low, y.high, bottom, top, y.log)
    marks = list(x.marks) or base.ticks(x.low, x.high, whole=x.whole)
    parts = [
        base.left_axis(up, list(y.marks) or base.ticks(y.low, y.high), left, across.stop, y.name),
        base.bottom_axis(across, marks, bottom, x.name, width=width, write=format_number),
    ]
    step = _dodge_step(series, across) if dodge else 0.0
    ends = []
    for k, one in enumerate(series):
        shift = step * (k - (len(series) - 1) / 2)
        moved = [(across(p.x) + shift, up(p.y)) for p in one.points]
        parts.append(_line(one, k, moved, up))
        ends.append(moved[-1] if moved else (across.stop, bottom))
    parts.append(_names(series, names, ends, across.stop + 22, (top, bottom)))
    about = description or "; ".join(_sentence(one) for one in series)
    size = {"width": width, "height": bottom + 44}
    return base.document("".join(parts), **size, title=title, description=about)


def _dodge_step(series: Sequence[Line], across: base.Scale) -> float:
    """Return by how much neighbouring lines are moved: less where points stand close."""
    places = sorted({across(p.x) for one in series for p in one.points})
    gaps = [b - a for a, b in itertools.pairwise(places)]
    return min(5.0, min(24.0, 0.5 * min(gaps, default=48.0)) / max(1, len(series)))


def _sentence(one: Line) -> str:
    return f"{one.name}: " + ", ".join(
        f"{p.y:.4g} at {format_number(p.x)}" for p in _thinned(one.points)
    )


def _thinned(points: Sequence[Point], most: int = 12) -> Sequence[Point]:
    """Return at most about `most` of the points, the first and the last among them."""
    every = max(1, -(-len(points) // most))
    return points if every == 1 else [*points[:-1:every], points[-1]]


def _line(one: Line, k: int, moved: Sequence[tuple[float, float]], up: base.Scale) -> str:
    tone = k if one.tone is None else one.tone
    count = one.joined
    if count is None:
        count = sum(p.x != 0 for p in one.points)
    parts = []
    if count > 1:
        path = "L".join(f"{base.pixels(a)} {base.pixels(b)}" for a, b in moved[-count:])
        dash = ' stroke-dasharray="5 4"' if one.dashed else ""
        inner = "" if one.marked else f"<title>{base.escape(one.name)}</title>"
        paint = f'fill="none" stroke="{base.colour(tone)}" stroke-width="2"{dash}'
        parts.append(f'<path d="M{path}" {paint}>{inner}</path>')
    for p, (a, _) in zip(one.points, moved, strict=True):
        if p.low is not None and p.high is not None:
            paint = f'stroke="{base.colour(tone)}" stroke-width="1.5"'
            parts.append(base.line(a, up(p.low), a, up(p.high), paint))
    if one.marked:
        for p, (a, b) in zip(one.points, moved, strict=True):
            hover = p.hover or f"{one.name} at {format_number(p.x)}: {p.y:.4g}"
            parts.append(base.marker(tone, a, b, hollow=p.hollow, hover=hover))
    return "".join(parts)


def _names(
    series: Sequence[Line],
    names: Sequence[str],
    ends: Sequence[tuple[float, float]],
    x: float,
    within: tuple[float, float],
) -> str:
    """Return names beside the ends of their lines, pushed apart, with a hair to each end."""
    shown = [k for k, name in enumerate(names) if name]
    heights = base.push_apart([ends[k][1] for k in shown], base.ROW, *within)
    parts = []
    for k, y in zip(shown, heights, strict=True):
        one = series[k]
        tone = base.colour(k if one.tone is None else one.tone)
        a, b = ends[k]
        parts.append(base.line(a + 6, b, x - 3, y, f'stroke="{tone}" stroke-opacity=".6"'))
        hover = one.name if one.name != names[k] else ""
        parts.append(base.label(x, y + 4.5, names[k], hover=hover))
    return "".join(parts)
