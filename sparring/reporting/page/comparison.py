"""Gather what the page shows of several results: their order, table, chart and remarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...results.intervals import Interval
from ...results.levels import (
    CLEAN,
    Level,
    Levels,
    comparable_groups,
    defence,
    group_headline,
    not_told_apart,
    robust_at,
    row_at,
)
from ...results.result import Result
from .. import charts, format
from . import answer

MOST_ROWS = 40  # of a chart
MOST_NAMES = 4  # of a sentence


def summary(results: Sequence[Result], at: float | None) -> dict[str, Any]:
    """Return heads and rows of the comparison, in the order of the results.

    In each column, among results measured alike, the best and all not told apart from it are
    marked.
    """
    radii = [Level(*key) for key in format.all_radii(results)]
    norms = format.threat_names(results)
    heads = ["clean", *(_head(level, norms) for level in radii)]
    best = [not_told_apart(results, CLEAN), *(not_told_apart(results, level) for level in radii)]
    main = {level for group in comparable_groups(results) for level in _levels(group, at).values()}
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
    return {"heads": heads, "rows": rows, "main": [False, *(v in main for v in radii), False]}


def _head(level: Level, norms: Sequence[str]) -> str:
    return str(level if len(norms) > 1 else Level("", level.eps)) or "robust"


def _levels(group: Sequence[Result], at: float | None) -> Levels:
    return group_headline(group, at)


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
    return {"text": "≤ " * upper + value, "span": span, "below": below, "best": best}


def answers(results: Sequence[Result], at: float | None) -> list[str]:
    """Return a sentence per group measured alike: its best result, and which equal it."""
    groups = [group for group in comparable_groups(results) if len(group) > 1]
    return [text for group in groups if (text := _group_answer(group, at, len(groups) > 1))]


def _group_answer(group: Sequence[Result], at: float | None, several: bool) -> str:
    levels = _levels(group, at)
    where, first = answer.where(levels), group[0]
    of = f"{first.n} samples of {first.dataset} {first.split}"
    if several:
        of += f", suite {first.suite}"
    best = not_told_apart(group, levels)
    leading = [r for r in group if r.name in best]
    if not leading:
        return f"At {where}, no result has a robust accuracy to rank ({of})."
    top = max(leading, key=lambda r: _accuracy(r, levels))
    share = robust_at(top, levels)
    assert share is not None
    text = f"{top.name} withstands most at {where}: {answer.share_text(share)} ({of})."
    others = [r.name for r in leading if r is not top]
    if not others:
        return f"{text} All others are behind it beyond chance."
    names = ", ".join(others[:MOST_NAMES])
    names += f" and {len(others) - MOST_NAMES} more" if len(others) > MOST_NAMES else ""
    verb = "is" if len(others) == 1 else "are"
    return f"{text} {names} {verb} not told apart from it."


def _accuracy(r: Result, levels: Levels) -> float:
    share = robust_at(r, levels)
    return share.accuracy if share else -1.0


def forests(results: Sequence[Result], at: float | None) -> list[str]:
    """Return a forest plot per group measured alike, best first, at its headline."""
    groups = [group for group in comparable_groups(results) if len(group) > 1]
    return [_forest(group, at, len(groups) > 1) for group in groups]


def _forest(group: Sequence[Result], at: float | None, several: bool) -> str:
    levels = _levels(group, at)
    best, where = not_told_apart(group, levels), answer.where(levels)
    rows = []
    for r in group[:MOST_ROWS]:
        if share := robust_at(r, levels):
            rows.append(
                charts.ForestRow(
                    r.name,
                    *(100 * v for v in (share.accuracy, share.low, share.high)),
                    mark="" if format.is_trusted(r) else "†",
                    prefix="≤ " * answer.is_early(r, levels),
                    reference=100 * r.clean.accuracy,
                    bold=r.name in best,
                )
            )
    suite = f", suite {group[0].suite}" if several else ""
    title = f"Robust accuracy at {where}{suite}"
    return charts.forest(rows, title=title, axis=f"robust at {where}, %")


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
