"""Compare recipes over their training seeds: spread, and differences beyond chance."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..runtime.text import printable
from .collapsed import has_collapsed
from .headlines import Levels, headline, robust_at
from .intervals import t_interval, t_quantile
from .result import Result


class SeedSpread(NamedTuple):
    """Summarize an accuracy over seeds: mean, standard deviation (n − 1), interval of the mean."""

    count: int
    mean: float
    std: float
    low: float
    high: float


def spread(
    results: Sequence[Result], *, clean: bool = False, levels: Levels | None = None
) -> SeedSpread:
    """Return robust accuracy (or clean) over runs that differ in their seed, with its interval.

    mean ± t·std/√n at 95 %. It covers the randomness of training. The draw of samples it covers
    only as far as each seed drew its own, as an evaluation of fewer than all of them does.

    Arguments:
        levels: radius of each norm; default: the headline of these results.

    Raises:
        ValueError: for fewer than two results, or one without such a radius.
    """
    if len(results) < 2:
        raise ValueError(f"{len(results)} results have no spread: give two seeds or more")
    levels = levels or headline(results)
    values = np.array([_accuracy(r, clean, levels) for r in results])
    mean, low, high = t_interval(values)
    return SeedSpread(len(values), mean, float(values.std(ddof=1)), low, high)


def _accuracy(result: Result, clean: bool, levels: Levels) -> float:
    share = result.clean if clean else robust_at(result, levels)
    if share is None:
        known = " and ".join(map(str, levels.values()))
        raise ValueError(f"{printable(result.name)} was not attacked at {printable(known)}")
    return share.accuracy


class SeedDifference(NamedTuple):
    """Compare two recipes' mean accuracies, first − second, with the 95 % interval over seeds."""

    difference: float
    low: float
    high: float


def difference(
    first: Sequence[Result],
    second: Sequence[Result],
    *,
    clean: bool = False,
    levels: Levels | None = None,
) -> SeedDifference:
    """Return robust accuracy (or clean) of one recipe less that of another, over their seeds.

    d ± t·√(s₁²/n₁ + s₂²/n₂), t with Welch's degrees of freedom, rounded down. It covers what
    `spread` covers.

    Source: Welch 1947.

    Arguments:
        levels: radius of each norm; default: the headline of all these results.

    Raises:
        ValueError: for fewer than two results of either, or one without such a radius.
    """
    # Welch's, since recipes differ in their spread by far. Not paired by seed: what a seed draws
    # (initial weights, order, noise) means something else to another recipe.
    levels = levels or headline([*first, *second])
    one, two = (spread(runs, clean=clean, levels=levels) for runs in (first, second))
    variances = [s.std**2 / s.count for s in (one, two)]
    variance = sum(variances)
    weights = sum(v**2 / (s.count - 1) for v, s in zip(variances, (one, two), strict=True))
    # Rounded down as in tables of t, which widens the interval; the slack is for exact integers.
    df = math.floor(variance**2 / weights + 1e-9) if weights else one.count + two.count - 2
    d, half = one.mean - two.mean, t_quantile(df) * math.sqrt(variance)
    return SeedDifference(d, d - half, d + half)


def repeated_recipes(results: Sequence[Result]) -> list[list[Result]]:
    """Return groups of two or more runs of one recipe that differ in their seed alone."""
    return [group for group in group_by_recipe(results) if len(group) >= 2]


def group_by_recipe(results: Sequence[Result]) -> list[list[Result]]:
    """Return all results in groups that differ in their training seed alone, compiled or not.

    Seeds that did not learn are a group of their own.
    """
    groups: dict[str, list[Result]] = {}
    for k, r in enumerate(results):
        levels = [(row.threat, row.eps) for row in r.by_eps]
        known = (_without_seeds(r.recipe), r.dataset, r.split, r.n, r.suite, levels)
        known = (*known, has_collapsed(r))
        key = known if "recipe" in r.recipe else k
        groups.setdefault(json.dumps(key, sort_keys=True, default=str), []).append(r)
    split = []
    for group in groups.values():
        # Two results of one seed are a run measured twice, not two draws of training.
        distinct = len({training_seed(r) for r in group}) == len(group)
        split += [group] if distinct else [[r] for r in group]
    return split


def _without_seeds(tables: Any) -> Any:
    if isinstance(tables, dict):
        return {k: _without_seeds(v) for k, v in tables.items() if k not in ("seed", "compile")}
    return [_without_seeds(v) for v in tables] if isinstance(tables, list) else tables


def training_seed(r: Result) -> Any:
    """Return the training seed of a result's recipe, None if it is not known."""
    table = r.recipe.get("recipe")
    seed = table.get("seed") if isinstance(table, dict) else None
    return seed if isinstance(seed, int) else None


def group_names(groups: Sequence[Sequence[Result]]) -> list[str]:
    """Return a name for each group: of its recipe, or of its run where recipes repeat."""
    recipes = [recipe_name(g[0]) for g in groups]
    runs = [re.sub(rf"-seed{training_seed(g[0])}\b", "", g[0].name) for g in groups]
    return [r if recipes.count(r) == 1 else run for r, run in zip(recipes, runs, strict=True)]


def recipe_name(r: Result) -> str:
    """Return the name of a result's recipe; default: that of the result."""
    table = r.recipe.get("recipe")
    return str(table.get("name", r.name)) if isinstance(table, dict) else r.name
