"""Recipes with one bad value, drawn from every entry of the shipped ones, are refused in words."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import strategies as st

from sparring.config.recipe import load_recipe, names
from tests.fuzz.bad_values import one_bad_value
from tests.fuzz.damaged_text import damaged, is_shorter_or_changed
from tests.fuzz.harness import ACCEPTED as SILENT
from tests.fuzz.harness import fault, fuzz

RECIPES = names()
# Bad by their look and good by their meaning; each with the reason.
ACCEPTED: list[tuple[str, Any, str]] = [
    (r"recipe\.paper|recipe\.name", str, "any plain name is a name"),
    (r"data\.name|data\.root", str, "a path is looked up when the data are read, not before"),
    (r"data\.mix\.\d+\.labels", str, "a path of pseudo-labels, which another run may write first"),
    (r"method\.reference", str, "a path of a run, which may be trained first"),
    (
        r"method\.sites(\.\d+)?",
        str,
        "a layer's name is looked up in the network, built for the data",
    ),
    (r"method\.sites", list, "names of layers, as above"),
    (r"(.*\.)?seed", -1, "PyTorch takes negative seeds"),
    (r"method\.projections", -1, "the exact norm, in place of random directions"),
    (r"train\.optimizer\.weight_decay", 2.5, "the rate multiplies it: 2.5 · 1e-4 is usual"),
]


def argued(path: str, bad: Any) -> bool:
    """Return whether a value that looks bad is argued to be good."""
    return any(re.fullmatch(p, path) and _equal(bad, value) for p, value, _ in ACCEPTED)


def _equal(bad: Any, value: Any) -> bool:
    if isinstance(value, type):
        return type(bad) is value
    both_nan = isinstance(bad, float) and isinstance(value, float) and math.isnan(bad * value)
    return both_nan or (type(bad) is type(value) and bad == value)


def check_value(data: st.DataObject) -> None:
    """Draw a recipe and a bad value; loading it must raise one sentence."""
    name = data.draw(st.sampled_from(RECIPES))
    path, bad, tables = data.draw(one_bad_value(load_recipe(name).tables))
    wrong = fault(lambda: load_recipe(tables), lines=3)
    good = wrong == SILENT and argued(path, bad)
    assert wrong is None or good, f"{name}: {path} = {str(bad)[:80]!r} {wrong}"


def check_override(data: st.DataObject) -> None:
    """Draw a recipe and a bad `--set`; loading it must raise one sentence."""
    name = data.draw(st.sampled_from(RECIPES))
    path, bad, _ = data.draw(one_bad_value(load_recipe(name).tables))
    form = data.draw(st.sampled_from(["{}={}", "{}", "={1}", "{}.{}=1", "{}..x={}", "{}[0]={}"]))
    try:
        text = tomli_w.dumps({"k": bad}).removeprefix("k = ").rstrip("\n")
    except (ValueError, TypeError, AttributeError):  # None, or an integer of 400 digits
        text = str(type(bad))
    change = form.format(path, text)
    wrong = fault(lambda: load_recipe(name, set=[change]), lines=3)
    good = wrong == SILENT and form == "{}={}" and argued(path, bad)
    assert wrong is None or good, f"{name}: {change[:80]!r} {wrong}"


def check_text(data: st.DataObject, folder: Path) -> None:
    """Damage a recipe's text; loading it must raise one sentence, or take what is left for less."""
    text = load_recipe(data.draw(st.sampled_from(RECIPES))).toml().encode()
    path, bad = folder / "bad.toml", data.draw(damaged(text))
    path.write_bytes(bad)
    wrong = fault(lambda: load_recipe(path), lines=3)
    good = wrong == SILENT and is_shorter_or_changed(bad, text)
    assert wrong is None or good, f"{bad[:200]!r} … {bad[-200:]!r}: {wrong}"


def test_a_bad_value_in_a_recipe_is_refused():
    fuzz("recipe values", check_value)


def test_a_bad_override_is_refused():
    fuzz("recipe overrides", check_override)


def test_a_damaged_recipe_is_refused(tmp_path):
    fuzz("recipe texts", lambda data: check_text(data, tmp_path))


@pytest.mark.slow
def test_many_bad_recipes_are_refused(tmp_path):
    fuzz("recipe values", check_value, slow=True)
    fuzz("recipe overrides", check_override, slow=True)
    fuzz("recipe texts", lambda data: check_text(data, tmp_path), slow=True)
