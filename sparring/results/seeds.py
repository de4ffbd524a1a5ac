"""Recipes over their training seeds: their spread, and whether two differ by more than the luck of
training."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .intervals import mean95, t_quantile
from .result import Result


class Spread(NamedTuple):
    """Over training seeds: mean, standard deviation (n − 1) and the t interval of the mean."""

    count: int
    mean: float
    std: float
    low: float
    high: float


def spread(results: Sequence[Result], *, clean: bool = False) -> Spread:
    """Robust accuracy (or clean) over runs that differ in their seed, with a 95 % t interval.

    mean ± t·std/√n. It covers the luck of training; that of the samples only as far as each seed
    drew its own, as an evaluation of fewer than all of them does.

    Raises:
        ValueError: for fewer than two results.
    """
    if len(results) < 2:
        raise ValueError(f"{len(results)} results have no spread: give two seeds or more")
    values = np.array([(r.clean if clean else r.robust).accuracy for r in results])
    mean, low, high = mean95(values)
    assert mean is not None
    assert low is not None
    assert high is not None
    return Spread(len(values), mean, float(values.std(ddof=1)), low, high)


class Difference(NamedTuple):
    """Of two recipes' mean accuracies, first − second, with its 95 % interval over seeds."""

    difference: float
    low: float
    high: float


def difference(
    first: Sequence[Result], second: Sequence[Result], *, clean: bool = False
) -> Difference:
    """Robust accuracy (or clean) of one recipe less that of another, over their seeds.

    d ± t·√(s₁²/n₁ + s₂²/n₂), t with Welch's degrees of freedom, rounded down. Seeds are not paired:
    what they draw (initial weights, order, noise) means something else to another recipe. It covers
    what `spread` covers.

    Source: Welch 1947.

    Raises:
        ValueError: for fewer than two results of either.
    """
    one, two = spread(first, clean=clean), spread(second, clean=clean)
    parts = [s.std**2 / s.count for s in (one, two)]
    error = sum(parts)
    weights = sum(v**2 / (s.count - 1) for v, s in zip(parts, (one, two), strict=True))
    freedom = math.floor(error**2 / weights + 1e-9) if weights else one.count + two.count - 2
    half = t_quantile(freedom) * math.sqrt(error)
    d = one.mean - two.mean
    return Difference(d, d - half, d + half)


def by_recipe(results: Sequence[Result]) -> list[list[Result]]:
    """Groups of two or more runs of one recipe that differ in their training seed alone."""
    return [g for g in grouped(results) if len(g) >= 2]


def grouped(results: Sequence[Result]) -> list[list[Result]]:
    """All results, those together that differ in their training seed alone, compiled or not."""
    groups: dict[str, list[Result]] = {}
    for k, r in enumerate(results):
        levels = [(row.threat, row.eps) for row in r.by_eps]
        what: Any = (_seedless(r.recipe), r.dataset, r.split, r.n, r.suite, levels)
        what = what if "recipe" in r.recipe else k
        groups.setdefault(json.dumps(what, sort_keys=True, default=str), []).append(r)
    found = []
    for g in groups.values():
        alike = len({seed_of(r) for r in g}) == len(g)
        found += [g] if alike else [[r] for r in g]
    return found


def _seedless(tables: Any) -> Any:
    if isinstance(tables, dict):
        return {k: _seedless(v) for k, v in tables.items() if k not in ("seed", "compile")}
    return [_seedless(v) for v in tables] if isinstance(tables, list) else tables


def seed_of(r: Result) -> Any:
    """The training seed of its recipe, None where it is not known."""
    table = r.recipe.get("recipe")
    return table.get("seed") if isinstance(table, dict) else None


def names(groups: Sequence[Sequence[Result]]) -> list[str]:
    """What groups are called: by recipe, or by run without its seed where recipes are the same."""
    recipes = [name_of(g[0]) for g in groups]
    runs = [re.sub(rf"-seed{seed_of(g[0])}\b", "", g[0].name) for g in groups]
    return [r if recipes.count(r) == 1 else own for r, own in zip(recipes, runs, strict=True)]


def name_of(r: Result) -> str:
    """What its recipe is called, else the result."""
    table = r.recipe.get("recipe")
    return str(table.get("name", r.name)) if isinstance(table, dict) else r.name
