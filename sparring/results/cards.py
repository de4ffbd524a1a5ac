"""Show one result as a card in a notebook, or as a few lines of text."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from ..runtime.fractions import format_number
from ..runtime.text import printable
from .defences import defence
from .intervals import Interval
from .sampled import bound_text
from .shown import ShownLevel, ShownResult
from .verdicts import LOOK, NOT_SOUND, SOUND

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 260, 130, 44, 12, 10, 24
NAME_LETTERS = 60  # longer names lose their middle
LINE_FROM = 4  # points: a line through fewer would invent what lies between them
MARKS = {SOUND: ("✓", "#2a8f5b"), LOOK: ("?", "#b07a00"), NOT_SOUND: ("✗", "#c8472f")}
BOX = "border:1px solid #8886;border-radius:8px;padding:12px 16px;max-width:46em;display:flex;"
BOX += "gap:24px;flex-wrap:wrap;align-items:center;color:inherit;background:transparent;"
BOX += "overflow-wrap:anywhere"
CELL = "padding:2px 14px 2px 0;text-align:left;background:transparent"


def level_name(result: ShownResult, row: ShownLevel) -> str:
    """Return a row's norm and radius: `Linf 8/255`; each only if it is known."""
    threat = row.threat or str(result.threat.get("name", ""))
    radius = "" if row.eps is None else format_number(row.eps)
    return printable(f"{threat} {radius}".strip() or "the threat")


def facts(result: ShownResult) -> str:
    """Return what was measured, in one line: data, number of samples, suite."""
    parts = [
        f"{result.n:,} of {result.dataset} {result.split}",
        f"suite {result.suite} v{result.suite_version}",
        defence(result),
    ]
    return printable(" · ".join(filter(None, parts)))


def measurement(result: ShownResult) -> str:
    """Return the verdict of the measurement and its reason, in one line."""
    return printable(f"measurement: {result.verdict}, {result.reason}", 400)


def headline(result: ShownResult) -> str:
    """Return the accuracies and the verdict, as the `repr` of a result shows them."""
    row, several = headline_row(result), len({row.threat for row in result.by_eps}) > 1
    at = f"robust at {level_name(result, row)}: {bounded(result, row)}"
    if several:
        at = f"robust to all norms: {worst_case(result)}"
    parts = [f"clean {result.clean.percent}", at, defence(result)]
    parts = [*filter(None, parts), f"measurement: {result.verdict}"]
    return f"{printable(result.name, NAME_LETTERS)}: {' · '.join(parts)}"


def headline_row(result: ShownResult) -> ShownLevel:
    """Return the row that a result is known by: the radius of its recipe's own threat, if it was
    measured; else the one whose accuracy is nearest to 50 %."""
    threat = result.recipe.get("threat")
    trained = (threat.get("name"), threat.get("eps")) if isinstance(threat, Mapping) else None
    name = str(result.threat.get("name", ""))
    rows = [row for row in result.by_eps if (row.threat or name, row.eps) == trained]
    return min(rows or result.by_eps, key=lambda row: abs(row.robust.accuracy - 0.5))


def bounded(result: ShownResult, row: ShownLevel) -> str:
    """Return a row's robust accuracy, marked ≤ where attacks skipped samples, and with the bound
    of what a sample left open."""
    mark = "≤ " if any(a.skipped for a in row.attacks) else ""
    return mark + str(row.robust) + bound_text([row.sampled])


def worst_case(result: ShownResult) -> str:
    """Return the robust accuracy over all norms, marked as those of a row."""
    rows = {row.threat: row.sampled for row in result.by_eps}  # the last: the largest radius
    return ("≤ " if result.early else "") + str(result.robust) + bound_text(rows.values())


def summary(result: ShownResult) -> str:
    """Return the result in a few lines of text: accuracies by radius, verdict, reason."""
    rows = [("clean", str(result.clean)), *_levels(result, lowest=True)]
    width = max(len(name) for name, _ in rows)
    title = f"{printable(result.name, NAME_LETTERS)}: {facts(result)}"
    return "\n".join([title, *(f"{k:<{width}}  {v}" for k, v in rows), measurement(result)])


def card(result: ShownResult) -> str:
    """Return the result as HTML: accuracies by radius, the verdict with its reason, a small chart.

    It takes the colours of the page around it, has no script, and every text of it is escaped.
    """
    rows = [("clean", str(result.clean)), *_levels(result)]
    body = "".join(
        f'<tr><th scope="row" style="{CELL};font-weight:400">{html.escape(name)}</th>'
        f'<td style="{CELL};font-variant-numeric:tabular-nums">{html.escape(text)}</td></tr>'
        for name, text in rows
    )
    mark, tone = MARKS.get(result.verdict, ("", "currentColor"))
    verdict = html.escape(measurement(result))
    return (
        f'<div class="sparring-card" style="{BOX}"><div style="flex:1 1 18em">'
        f"<strong>{html.escape(printable(result.name, NAME_LETTERS))}</strong>"
        f'<div style="opacity:.75">{html.escape(facts(result))}</div>'
        f'<table style="margin:8px 0;border-collapse:collapse">{body}</table>'
        f'<div><span style="color:{tone};font-weight:700">{mark}</span> {verdict}</div></div>'
        f"{chart(result)}</div>"
    )


def _levels(result: ShownResult, *, lowest: bool = False) -> list[tuple[str, str]]:
    """Return name and robust accuracy of each radius; `lowest` adds the strongest attack."""
    levels = [
        (f"robust at {level_name(result, row)}", bounded(result, row) + _strongest(row) * lowest)
        for row in result.by_eps
    ]
    if len({row.threat for row in result.by_eps}) > 1:
        levels.append(("robust to all norms", worst_case(result)))
    return levels


def _strongest(row: ShownLevel) -> str:
    """Return the attack of the lowest accuracy; "" in a cascade, whose attacks met other rows."""
    if len(row.attacks) < 2 or len({a.attacked for a in row.attacks}) > 1:
        return ""
    strongest = min(row.attacks, key=lambda a: a.accuracy)
    return f"  strongest: {printable(strongest.name, 40)} {100 * strongest.accuracy:.1f} %"


def chart(result: ShownResult) -> str:
    """Return accuracy against eps with 95 % intervals as SVG; "" for several norms, or none."""
    rows = [row for row in result.by_eps if row.eps is not None]
    if not rows or len({row.threat for row in result.by_eps}) > 1:
        return ""
    points = [(0.0, result.clean), *((row.eps or 0.0, row.robust) for row in rows)]
    most = max(eps for eps, _ in points) or 1.0
    placed = [(LEFT + (WIDTH - LEFT - RIGHT) * eps / most, i) for eps, i in points]
    named = [(f"robust at {level_name(result, row)}", bounded(result, row)) for row in rows]
    shown = [f"{name}: {text}" for name, text in [("clean", str(result.clean)), *named]]
    return (
        f'<svg role="img" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui,sans-serif" font-size="11" fill="currentColor">'
        f"<title>{html.escape('Accuracy against eps. ' + '; '.join(shown))}</title>"
        f"{_axes(most)}{_line(placed)}"
        f"{''.join(_point(x, i, text) for (x, i), text in zip(placed, shown, strict=True))}</svg>"
    )


class Chart:
    """Hold the chart of a result, for a notebook."""

    def __init__(self, result: ShownResult) -> None:
        self._svg = chart(result)
        if not self._svg:
            raise ValueError(
                f"{printable(result.name)} has no chart of accuracy against eps: it was measured "
                "under several norms, or without a radius"
            )

    def __repr__(self) -> str:
        return "Chart(accuracy against eps, as SVG in a notebook)"

    def _repr_html_(self) -> str:
        return self._svg


def _height(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _axes(most: float) -> str:
    lines = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_height(s):.1f}" y2="{_height(s):.1f}" '
        'stroke="currentColor" stroke-opacity=".25"/>'
        f'<text x="{LEFT - 5}" y="{_height(s) + 4:.1f}" text-anchor="end">{100 * s:g} %</text>'
        for s in (0, 0.5, 1)
    )
    y, end = HEIGHT - 6, html.escape(f"eps {format_number(most)}")
    last = f'<text x="{WIDTH - RIGHT}" y="{y}" text-anchor="end">{end}</text>'
    return f'{lines}<text x="{LEFT}" y="{y}">0</text>{last}'


def _line(points: Sequence[tuple[float, Interval]]) -> str:
    if len(points) < LINE_FROM:
        return ""
    path = " ".join(f"{x:.1f},{_height(i.accuracy):.1f}" for x, i in points)
    return f'<polyline points="{path}" fill="none" stroke="#0f7ac0" stroke-width="1.5"/>'


def _point(x: float, i: Interval, text: str) -> str:
    """Return a point with its interval; a pointer shows its numbers."""
    return (
        f'<g stroke="#0f7ac0" fill="#0f7ac0"><title>{html.escape(text)}</title>'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_height(i.low):.1f}" y2="{_height(i.high):.1f}" '
        f'stroke-width="1.5"/><circle cx="{x:.1f}" cy="{_height(i.accuracy):.1f}" r="3.5"/></g>'
    )
