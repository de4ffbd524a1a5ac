"""Bad values for a leaf of a table, and tables with one of them in."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

ESCAPES = ["\x1b[31mred", "\x1b]0;title\x07", "a\nb", "\u202eabc", "\x00", "\r", "[bold]x[/]"]
# Paths stay inside the test's folder: a fault that the tests are to find may write to them.
NAMES = ["", " ", "../up", "x" * 5000, "a/b", "..", ".", "-x", "Ω" * 101, *ESCAPES]
NUMBERS = [float("nan"), -(10**30), 10**400, "abc", "1/0", "", "0x10", datetime.date(2020, 1, 1)]
OTHERS: list[Any] = [[], {}, [[]], [None], {"a": {"b": 1}}]


def bad_for(value: Any) -> list[Any]:
    """Return values that are bad where `value` is good, by its type."""
    if isinstance(value, bool):
        return ["yes", "true", 2, 1.5, -1, *OTHERS]
    if isinstance(value, int):
        return [True, "3", 2.5, -1, float("inf"), *NUMBERS, *OTHERS]
    if isinstance(value, float):
        return [True, *NUMBERS, *OTHERS]
    if isinstance(value, str):
        return [3, True, 1.5, *NAMES, *OTHERS]
    if isinstance(value, list):
        return ["x", True, {"a": 1}, [[[]]], [{}], [float("nan")], ["\x1b[31m"]]
    return ["x", 3, True, [1], {"no such key": 1}, {"\x1b[31m": 1}, {"x" * 5000: 1}]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the path and value of every entry of nested tables and lists, inner ones too."""
    if path:
        yield path, value
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))


def replaced(tables: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of nested tables with one value replaced."""
    out = copy.deepcopy(tables)
    above = out
    for key in path[:-1]:
        above = above[key]
    above[path[-1]] = value
    return out


@st.composite
def one_bad_value(draw: st.DrawFn, tables: Any) -> tuple[str, Any, Any]:
    """Draw a dotted path, a bad value, and the tables with it at that path."""
    path, value = draw(st.sampled_from(list(leaves(tables))))
    bad = draw(st.sampled_from(bad_for(value)))
    return ".".join(map(str, path)), bad, replaced(tables, path, bad)
