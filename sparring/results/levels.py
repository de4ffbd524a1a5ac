"""Rank results at the radius where they are compared, and say which are not told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from . import seeds
from .comparison import compare_at
from .defences import defence
from .differences import unpaired_interval
from .headlines import (
    CLEAN,
    Level,
    Levels,
    accuracy_at,
    comparable_groups,
    group_headline,
    headline,
    level_of,
    robust_at,
    row_at,
)
from .result import Result
from .verdicts import NOT_SOUND

__all__ = [
    "CLEAN",
    "Level",
    "Levels",
    "accuracy_at",
    "comparable_groups",
    "defence",
    "group_headline",
    "headline",
    "is_conclusive",
    "level_of",
    "ranked",
    "robust_at",
    "row_at",
    "tied_with_best",
]


def ranked(results: Sequence[Result], at: float | None = None) -> list[Result]:
    """Return results in groups measured alike, each by robust accuracy at its headline, best first.

    Results that were not measured there come last; equal ones keep their order.
    """

    def order(group: Sequence[Result]) -> list[Result]:
        levels = group_headline(group, at)
        shares = {id(r): robust_at(r, levels) for r in group}
        return sorted(group, key=lambda r: -(s.accuracy if (s := shares[id(r)]) else -math.inf))

    return [r for group in comparable_groups(results) for r in order(group)]


def is_conclusive(result: Result) -> bool:
    """Return whether a measurement may be the best: it is not refuted, and ran to its end."""
    return result.verdict != NOT_SOUND and not result.early


def tied_with_best(results: Sequence[Result], level: Level | Levels) -> set[str]:
    """Return the names of the best results, and of all that are not told apart from them.

    Among results measured alike: by the samples that one alone gets right, by the intervals where
    samples differ, and by the seeds of recipes that were trained several times: over seeds, or
    because each of one recipe is told apart from, and above, each of the other. No result is the
    best at 0 %, or if its measurement is not sound or ended early.

    Arguments:
        level: of one norm, `CLEAN`, or of each norm for the worst case over them.
    """
    levels = {level.threat: level} if isinstance(level, Level) else level
    best: set[str] = set()
    for group in comparable_groups(results):
        if len(group) > 1:
            best |= {r.name for r in _best(group, levels)}
    return best


def _best(results: Sequence[Result], levels: Levels) -> list[Result]:
    shares = {id(r): share.accuracy for r in results if (share := _share(r, levels))}
    recipes = seeds.group_by_recipe([r for r in results if id(r) in shares and is_conclusive(r)])
    means = [sum(shares[id(r)] for r in recipe) / len(recipe) for recipe in recipes]
    if not means or max(means) == 0:
        return []
    first = recipes[means.index(max(means))]
    alike = [one for one in recipes if one is first or not _is_apart(first, one, levels)]
    return [r for recipe in alike for r in recipe]


def _share(result: Result, levels: Levels) -> Any:
    return result.clean if CLEAN in levels.values() else robust_at(result, levels)


def _is_apart(first: Sequence[Result], second: Sequence[Result], levels: Levels) -> bool:
    """Return whether two recipes differ: over seeds, or in every pair of their results.

    Pairs too where both have several seeds, if each of the first is the better one: Welch's
    interval of two or three seeds that lie far apart is so wide that it tells nothing.
    """
    several = min(len(first), len(second)) > 1
    if several:
        d = seeds.difference(first, second, clean=CLEAN in levels.values(), levels=levels)
        if d.low > 0 or d.high < 0:
            return True
    return all(
        _are_apart(one, other, levels) and (not several or _is_above(one, other, levels))
        for one in first
        for other in second
    )


def _is_above(one: Result, other: Result, levels: Levels) -> bool:
    return bool(_share(one, levels).accuracy > _share(other, levels).accuracy)


def _are_apart(first: Result, second: Result, levels: Levels) -> bool:
    if paired := compare_at(first, second, levels):
        return paired.clear
    low, high = unpaired_interval(_share(first, levels), _share(second, levels))
    return low > 0 or high < 0
