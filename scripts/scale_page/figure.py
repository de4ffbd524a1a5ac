"""Draw how the time of an evaluation grows, every size as a multiple of its smallest."""

from __future__ import annotations

from typing import Any

from sparring.reporting.charts import Axis, Line, Point, lines, standalone

NAMES = {  # series: its name in the figure, and the power of the size that is drawn
    "evaluation, samples": ("samples", 1),
    "evaluation, side": ("pixels", 2),
    "evaluation, radii": ("radii", 1),
    "evaluation, classes": ("classes", 1),
}
MARKS = (1, 2, 5, 10, 20, 50, 100)


def draw(table: dict[str, Any]) -> str:
    """Return the figure as the content of an SVG file."""
    drawn = [_line(name, table["series"][name]) for name in NAMES]
    drawn = [line for line in drawn if len(line.points) > 1]
    most = max((p.y for line in drawn for p in line.points), default=1.0)
    far = max((p.x for line in drawn for p in line.points), default=1.0)
    drawn.append(_in_proportion(min(most, far)))
    x = Axis(
        "size, as a multiple of the smallest", 1, far, [m for m in MARKS if m <= far], log=True
    )
    high = max(most, 2.0)
    y = Axis("processor time, as a multiple", 0.9, high, [m for m in MARKS if m <= high], log=True)
    about = description(table)
    chart = lines(drawn, title=title(table), x=x, y=y, dodge=False, height=320, description=about)
    return standalone(chart) + "\n"


def title(table: dict[str, Any]) -> str:
    """Return what the figure shows, with the slopes."""
    slopes = [
        f"{name} {table['series'][series]['seconds_slope']:.2f}"
        for series, (name, power) in NAMES.items()
        if len(table["series"][series]["values"]) > 1 and power == 1
    ]
    return "Processor time of an evaluation as its sizes grow; slopes: " + ", ".join(slopes)


def description(table: dict[str, Any]) -> str:
    """Return the multiples of every series, for those who can't see the figure."""
    parts = []
    for name in NAMES:
        line = _line(name, table["series"][name])
        if len(line.points) > 1:
            parts.append(f"{line.name}: {line.points[-1].y:.3g} times at {line.points[-1].x:.3g}")
    return "; ".join(parts)


def _line(name: str, one: dict[str, Any]) -> Line:
    label, power = NAMES[name]
    sizes, seconds = one["values"], one["seconds"]
    points = [
        Point(
            (size / sizes[0]) ** power,
            spent / seconds[0],
            hover=f"{label} {size**power}: {spent:.3g} s of one core",
        )
        for size, spent in zip(sizes, seconds, strict=True)
    ]
    return Line(label, points, joined=len(points))


def _in_proportion(most: float) -> Line:
    """Return the line of slope 1."""
    ends = [Point(1.0, 1.0), Point(most, most)]
    return Line("slope 1", ends, joined=2, tone=6, dashed=True, marked=False)
