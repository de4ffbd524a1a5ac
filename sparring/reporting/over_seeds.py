"""Compare recipes over their training seeds, in words: for the terminal and for the page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ..results import seeds
from ..results.intervals import Interval
from ..results.levels import Levels, comparable_groups, group_headline, is_conclusive, robust_at
from ..results.result import Result
from . import format


class RecipeRow(NamedTuple):
    """Hold runs that differ in their seed alone, with accuracies over them in words.

    `robust` is at `levels`, the headline of all results measured like these; `where` names it.
    """

    name: str
    runs: list[Result]
    clean: str
    robust: str
    levels: Levels
    where: str


def recipe_rows(results: Sequence[Result], at: float | None = None) -> list[RecipeRow]:
    """Return a row for each recipe that has several seeds, the best first among those alike.

    Arguments:
        at: the radius; default: the headline of those measured alike.
    """
    rows: list[RecipeRow] = []
    recipes = seeds.repeated_recipes(results)
    names = {id(g[0]): n for n, g in zip(seeds.group_names(recipes), recipes, strict=True)}
    for group in comparable_groups(results):
        levels = group_headline(group, at)
        where = format.levels_text(levels)
        known = [g for g in recipes if any(g[0] is r for r in group)]
        for runs in sorted(known, key=lambda runs: -_mean(runs, levels)):
            clean, robust = (_spread_text(runs, levels, clean=c) for c in (True, False))
            rows.append(RecipeRow(names[id(runs[0])], runs, clean, robust, levels, where))
    return rows


def _is_measured(runs: Sequence[Result], levels: Levels) -> bool:
    return all(robust_at(r, levels) is not None for r in runs)


def _mean(runs: Sequence[Result], levels: Levels) -> float:
    return seeds.spread(runs, levels=levels).mean if _is_measured(runs, levels) else -1.0


def _spread_text(runs: Sequence[Result], levels: Levels, *, clean: bool) -> str:
    if not clean and not _is_measured(runs, levels):
        return "–"
    spread = seeds.spread(runs, clean=clean, levels=levels)
    mark = "" if clean else format.mean_prefix(runs, levels)
    mean, std, low, high = (100 * v for v in spread[1:])
    return f"{mark}{mean:.2f} ± {std:.2f} [{max(low, 0):.1f}, {min(high, 100):.1f}]"


class RecipePair(NamedTuple):
    """Compare mean robust accuracies of two recipes, first − second, in points, at `where`.

    It is `clear` if the 95 % interval is on one side of 0, no measurement is unsound, and none
    ended early.
    """

    first: str
    second: str
    difference: str
    clear: bool
    where: str


def recipe_pairs(rows: Sequence[RecipeRow]) -> list[RecipePair]:
    """Return pairs of recipes that were measured alike; if there are many, with the best only.

    Pairs that are wrong on every sample are left out.
    """
    groups = [
        [row for row in rows if any(row.runs[0] is r for r in group)]
        for group in comparable_groups([row.runs[0] for row in rows])
    ]
    groups = [[row for row in group if _is_measured(row.runs, row.levels)] for group in groups]
    pairs = [pair for group in groups for pair in itertools.combinations(group, 2)]
    if len(pairs) > format.MOST_PAIRS:
        best = [
            max(group, key=lambda row: _mean(row.runs, row.levels)) for group in groups if group
        ]
        pairs = [pair for pair in pairs if any(row is top for row in pair for top in best)]
    return [_recipe_pair(*pair) for pair in pairs if _robust(pair)]


def _robust(pair: Sequence[RecipeRow]) -> bool:
    """Return whether some model of a pair is robust on some sample."""
    return any(_mean(row.runs, row.levels) > 0 for row in pair)


def _recipe_pair(first: RecipeRow, second: RecipeRow) -> RecipePair:
    d = seeds.difference(first.runs, second.runs, levels=first.levels)
    runs = [*first.runs, *second.runs]
    early = any(r.early for r in runs)
    text = format.points(Interval(d.difference, d.low, d.high)) + (" (early end)" if early else "")
    clear = all(map(is_conclusive, runs)) and d.low * d.high > 0
    return RecipePair(first.name, second.name, text, clear, first.where)
