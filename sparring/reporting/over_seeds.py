"""Compare recipes over their training seeds, in words: for the terminal and for the page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ..results import seeds
from ..results.intervals import Interval
from ..results.result import Result
from . import format


class RecipeRow(NamedTuple):
    """Hold runs that differ in their seed alone, with accuracies over them in words."""

    name: str
    runs: list[Result]
    clean: str
    robust: str


def recipe_rows(results: Sequence[Result]) -> list[RecipeRow]:
    """Return a row for each recipe that has several seeds."""
    groups = seeds.repeated_recipes(results)
    return [
        RecipeRow(name, group, _spread_text(group, clean=True), _spread_text(group, clean=False))
        for name, group in zip(seeds.group_names(groups), groups, strict=True)
    ]


def _spread_text(group: Sequence[Result], *, clean: bool) -> str:
    spread = seeds.spread(group, clean=clean)
    mark = "≤ " if not clean and any(r.early for r in group) else ""
    mean, std, low, high = (100 * v for v in spread[1:])
    return f"{mark}{mean:.2f} ± {std:.2f} [{low:.1f}, {high:.1f}]"


class RecipePair(NamedTuple):
    """Compare mean robust accuracies of two recipes, first − second, in points.

    It is `clear` if the 95 % interval is on one side of 0, all are trusted, and none ended early.
    """

    first: str
    second: str
    difference: str
    clear: bool


def recipe_pairs(rows: Sequence[RecipeRow]) -> list[RecipePair]:
    """Return pairs of recipes that were measured alike; if there are many, with the best only."""
    groups = [
        [row for row in rows if any(row.runs[0] is r for r in group)]
        for group in format.comparable_groups([row.runs[0] for row in rows])
    ]
    pairs = [pair for group in groups for pair in itertools.combinations(group, 2)]
    if len(pairs) > format.MOST_PAIRS:
        best = [max(group, key=lambda row: seeds.spread(row.runs).mean) for group in groups]
        pairs = [pair for pair in pairs if any(row is top for row in pair for top in best)]
    return [_recipe_pair(*pair) for pair in pairs]


def _recipe_pair(first: RecipeRow, second: RecipeRow) -> RecipePair:
    d = seeds.difference(first.runs, second.runs)
    runs = [*first.runs, *second.runs]
    early = any(r.early for r in runs)
    conclusive = not early and all(format.is_trusted(r) for r in runs)
    text = format.points(Interval(d.difference, d.low, d.high)) + (" (early end)" if early else "")
    return RecipePair(first.name, second.name, text, conclusive and d.low * d.high > 0)
