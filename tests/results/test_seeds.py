"""Recipes over seeds against numbers worked by hand and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparring.results import seeds as s
from sparring.results.result import Result
from tests.results.made import result


def test_seeds_by_hand() -> None:
    values = [list(range(10, 10 + k)) for k in (10, 12, 14)]  # accuracies .85, .83, .81
    found = s.spread([result(str(k), rows) for k, rows in enumerate(values)])
    assert found.count == 3
    assert found.mean == pytest.approx(0.83)
    assert found.std == pytest.approx(0.02)
    half = 4.302653 * 0.02 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.83 - half, 0.83 + half))
    assert s.spread([result("a", [10]), result("b", [11])], clean=True).std == 0
    with pytest.raises(ValueError, match="two seeds or more"):
        s.spread([result("a", [10])])


def test_runs_of_one_recipe_are_found() -> None:
    def run(name: str, seed: int, eps: float = 0.2) -> Result:
        recipe = {"recipe": {"name": "toy", "seed": seed}, "attack": {"seed": seed, "eps": eps}}
        return result(name, [10], recipe=recipe)

    groups = s.repeated_recipes([run("a", 0), run("b", 1), run("c", 0, 0.1), result("d", [10])])
    assert [[r.name for r in g] for g in groups] == [["a", "b"]]
    assert s.repeated_recipes([run("a", 0), run("b", 0)]) == []


def of(*broken: int) -> list[Result]:
    """Seeds of a recipe of which so many of 100 samples are broken."""
    return [result(str(k), list(range(10, 10 + many))) for k, many in enumerate(broken)]


def test_a_difference_of_recipes_by_hand() -> None:
    # .85 .83 .81 and .80 .76: means .83 .78; s² 4e-4/3 + 8e-4/2; Welch's df 1.6, so 1
    found = s.difference(of(10, 12, 14), of(15, 19))
    half = 12.706205 * math.sqrt(4e-4 / 3 + 8e-4 / 2)
    assert found.difference == pytest.approx(0.05)
    assert (found.low, found.high) == pytest.approx((0.05 - half, 0.05 + half))
    turned = s.difference(of(15, 19), of(10, 12, 14))
    assert tuple(turned) == pytest.approx((-found.difference, -found.high, -found.low))
    # equal spreads and numbers: 2(n − 1) degrees of freedom
    even = s.difference(of(10, 12, 14), of(20, 22, 24))
    assert even.high - 0.1 == pytest.approx(2.776445 * math.sqrt(2 * 4e-4 / 3))
    assert tuple(s.difference(of(10, 10), of(12, 12))) == pytest.approx((0.02, 0.02, 0.02))
    assert s.difference(of(10, 12), of(15, 19), clean=True).difference == 0
    with pytest.raises(ValueError, match="two seeds or more"):
        s.difference(of(10, 12), of(15))


@pytest.mark.slow
def test_a_difference_of_recipes_covers() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        one, two = rng.normal(40, 1, 3).round(), rng.normal(30, 5, 4).round()
        found = s.difference(of(*one.astype(int)), of(*two.astype(int)))
        held += found.low <= -0.1 <= found.high
    assert held >= 0.93 * 300
