"""Draw charts as inline SVG text, without a style sheet and without matplotlib."""

from .bars import Bar, bars
from .base import colour, colour_bar, standalone
from .forest import ForestRow, forest, forest_span
from .lines import Axis, Line, Point, lines

__all__ = [
    "Axis",
    "Bar",
    "ForestRow",
    "Line",
    "Point",
    "bars",
    "colour",
    "colour_bar",
    "forest",
    "forest_span",
    "lines",
    "standalone",
]
