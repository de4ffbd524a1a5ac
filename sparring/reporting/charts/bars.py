"""Draw horizontal bars of shares, in per cent: accuracy by class, features added, attacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from . import base


class Bar(NamedTuple):
    """Describe a bar; its value is in per cent.

    Arguments:
        low, high: 95 % interval; default: none is drawn.
        reference: another share, as clean accuracy: an upright line.
        tone: index of the colour.
        text: beside the bar; default: the value.
        hover: what a pointer shows; default: the numbers.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    tone: int = 0
    text: str = ""
    hover: str = ""


def bars(
    rows: Sequence[Bar],
    *,
    title: str,
    axis: str,
    reference: str = "clean",
    most: float = 100.0,
    width: float = base.PANEL,
    description: str = "",
) -> str:
    """Return bars as SVG text, from top to bottom in the order of the rows.

    Arguments:
        axis: what the bars' lengths are, with its unit.
        reference: the name of the upright lines.
        most: the end of the axis.
        description: for those who can't see it; default: the numbers of every bar.
    """
    longest = max((base.text_width(row.label) for row in rows), default=0.0)
    left = min(longest + 12, 0.5 * width)
    texts = [row.text or f"{row.value:.1f}" for row in rows]
    right = max((base.text_width(text) for text in texts), default=0.0) + 10
    x = base.Scale(0.0, most, left, width - right)
    top, step = 8.0, 22.0
    bottom = top + step * max(1, len(rows))
    values = base.ticks(0.0, most, most=5)
    parts = [base.line(x(t), top, x(t), bottom) for t in values]
    for k, (row, text) in enumerate(zip(rows, texts, strict=True)):
        parts.append(_bar(row, text, x, top + step * (k + 0.5), width, reference))
    named = axis + (
        f" (upright line: {reference})" if any(row.reference is not None for row in rows) else ""
    )
    parts.append(base.bottom_axis(x, values, bottom, named, width=width))
    about = description or "; ".join(_sentence(row, reference) for row in rows)
    size = {"width": width, "height": bottom + 42}
    return base.document("".join(parts), **size, title=title, description=about)


def _sentence(row: Bar, reference: str) -> str:
    interval = "" if row.low is None or row.high is None else f" [{row.low:.1f}, {row.high:.1f}]"
    other = "" if row.reference is None else f", {reference} {row.reference:.1f}"
    return f"{row.label}: {row.value:.1f}{interval}{other}"


def _bar(row: Bar, text: str, x: base.Scale, y: float, width: float, reference: str) -> str:
    hover = row.hover or _sentence(row, reference)
    name = base.shorten(row.label, x.start - 8)
    size = f'width="{base.pixels(max(1.0, x(row.value) - x.start))}" height="14"'
    position = f'x="{base.pixels(x.start)}" y="{base.pixels(y - 7)}" {size}'
    parts = [
        base.label(x.start - 8, y + 4.5, name, anchor="end", hover=hover),
        f'<rect {position} fill="{base.colour(row.tone)}">'
        f"<title>{base.escape(hover, 600)}</title></rect>",
    ]
    if row.low is not None and row.high is not None:
        paint = 'stroke="currentColor" stroke-width="1.5"'
        parts.append(base.line(x(row.low), y, x(row.high), y, paint))
    if row.reference is not None:
        paint = 'stroke="currentColor" stroke-width="2"'
        parts.append(base.line(x(row.reference), y - 9, x(row.reference), y + 9, paint))
    return "".join(parts) + base.label(width, y + 4.5, text, anchor="end")
