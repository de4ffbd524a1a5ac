"""Give a result as plain values: a table of rows for pandas, and nested tables."""

from __future__ import annotations

from typing import Any

from .shown import ShownLevel, ShownResult

WORST, CLEAN = "worst case", "none"


def rows(result: ShownResult) -> list[dict[str, Any]]:
    """Return a row for clean accuracy, and at each radius one per attack and the worst case."""
    clean = _row(result, None, CLEAN, vars(result.clean))
    return [clean, *(row for level in result.by_eps for row in _level_rows(result, level))]


def _level_rows(result: ShownResult, level: ShownLevel) -> list[dict[str, Any]]:
    attacks = [(a.name, vars(a)) for a in level.attacks]
    bound = {"left_open": level.sampled.bound if level.sampled else 0.0}
    every = [*attacks, (WORST, vars(level.robust) | bound)]
    return [_row(result, level, name, numbers) for name, numbers in every]


def _row(
    result: ShownResult, level: ShownLevel | None, attack: str, numbers: dict[str, Any]
) -> dict[str, Any]:
    threat = level.threat or str(result.threat.get("name", "")) if level else ""
    columns = ("accuracy", "low", "high", "attacked", "skipped", "infeasible")
    columns += ("left_open", "seconds", "forwards", "backwards")
    return {
        "name": result.name,
        "dataset": result.dataset,
        "split": result.split,
        "n": result.n,
        "threat": threat,
        "eps": level.eps if level else 0.0,
        "attack": attack,
        **{column: numbers.get(column) for column in columns},
        "suite": result.suite,
        "verdict": result.verdict,
    }


def frame(records: list[dict[str, Any]]) -> Any:
    """Return records as a pandas `DataFrame`.

    Raises:
        ImportError: if pandas is not installed; it says what to type.
    """
    try:
        import pandas
    except ImportError:
        what = "to_frame() needs pandas: pip install pandas. to_dict() needs nothing"
        raise ImportError(what) from None
    return pandas.DataFrame(records)
