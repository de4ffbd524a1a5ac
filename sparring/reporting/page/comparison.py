"""Gather what the page shows of several results: their order, table, chart and remarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...results.intervals import Interval
from ...results.levels import (
    CLEAN,
    Level,
    Levels,
    comparable_groups,
    defence,
    group_headline,
    robust_at,
    row_at,
    tied_with_best,
)
from ...results.result import Result
from .. import charts, format
from . import answer

MOST_ROWS = 40  # of a chart
MOST_NAMES = 4  # of a sentence


class Group(NamedTuple):
    """Hold results measured alike, the levels of their headline, and the names of the best."""

    results: list[Result]
    levels: Levels
    best: set[str]


def groups(results: Sequence[Result], at: float | None) -> list[Group]:
    """Return groups of two or more results that were measured alike."""
    alike = [group for group in comparable_groups(results) if len(group) > 1]
    headlines = [group_headline(group, at) for group in alike]
    return [
        Group(group, levels, tied_with_best(group, levels))
        for group, levels in zip(alike, headlines, strict=True)
    ]


def summary(results: Sequence[Result], alike: Sequence[Group]) -> dict[str, Any]:
    """Return heads and rows of the comparison, in the order of the results.

    In each column, among results measured alike, the best and all not told apart from it are
    marked.
    """
    radii = [Level(*key) for key in format.all_radii(results)]
    norms = format.threat_names(results)
    heads = ["clean", *(_head(level, norms) for level in radii)]
    best = [tied_with_best(results, CLEAN), *(_best_at(results, level, alike) for level in radii)]
    worst = len(norms) > 1
    rows = []
    for r in results:
        shares = [r.clean, *(row and row.robust for row in (row_at(r, v) for v in radii))]
        cells = [
            _cell(r, share, level, r.name in names)
            for share, level, names in zip(shares, [None, *radii], best, strict=True)
        ]
        if worst:
            cells.append(_cell(r, r.robust, None, False, upper=bool(r.early)))
        rows.append(
            {
                "result": r,
                "measurement": answer.measurement(r),
                "defence": defence(r),
                "cells": cells,
                "minutes": format.train_minutes(r),
            }
        )
    heads += ["worst case"] if worst else []
    return {"heads": heads, "rows": rows}


def _best_at(results: Sequence[Result], level: Level, alike: Sequence[Group]) -> set[str]:
    """Return the best of each group at a level; what its headline has shown is not tested again."""
    known = [group for group in alike if list(group.levels.values()) == [level]]
    names = {r.name for group in known for r in group.results}
    others = [r for r in results if r.name not in names]
    return set().union(*(group.best for group in known), tied_with_best(others, level))


def _head(level: Level, norms: Sequence[str]) -> str:
    return str(level if len(norms) > 1 else Level("", level.eps)) or "robust"


def _cell(
    r: Result, share: Interval | None, level: Level | None, best: bool, *, upper: bool = False
) -> dict[str, Any] | None:
    """Return a cell: an accuracy, its interval, and a line below; None if it was not measured."""
    if share is None:
        return None
    row = row_at(r, level) if level else None
    upper = upper or bool(row and format.num_skipped(row))
    value, _, span = format.percent(share).partition(" ")
    below = format.certified_text(row, r.n) if row else ""
    rows = [row] if row else format.largest_radii(r).values() if level is None else []
    open_end = format.bound_text(one.sampled for one in rows).strip()
    below = ", ".join(filter(None, (open_end, below)))
    return {"text": "≤ " * upper + value, "span": span, "below": below, "best": best}


def answer_of(group: Group, *, alone: bool) -> str:
    """Return which result of a group is best, and which are not told apart from it.

    Arguments:
        alone: there is no other group, whose suite may be another.
    """
    at, first = answer.at(group.levels), group.results[0]
    of = f"{first.n} samples of {first.dataset} {first.split}"
    of += "" if alone else f", suite {first.suite}"
    leading = [r for r in group.results if r.name in group.best]
    if not leading:
        return f"No result has a robust accuracy to rank {at} ({of})."
    top = max(leading, key=lambda r: _accuracy(r, group.levels))
    share = robust_at(top, group.levels)
    assert share is not None
    reached = answer.share_text(share) + format.open_end(top, group.levels)
    text = f"{top.name} withstands most {at}: {reached} ({of})."
    others = [r.name for r in leading if r is not top]
    if not others:
        return f"{text} All others are behind it beyond chance."
    if len(leading) == len(group.results):
        return f"{text} No other is told apart from it."
    names = ", ".join(others[:MOST_NAMES])
    names += f" and {len(others) - MOST_NAMES} more" if len(others) > MOST_NAMES else ""
    return f"{text} {names} {'is' if len(others) == 1 else 'are'} not told apart from it."


def _accuracy(r: Result, levels: Levels) -> float:
    share = robust_at(r, levels)
    return share.accuracy if share else -1.0


def forest(group: Group, *, alone: bool) -> str:
    """Return a forest plot of a group, best first, at its headline."""
    at, rows = answer.at(group.levels), []
    for r in group.results[:MOST_ROWS]:
        if share := robust_at(r, group.levels):
            bounded = answer.is_early(r, group.levels) or format.open_end(r, group.levels)
            row = charts.ForestRow(
                r.name,
                100 * share.accuracy,
                100 * share.low,
                100 * share.high,
                mark="" if format.is_trusted(r) else "†",
                prefix="≤ " if bounded else "",
                reference=100 * r.clean.accuracy,
                bold=r.name in group.best,
            )
            rows.append(row)
    suite = "" if alone else f", suite {group.results[0].suite}"
    axis = f"robust {at}, %"
    return charts.forest(rows, title=f"Robust accuracy {at}{suite}", axis=axis)


def notes(results: Sequence[Result]) -> list[str]:
    """Return what keeps results from being compared directly."""
    remarks = []
    for key, values in {
        "data": {f"{r.dataset} {r.split}" for r in results},
        "numbers of samples": {str(r.n) for r in results},
        "suites": {f"{r.suite} v{r.suite_version}" for r in results},
        "threats": {" and ".join(format.threat_names([r])) for r in results},
    }.items():
        if len(values) > 1:
            different = f"different {key} ({', '.join(sorted(values))})"
            remarks.append(f"The results are of {different}: they can't be compared directly.")
    return remarks
