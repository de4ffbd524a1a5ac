"""Recipes over their training seeds, in words: for the terminal and for the page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ..results import seeds
from ..results.intervals import Interval
from ..results.result import Result
from . import format


class Recipe(NamedTuple):
    """Its runs that differ in their seed alone; clean and robust accuracy over them, in words."""

    name: str
    runs: list[Result]
    clean: str
    robust: str


def recipes(results: Sequence[Result]) -> list[Recipe]:
    """The recipes of which there are several seeds."""
    groups = seeds.by_recipe(results)
    return [
        Recipe(name, group, _spread(group, clean=True), _spread(group, clean=False))
        for name, group in zip(seeds.names(groups), groups, strict=True)
    ]


def _spread(group: Sequence[Result], *, clean: bool) -> str:
    s = seeds.spread(group, clean=clean)
    mark = "≤ " if not clean and any(r.early for r in group) else ""
    mean, std, low, high = (100 * v for v in s[1:])
    return f"{mark}{mean:.2f} ± {std:.2f} [{low:.1f}, {high:.1f}]"


class Versus(NamedTuple):
    """Two recipes, the first's mean robust accuracy less the second's, in points; `clear` where the
    95 % interval over seeds is on one side of 0, all are trusted and none ended early."""

    first: str
    second: str
    difference: str
    clear: bool


def versus(found: Sequence[Recipe]) -> list[Versus]:
    """Pairs of recipes that were measured alike; of many, each with the best of them."""
    groups = format.alike([recipe.runs[0] for recipe in found])
    own = [[r for r in found if any(r.runs[0] is one for one in group)] for group in groups]
    pairs = [pair for group in own for pair in itertools.combinations(group, 2)]
    if len(pairs) > format.MOST_PAIRS:
        best = [max(group, key=lambda recipe: seeds.spread(recipe.runs).mean) for group in own]
        pairs = [pair for pair in pairs if any(one is top for one in pair for top in best)]
    return [_versus(*pair) for pair in pairs]


def _versus(first: Recipe, second: Recipe) -> Versus:
    d = seeds.difference(first.runs, second.runs)
    runs = [*first.runs, *second.runs]
    early = any(r.early for r in runs)
    sound = not early and all(format.trusted(r) for r in runs)
    text = format.points(Interval(d.difference, d.low, d.high)) + (" (early end)" if early else "")
    return Versus(first.name, second.name, text, sound and d.low * d.high > 0)
