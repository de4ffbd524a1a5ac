"""The radius of a comparison, the order of results, and who is not told apart from the best."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sparring.results import levels
from sparring.results.intervals import wilson
from sparring.results.levels import CLEAN, Level
from sparring.results.result import AttackRow, EpsRow, Result
from sparring.results.seeds import difference
from tests.results.made import N, result

AT, FAR = Level("Linf", 0.1), Level("Linf", 0.2)


def broken(name: str, count: int, **changes: Any) -> Result:
    return result(name, list(range(10, 10 + count)), **changes)


def trained(eps: float, norm: str = "Linf") -> dict[str, Any]:
    return {"threat": {"name": norm, "eps": eps}}


def test_the_headline_is_the_recipes_own_radius_else_where_half_is_robust() -> None:
    weak = broken("a", 85)  # 52.5 % at 0.1, 10 % at 0.2
    assert levels.headline([weak]) == {"Linf": AT}
    assert levels.headline([weak, broken("b", 85, recipe=trained(0.2))]) == {"Linf": FAR}
    assert levels.headline([broken("b", 85, recipe=trained(0.2, "L2"))]) == {"Linf": AT}
    assert levels.headline([broken("b", 85, recipe=trained(0.3))]) == {"Linf": AT}
    for odd in ([], "0.2", {"a": 1}):
        assert levels.headline([broken("b", 85, recipe=trained(odd))]) == {"Linf": AT}  # type: ignore[arg-type]
    assert levels.headline([weak], at=0.2) == {"Linf": FAR}
    with pytest.raises(
        ValueError, match=r"at = 0.3 .*must be measured: Linf eps 0.1, Linf eps 0.2"
    ):
        levels.headline([weak], at=0.3)


def test_a_radius_that_few_measured_is_no_headline() -> None:
    lone = broken("a", 85)
    lone.by_eps.pop(0)
    results = [lone, broken("b", 85)]
    assert levels.headline(results) == {"Linf": FAR}
    assert levels.row_at(lone, AT) is None
    assert levels.accuracy_at(lone, AT) is None
    assert levels.accuracy_at(lone, CLEAN) is lone.clean


def norms(name: str, at_l2: int) -> Result:
    made = broken(name, 20)
    row = EpsRow(0.5, wilson(at_l2, N), at_l2, [], "L2")
    return dataclasses.replace(made, by_eps=[made.by_eps[0], row])


def test_each_norm_has_its_headline_and_the_worst_of_both_is_compared() -> None:
    results = [norms("a", 60), norms("b", 40)]
    found = levels.headline(results)
    assert found == {"Linf": AT, "L2": Level("L2", 0.5)}
    assert levels.headline(results, at=0.5) == found
    worst = [levels.robust_at(r, found) for r in results]
    assert [w and w.accuracy for w in worst] == [0.6, 0.4]
    assert [r.name for r in levels.ranked(results[::-1])] == ["a", "b"]


def test_results_are_ranked_best_first_among_those_measured_alike() -> None:
    results = [
        *(broken("weak", 60), broken("lone", 5, suite="pgd"), broken("best", 10)),
        *(broken("even", 60), broken("second", 20)),
    ]
    found = [r.name for r in levels.ranked(results)]
    assert found == ["best", "second", "weak", "even", "lone"]
    assert [r.name for r in levels.ranked(results, at=0.2)] == found


def test_the_best_and_all_that_are_not_told_apart() -> None:
    results = [broken("best", 10), broken("near", 13), broken("far", 60)]
    assert levels.tied_with_best(results, FAR) == {"best", "near"}
    assert levels.tied_with_best(results, CLEAN) == {"best", "near", "far"}
    assert levels.tied_with_best(results[:1], FAR) == set()
    assert levels.tied_with_best(results, Level("L2", 1)) == set()
    elsewhere = [dataclasses.replace(r, arrays={}) for r in results]
    assert levels.tied_with_best(elsewhere, FAR) == {"best", "near"}
    results[0].verdict = "not sound"
    assert levels.tied_with_best(results, FAR) == {"near"}
    every = list(range(5, 100))
    assert levels.tied_with_best([result("a", every), result("b", every)], FAR) == set()


def test_repeated_recipes_are_told_apart_by_their_seeds() -> None:
    def seeds(name: str, *counts: int) -> list[Result]:
        recipe = {"method": {"name": name}}
        return [
            broken(f"{name}{k}", many, recipe=recipe | {"recipe": {"name": name, "seed": k}})
            for k, many in enumerate(counts)
        ]

    spread, near, far = seeds("a", 25, 30), seeds("b", 28, 30), seeds("c", 60, 61)
    assert levels.tied_with_best(spread + near + far, FAR) == {"a0", "a1", "b0", "b1"}
    # Welch's interval of c and b has 0, but each of b is above each of c by more than chance
    wide = seeds("c", 45, 85)
    _, low, high = difference(near, wide, levels={"Linf": FAR})
    assert low < 0 < high
    assert levels.tied_with_best(near + wide, FAR) == {"b0", "b1"}
    assert levels.tied_with_best(near + seeds("c", 29, 85), FAR) == {"b0", "b1", "c0", "c1"}
    lone = broken("lone", 26, recipe={"recipe": {"name": "lone", "seed": 0}})
    assert levels.tied_with_best([*near, lone], FAR) == {"b0", "b1", "lone"}


PLAIN = {"method": {"name": "Standard"}, "risk": {"name": "Mean", "multiplier": 1.0}}


@pytest.mark.parametrize(
    ("recipe", "defence"),
    [
        ({}, ""),
        (PLAIN, "undefended"),
        (PLAIN | {"attack": {"name": "PGD"}}, ""),
        (PLAIN | {"method": {"name": "JR", "jac": 0.1}}, ""),
        (PLAIN | {"risk": {"name": "KL"}}, ""),
        (PLAIN | {"model": {"name": "monotone"}}, ""),
        (PLAIN | {"model": {"name": "monotone", "benign": 10}}, "undefended"),
        (PLAIN | {"method": "odd", "risk": [1]}, ""),
    ],
)
def test_a_model_without_a_defence_reads_as_such(recipe: dict[str, Any], defence: str) -> None:
    made = broken("a", 20, recipe=recipe)
    assert levels.defence(made) == "not attacked"
    attack = AttackRow("PGD-20", 0.5, 0.4, 0.6, 1.0, 1.0, 1.0)
    attacked = [dataclasses.replace(row, attacks=[attack]) for row in made.by_eps]
    assert levels.defence(dataclasses.replace(made, by_eps=attacked)) == defence
    clean = [dataclasses.replace(attacked[0], eps=0.0)]
    assert levels.defence(dataclasses.replace(made, by_eps=clean)) == "not attacked"
