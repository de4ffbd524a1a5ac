"""Recipes with one bad value, drawn from every entry of the shipped ones, are refused in words."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.config.recipe import load_recipe, names
from tests.fuzz.bad_values import one_bad_value
from tests.fuzz.harness import fault

RECIPES = names()
# Bad by their look and good by their meaning; each with the reason.
ACCEPTED: list[tuple[str, Any, str]] = [
    (r"recipe\.paper|recipe\.name", str, "any plain name is a name"),
    (r"data\.name|data\.root", str, "a path is looked up when the data are read, not before"),
]


def argued(path: str, bad: Any) -> bool:
    """Return whether a value that looks bad is argued to be good."""
    return any(re.fullmatch(p, path) and _equal(bad, value) for p, value, _ in ACCEPTED)


def _equal(bad: Any, value: Any) -> bool:
    if isinstance(value, type):
        return type(bad) is value
    both_nan = isinstance(bad, float) and isinstance(value, float) and math.isnan(bad * value)
    return both_nan or (type(bad) is type(value) and bad == value)


def check(data: st.DataObject) -> None:
    """Draw a recipe and a bad value; loading it must raise one sentence."""
    name = data.draw(st.sampled_from(RECIPES))
    path, bad, tables = data.draw(one_bad_value(load_recipe(name).tables))
    wrong = fault(lambda: load_recipe(tables), lines=3)
    assert wrong is None or argued(path, bad), f"{name}: {path} = {str(bad)[:80]!r} {wrong}"


@given(data=st.data())
@settings(max_examples=60)
def test_a_bad_value_in_a_recipe_is_refused(data):
    check(data)


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=800)
def test_many_bad_values_in_recipes_are_refused(data):
    check(data)
