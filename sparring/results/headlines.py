"""Choose the radius at which results are compared, and read them there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from ..runtime.fractions import format_number
from ..runtime.text import printable
from .intervals import Interval, wilson
from .result import EpsRow, Result, correct_key


class Level(NamedTuple):
    """Name a threat's norm and a radius; eps is None where the threat has no radius."""

    threat: str
    eps: float | None

    def __str__(self) -> str:
        eps = "" if self.eps is None else f"eps {format_number(self.eps)}"
        return " ".join(filter(None, (self.threat, eps)))


CLEAN = Level("", 0.0)
Levels = Mapping[str, Level]  # by norm


def level_of(result: Result, row: EpsRow) -> Level:
    """Return norm and radius of a row; default of the norm: the result's threat."""
    return Level(row.threat or str(result.threat.get("name", "")), row.eps)


def row_at(result: Result, level: Level) -> EpsRow | None:
    """Return the row of a norm and radius, None if it was not attacked."""
    rows = (row for row in result.by_eps if level_of(result, row) == level)
    return next(rows, None)


def headline(results: Sequence[Result], at: float | None = None) -> dict[str, Level]:
    """Return the radius of each norm at which to compare results.

    It is the eps of the recipes' own threat if no other radius was measured by more results, else
    the radius where the mean robust accuracy is nearest to 50 %: there models differ most.

    Arguments:
        at: this radius instead, for the norms that measured it.

    Raises:
        ValueError: if no result has the radius `at`; it names those that were measured.
    """
    levels: dict[str, Level] = {}
    measured = {level_of(r, row): None for r in results for row in r.by_eps}
    if at is not None and not any(level.eps == at for level in measured):
        known = ", ".join(dict.fromkeys(str(level) for level in measured))
        requested = format_number(at)
        raise ValueError(
            f"at = {requested} is not allowed: it must be measured: {printable(known)}"
        )
    for threat in dict.fromkeys(level.threat for level in measured):
        levels[threat] = _headline([level for level in measured if level.threat == threat], results)
        if Level(threat, at) in measured:
            levels[threat] = Level(threat, at)
    return levels


def group_headline(results: Sequence[Result], at: float | None = None) -> dict[str, Level]:
    """Return the headline of some results of many, where others may have measured `at`."""
    measured = any(row.eps == at for r in results for row in r.by_eps)
    return headline(results, at if measured else None)


def _headline(levels: Sequence[Level], results: Sequence[Result]) -> Level:
    """Return the headline of one norm's levels."""
    rows = {level: [row for r in results if (row := row_at(r, level))] for level in levels}
    most = max(map(len, rows.values()))
    shared = [level for level in levels if len(rows[level]) == most]
    trained = {trained_eps(r, shared[0].threat) for r in results} - {None}
    candidates = [level for level in shared if level.eps in trained] or shared

    def distance(level: Level) -> float:
        return abs(fmean(row.robust.accuracy for row in rows[level]) - 0.5)

    # Of equal distances the first, as the radii rise.
    return min(candidates, key=distance)


def trained_eps(result: Result, threat: str) -> float | None:
    """Return the radius that the recipe trains against, if it is of this norm."""
    table = result.recipe.get("threat")
    if not isinstance(table, Mapping) or table.get("name") != threat:
        return None
    eps = table.get("eps")
    return eps if isinstance(eps, int | float) else None


def accuracy_at(result: Result, level: Level) -> Interval | None:
    """Return robust accuracy at a level, clean accuracy at `CLEAN`; None if it was not measured."""
    row = row_at(result, level)
    return result.clean if level == CLEAN else row and row.robust


def robust_at(result: Result, levels: Levels) -> Interval | None:
    """Return the worst case over norms, each at its level; None if one was not attacked.

    Over several norms it is counted per sample; without arrays, it is the lowest of them.
    """
    rows = {level: row_at(result, level) for level in levels.values()}
    shares = [row.robust for row in rows.values() if row is not None]
    if not shares or len(shares) < len(rows):
        return None
    keys = [correct_key(level.eps, level.threat) for level in rows]
    if len(rows) > 1 and all(key in result.arrays for key in keys):
        robust = np.logical_and.reduce([result.arrays[key] for key in keys])
        return wilson(int(robust.sum()), result.n)
    return min(shares, key=lambda share: share.accuracy)


def comparable_groups(results: Iterable[Result]) -> list[list[Result]]:
    """Return groups of results that share data, split, number of samples, suite and norms."""
    groups: dict[tuple[object, ...], list[Result]] = {}
    for r in results:
        norms = dict.fromkeys(level_of(r, row).threat for row in r.by_eps)
        key = (r.dataset, r.split, r.n, r.suite, r.suite_version, *norms)
        groups.setdefault(key, []).append(r)
    return list(groups.values())
