"""Threats at their radii: order, names of norms, and what is refused before anything runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sparring.attacks import PGD
from sparring.evaluation import Suite, evaluate
from sparring.evaluation.radii import norm_names, threats_at_radii
from sparring.results import Result
from sparring.threats import L0, L2, Bits, Box, Linf, Only, Rounded

TEN = Suite("ten", 1, (("PGD", lambda t: PGD(t, steps=10)),))


def run(problem, threat, **kw):
    data = (problem.x, problem.y)
    return evaluate(problem.model, data, threat, TEN, batch_size=20, progress=False, **kw)


def radii(threat, eps=None):
    return [(type(t).__name__, e) for e, t in threats_at_radii(threat, eps, None)]


WRAPPERS = {
    "Rounded": lambda ball: Rounded(ball, levels=10_000),
    "Only": lambda ball: Only(ball, classes=[0]),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_of_several_norms_all_count_in_the_worst_case(problem, tmp_path, name):
    """Linf 0.1 holds L2 0.1: a result of the last wrapper alone is far too high."""
    wrap = WRAPPERS[name]
    both = [wrap(Linf(0.1)), wrap(L2(0.1))]
    result = run(problem, both, keep="all", out=tmp_path / "r.json")
    names = [f"{name}-Linf", f"{name}-L2"]
    assert [(row.threat, row.eps) for row in result.by_eps] == [(n, 0.1) for n in names]
    linf, l2 = (result.arrays[f"correct_{n}_0.1"] for n in names)
    assert 0 < linf.sum() < l2.sum()
    assert result.robust.accuracy == pytest.approx((linf & l2).mean())
    assert (result.arrays["adv_pred"] == result.arrays["y"]).sum() == (linf & l2).sum()
    assert set(result.arrays["x_adv_norm"]) == {-1, 0}  # the samples that are wrong have none
    again = Result.load(tmp_path / "r.json")
    assert again == result
    np.testing.assert_array_equal(again.arrays[f"correct_{names[0]}_0.1"], linf)
    (alone,) = run(problem, both[0]).by_eps
    assert (alone.threat, alone.robust) == (name, result.by_eps[0].robust)


def test_radii_of_a_norm_rise_whatever_their_order(problem, same):
    rising = [Linf(0.02), Linf(0.1), L2(0.1)]
    result = run(problem, [rising[1], rising[2], rising[0]])
    same(result, run(problem, rising))
    robust = problem.robust("Linf", 0.1) & problem.robust("L2", 0.1)
    assert result.robust.accuracy == pytest.approx(robust.float().mean().item())
    assert not any(check.fired for check in result.checks)


def test_the_infinite_radius_comes_last():
    assert radii([Bits(), Bits(3), Linf(0.1)]) == [("Bits", 3.0), ("Bits", None), ("Linf", 0.1)]


@pytest.mark.parametrize(
    ("threats", "names"),
    [
        ([Rounded(Linf(0.1)), Rounded(Linf(0.2))], ["Rounded", "Rounded"]),
        ([Only(Rounded(L2(1)), classes=[0]), L2(1)], ["Only", "L2"]),
        (
            [Only(Rounded(L2(1)), classes=[0]), Only(Linf(0.1), classes=[0])],
            ["Only-Rounded-L2", "Only-Linf"],
        ),
    ],
)
def test_a_norm_has_a_longer_name_only_where_the_class_says_too_little(threats, names):
    assert norm_names(threats) == names


@pytest.mark.parametrize(
    "threats",
    [
        [Only(Linf(0.1), classes=[0]), Only(Linf(0.1), classes=[1])],
        [Only(Linf(0.1), classes=[0]), Only(Linf(0.2), classes=[1])],
        [Rounded(Linf(0.1)), Rounded(Linf(0.2), levels=15)],
        [Linf(0.1), Linf(0.2, low=-1.0)],
        [Bits(3), Bits(5, mutable=[0, 1, 1])],
        [Box(), Box(lower=torch.zeros(3))],
    ],
    ids=str,
)
def test_sets_of_one_name_that_differ_are_evaluated_one_by_one(threats):
    with pytest.raises(ValueError, match="evaluated one by one: all are called"):
        threats_at_radii(threats, None, None)


def test_threats_of_different_bounds_are_evaluated_one_by_one():
    with pytest.raises(ValueError, match=r"bounds = .*-1\.0, 2\.0.*0\.0, 1\.0.* one by one"):
        radii([L2(0.3), Linf(0.1, low=-1, high=2)])


def test_where_a_search_starts_makes_no_other_set():
    assert radii([Linf(0.2, init="zero"), Linf(0.1)]) == [("Linf", 0.1), ("Linf", 0.2)]


@pytest.mark.parametrize(
    ("threat", "message"),
    [
        ({"Linf": 0.1, "inf": 0.1}, "each another norm"),
        ({"Linf": 0.1, math.inf: 0.2}, "each another norm"),
        ({"L2": 0.1, 2: 0.2}, "each another norm"),
        ([Linf(0.1), Linf(0.1)], "each another norm"),
        ([Rounded(Linf(2.1 / 255)), Rounded(Linf(2.9 / 255))], "each another norm"),
        ([Linf(0.3), Linf(0.1 + 0.2)], "each another norm"),  # a result writes them alike
        ({}, "one or more threats"),
    ],
)
def test_a_norm_given_twice_is_refused(threat, message):
    with pytest.raises(ValueError, match=message):
        threats_at_radii(threat, None, None)


@pytest.mark.parametrize(
    ("threat", "eps", "message"),
    [
        (L0(3), [2.5], "eps = 2.5 .* a whole number of locations"),
        (Rounded(L0(3)), [2.5], "eps = 2.5 .* a whole number of locations"),
        (Only(L0(3), classes=[0]), [2, 2.5], "eps = 2.5 .* a whole number of locations"),
        (Bits(3), [2.5], r"eps = \[2.5\] .* whole numbers of flips"),
        (Only(Bits(3), classes=[0]), [2.5], r"eps = \[2.5\] .* whole numbers of flips"),
        (Linf(0.1), [8], r"eps = 8.0 .* at most 1, the width of the box in Linf \(8/255\?\)"),
    ],
)
def test_a_threat_takes_the_radii_that_its_constructor_takes(threat, eps, message):
    with pytest.raises(ValueError, match=message):
        threats_at_radii(threat, eps, None)
    assert radii(threat) == [(type(threat).__name__, threat.eps)]


def test_radii_that_are_one_to_the_threat_or_the_result_are_one_row(problem):
    result = run(problem, Rounded(Linf(0.1)), eps=[2.1 / 255, 2.9 / 255, 3 / 255])
    assert [row.eps for row in result.by_eps] == [2 / 255, 3 / 255]
    assert radii("Linf", [0.1 + 0.2, 0.3, 0.4]) == [("Linf", 0.3), ("Linf", 0.4)]
