"""Draw the parts of a chart as SVG text: scales, axes, markers, and the frame.

A chart is inline SVG without a style sheet. Its text has the colour of the page around it, so that
it follows dark mode and print; colours of series stand out on white and on dark grounds.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...runtime.text import printable

# Okabe and Ito's hues, their lightness moved to where contrast is 3:1 or more on white (#fff) and
# on dark grounds (#202428): a relative luminance of 0.16 to 0.29.
COLOURS = (
    *("#0f7ac0", "#d55e00", "#009e73", "#c66a9e", "#a87b00", "#8a63d2"),
    *("#7f7f7f", "#0d8f9c"),
)
MARKERS = (  # paths around the origin, about 9 pixels wide
    "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0-4.5 0Z",
    "M-4-4H4V4H-4Z",
    "M0-5.2L5 3.8H-5Z",
    "M0-5.6L5.6 0L0 5.6L-5.6 0Z",
    "M0 5.2L5-3.8H-5Z",
    "M-1.7-5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z",
    "M-5-2L0-5.5L5-2L3.2 4.5H-3.2Z",
    "M-5.5-3H5.5V3H-5.5Z",
)
FONT = 13  # of 440 pixels; a phone shows them in 380, where it is 11 still
PANEL = 440  # default width: two stand side by side on a desk, one fills a phone
LETTER = 0.6  # mean width of a letter, in units of the font size
ROW = 17  # the least distance of two labels


class Scale(NamedTuple):
    """Map values in [low, high] to pixels from `start` to `stop`, linear or in logarithm."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; values outside are moved to the edge."""
        inside = min(max(value, self.low), self.high)
        low, high, v = (math.log(t) if self.log else t for t in (self.low, self.high, inside))
        return self.start + (self.stop - self.start) * ((v - low) / ((high - low) or 1.0))


def colour(k: int) -> str:
    """Return the k-th colour of a palette for colour-blind readers, on light and dark grounds."""
    return COLOURS[k % len(COLOURS)]


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours, 1 to 21.

    Source: WCAG 2.2, "contrast ratio".

    >>> contrast("#ffffff", "#000000")
    21.0
    """
    high, low = sorted(map(_luminance, (first, second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(tone: str) -> float:
    parts = [int(tone[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def pixels(value: float) -> str:
    """Return a coordinate to a tenth of a pixel.

    >>> pixels(3.14159), pixels(2.0)
    ('3.1', '2')
    """
    return f"{round(value, 1) + 0.0:g}"


def escape(text: object, letters: int | None = 200) -> str:
    """Return text of a stranger as safe SVG text: no markup, no control characters."""
    return html.escape(printable(text, letters))


def shorten(text: str, width: float, font: float = FONT) -> str:
    """Return text that fits a width in pixels; longer text loses its middle."""
    return printable(text, max(3, int(width / (font * LETTER))))


def text_width(text: str, font: float = FONT) -> float:
    """Return about how wide a text is, in pixels."""
    return len(text) * font * LETTER


def label(
    x: float, y: float, text: str, *, anchor: str = "start", hover: str = "", more: str = ""
) -> str:
    """Return text at a point; `more` holds attributes, `hover` what a pointer shows."""
    side = "" if anchor == "start" else f' text-anchor="{anchor}"'
    inner = escape(text) + (f"<title>{escape(hover, 600)}</title>" if hover else "")
    return f'<text x="{pixels(x)}" y="{pixels(y)}"{side}{more}>{inner}</text>'


def line(x1: float, y1: float, x2: float, y2: float, more: str = "") -> str:
    """Return a line; its default colour is that of the text, faint."""
    ends = " ".join(
        f'{key}="{pixels(v)}"' for key, v in (("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2))
    )
    paint = more or 'stroke="currentColor" stroke-opacity=".18"'
    return f"<line {ends} {paint}/>"


def marker(k: int, x: float, y: float, *, hollow: bool = False, hover: str = "") -> str:
    """Return the k-th marker, in its colour: series differ in both, and repeat neither together."""
    shape = MARKERS[(k + k // len(COLOURS)) % len(MARKERS)]
    tone = colour(k)
    paint = f'fill="{"none" if hollow else tone}" stroke="{tone}" stroke-width="1.5"'
    inner = f"<title>{escape(hover, 600)}</title>" if hover else ""
    position = f'transform="translate({pixels(x)} {pixels(y)})"'
    # A hollow marker has an area to point at, too.
    return f'<path d="{shape}" {position} {paint} pointer-events="all">{inner}</path>'


def ticks(low: float, high: float, *, most: int = 6, whole: bool = False) -> list[float]:
    """Return round values within [low, high], at most about `most` of them.

    >>> ticks(0, 100), ticks(1, 3, whole=True)
    ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [1.0, 2.0, 3.0])
    """
    span = high - low
    if span <= 0:
        return [low]
    rough = span / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) + 0.0 for k in range(first, math.floor(high / step + 1e-9) + 1)]


def push_apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions at least `gap` apart, near the wanted ones and within [low, high].

    >>> push_apart([10, 10, 11], 5, 0, 20)
    [10, 15, 20]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    least = low
    for i in order:
        placed[i] = max(wanted[i], least)
        least = placed[i] + gap
    most = high
    for i in reversed(order):
        placed[i] = min(placed[i], most)
        most = placed[i] - gap
    return placed


def bottom_axis(
    scale: Scale,
    values: Sequence[float],
    y: float,
    name: str,
    *,
    width: float,
    write: Callable[[float], str] = "{:g}".format,
) -> str:
    """Return an axis below a plot: marks, their text where it fits, and a name within `width`."""
    edge = 'stroke="currentColor" stroke-opacity=".5"'
    parts, free = [line(scale.start, y, scale.stop, y, edge)], -math.inf
    for value in values:
        x, text = scale(value), write(value)
        half = text_width(text, 12) / 2
        parts.append(line(x, y, x, y + 4, edge))
        if x - half > free:
            parts.append(label(x, y + 17, text, anchor="middle", more=' font-size="12"'))
            free = x + half + 6
    name = shorten(name, width)
    middle = min((scale.start + scale.stop) / 2, width - text_width(name) / 2)
    return "".join(parts) + label(middle, y + 35, name, anchor="middle", more=' fill-opacity=".8"')


def left_axis(scale: Scale, values: Sequence[float], x1: float, x2: float, name: str) -> str:
    """Return horizontal lines across a plot with their values, and a name above."""
    parts = [label(0, scale.stop - 12, name, more=' fill-opacity=".8"')]
    for value in values:
        y = scale(value)
        text = f"{value:.12g}".replace("-", "−")
        parts += [
            line(x1, y, x2, y),
            label(x1 - 6, y + 4, text, anchor="end", more=' font-size="12"'),
        ]
    return "".join(parts)


def document(body: str, *, width: float, height: float, title: str, description: str) -> str:
    """Return a whole chart; title and description say its content to those who can't see it."""
    size = f'viewBox="0 0 {pixels(width)} {pixels(height)}" width="{pixels(width)}"'
    return (
        f'<svg class="chart" role="img" {size} height="{pixels(height)}" '
        f'font-family="system-ui, sans-serif" font-size="{FONT}" fill="currentColor">'
        f"<title>{escape(title, 600)}</title><desc>{escape(description, 4000)}</desc>{body}</svg>"
    )


def standalone(chart: str) -> str:
    """Return a chart as the content of an `.svg` file, which follows the reader's dark mode."""
    style = (
        "<style>:root{color:#1c2024}@media(prefers-color-scheme:dark){:root{color:#e8eaed}}</style>"
    )
    opened = chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return opened.replace("<title>", f"{style}<title>", 1)


def colour_bar(low: float, high: float, tones: Sequence[str]) -> str:
    """Return the scale of colours from `low` to `high`, with its ends and middle in numbers."""
    step, ends = 8, [low, (low + high) / 2, high]
    names = [f"{v:+.3g}".replace("-", "−") if v else "0" for v in ends]
    width = step * len(tones)
    boxes = "".join(
        f'<rect x="{30 + k * step}" y="2" width="{step}" height="12" fill="{tone}"/>'
        for k, tone in enumerate(tones)
    )
    texts = "".join(
        label(30 + width * k / 2, 29, name, anchor="middle") for k, name in enumerate(names)
    )
    title = f"Scale of the differences: {names[0]} to {names[2]}"
    about = f"colours from {names[0]} over {names[1]} to {names[2]}, in input units"
    return document(boxes + texts, width=width + 60, height=34, title=title, description=about)
