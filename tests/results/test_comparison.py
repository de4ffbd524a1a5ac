"""Statistics of results against numbers worked by hand, direct sums and simulation."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest

from sparring.results import comparison as c
from sparring.results.intervals import wilson
from tests.results.made import result


def pairs(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, first, second, neither])
    b = np.repeat([True, False, True, False], [both, first, second, neither])
    return a, b


@pytest.mark.parametrize(
    ("first", "second", "p", "mid"),
    [
        (0, 0, 1.0, 1.0),
        (5, 5, 1.0, 1.0),
        (10, 0, 2 / 1024, 1 / 1024),
        (8, 2, 112 / 1024, 67 / 1024),  # 2·(1 + 10 + 45)/1024; less 45/1024
        (2, 8, 112 / 1024, 67 / 1024),
        (3, 2, 1.0, 44 / 64),  # 2·(1 + 5 + 10)/32 = 1; (2·16 − 10)/32
    ],
)
def test_mcnemar_by_hand(first: int, second: int, p: float, mid: float) -> None:
    found = c.mcnemar(*pairs(20, first, second, 7))
    assert (found.first, found.second) == (first, second)
    assert found.p == pytest.approx(p)
    assert found.mid == pytest.approx(mid)


def test_mcnemar_of_thousands_of_pairs_is_the_normal_one() -> None:
    found = c.mcnemar(*pairs(0, 5150, 4850, 0))
    assert found.p == pytest.approx(math.erfc((300 - 1) / 100 / math.sqrt(2)), rel=0.01)
    with pytest.raises(ValueError, match="one per sample"):
        c.mcnemar(np.ones(3), np.ones(4))


def test_paired_interval_by_hand_and_by_symmetry() -> None:
    a, b = pairs(36, 12, 2, 0)
    # φ = (0 − 24)/√(48·2·38·12); Wilson 48/50: .8654, .9890; 38/50: .6259, .8570
    phi = -24 / math.sqrt(48 * 2 * 38 * 12)
    one, two = wilson(48, 50), wilson(38, 50)
    down = (0.96 - one.low, two.high - 0.76)
    want = 0.2 - math.sqrt(down[0] ** 2 - 2 * phi * down[0] * down[1] + down[1] ** 2)
    low, high = c.paired_interval(a, b)
    assert low == pytest.approx(want)
    assert c.paired_interval(b, a) == pytest.approx((-high, -low))
    same = np.arange(10) < 10
    low, high = c.paired_interval(same, same)
    assert low <= 0 <= high


@pytest.mark.slow
def test_paired_interval_covers() -> None:
    rng = np.random.default_rng(0)
    share = np.array([0.5, 0.15, 0.08, 0.27])
    hits = 0
    for _ in range(2000):
        low, high = c.paired_interval(*pairs(*rng.multinomial(200, share)))
        hits += low <= 0.07 <= high
    assert 0.93 <= hits / 2000 <= 0.975


def test_comparison_of_two_results() -> None:
    a, b = result("a", list(range(10, 20))), result("b", list(range(15, 45)))
    found = c.compare(a, b)
    assert (found.first_only, found.second_only) == (25, 5)
    assert found.difference == pytest.approx(0.2)
    assert found.low < 0.2 < found.high
    better = (
        "a is better than b in robust accuracy at Linf eps 0.2, by 20.00 points (95 % interval "
    )
    assert found.sentence().startswith(better)
    turned = c.compare(b, a)
    assert turned.difference == pytest.approx(-0.2)
    assert turned.sentence() == found.sentence()
    assert found.clear
    near = c.compare(a, b, eps=0.1, threat="Linf")
    assert (near.first_only, near.second_only) == (15, 5)
    assert near.where == "robust accuracy at Linf eps 0.1"
    clean = c.compare(a, b, eps=0)
    assert (clean.difference, clean.p) == (0, 1)
    apart = (
        "100 samples do not tell a and b apart in clean accuracy, as both are right on equally many"
    )
    assert clean.sentence() == apart
    assert not clean.clear


def test_an_early_end_is_said() -> None:
    a, b = result("a", [10], early="the budget was spent"), result("b", [11, 12])
    assert c.compare(a, b).upper
    assert "a is ahead of b" in c.compare(a, b).sentence()
    assert "ended early" in c.compare(a, b).sentence()
    assert not c.compare(a, b, eps=0).upper


def test_what_can_not_be_paired_is_refused() -> None:
    a = result("a", [10])
    with pytest.raises(ValueError, match="b has no arrays"):
        c.compare(a, result("b", [10], arrays={}))
    with pytest.raises(ValueError, match="not evaluated on the same samples"):
        c.compare(a, result("b", [10], data_sha256="11"))
    moved = result("b", [10])
    moved.arrays["index"] = moved.arrays["index"] + 1
    with pytest.raises(ValueError, match="not evaluated on the same samples"):
        c.compare(a, moved)
    with pytest.raises(ValueError, match=r"eps = 0.3 is not among the radii of a: Linf 0.1"):
        c.compare(a, a, eps=0.3)
    other = copy.deepcopy(a)
    other.by_eps.pop()
    assert c.compare(a, other).where == "robust accuracy at Linf eps 0.1"
    other.by_eps[0] = dataclasses.replace(other.by_eps[0], eps=0.3)
    with pytest.raises(ValueError, match=r"no radius in common: Linf eps 0.1, Linf eps 0.2; Linf"):
        c.compare(a, other)
    assert c.pairs([a, other, moved]) == []
    assert len(c.pairs([a, result("b", [11]), result("c", [12])])) == 3


def test_pairs_are_compared_where_models_differ_and_never_at_zero() -> None:
    every = list(range(5, 100))
    a, b, lone = result("a", every[:-2]), result("b", every[:-4]), result("lone", [7], suite="pgd")
    (pair,) = c.pairs([a, b, lone])
    assert pair.where == "robust accuracy at Linf eps 0.1"
    (pair,) = c.pairs([a, b, lone], at=0.2)
    assert (pair.where, pair.first_only) == ("robust accuracy at Linf eps 0.2", 0)
    zero, other = result("zero", every), result("other", every)
    assert c.pairs([zero, other], at=0.2) == []
    assert "are wrong on every sample" in c.compare(zero, other, eps=0.2).sentence()
    assert "ahead" not in c.compare(zero, other, eps=0.1).sentence()


def test_many_are_compared_with_the_best_alone() -> None:
    results = [result(str(k), list(range(10, 60 - k))) for k in range(4)]
    assert [(p.first, p.second) for p in c.pairs(results, most=5)] == [(k, "3") for k in "012"]


@pytest.mark.parametrize(("width", "accuracy"), [(0.01, 0.5), (0.02, 0.9), (0.05, 0.0)])
def test_samples_for_a_width_directly(width: float, accuracy: float) -> None:
    def half(n: int) -> float:
        z2 = 1.959963984540054**2
        inside = accuracy * (1 - accuracy) / n + z2 / (4 * n * n)
        return math.sqrt(z2) * math.sqrt(inside) / (1 + z2 / n)

    n = c.samples_needed(width=width, accuracy=accuracy)
    assert half(n) <= width < half(n - 1)
    at = wilson(round(accuracy * n), n)
    assert (at.high - at.low) / 2 == pytest.approx(width, rel=0.02)


def test_samples_for_a_difference_give_the_power() -> None:
    n = c.samples_needed(difference=0.05, discordant=0.15)
    assert n == math.ceil((1.959964 * 0.15**0.5 + 0.841621 * (0.15 - 0.0025) ** 0.5) ** 2 / 0.0025)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(n, [0.6, 0.1, 0.05, 0.25], size=1000)
    known = {tuple(d[1:3]): c.mcnemar(*pairs(*d)).mid < 0.05 for d in drawn}
    found = np.mean([known[tuple(d[1:3])] for d in drawn])
    assert found == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "either width or difference"),
        ({"width": 0.1, "difference": 0.1}, "either width or difference"),
        ({"width": 0.6}, "width = 0.6"),
        ({"difference": 0.0}, "difference = 0.0"),
        ({"difference": 0.5, "accuracy": 0.3}, "difference = 0.5"),
        ({"difference": 0.1, "discordant": 0.05}, "discordant = 0.05"),
        ({"width": 0.1, "power": 1.0}, "power = 1.0"),
    ],
)
def test_samples_needed_refuses(asked: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        c.samples_needed(**asked)


def test_a_name_with_control_characters_is_shown_not_obeyed():
    one, other = result("\x1b[2J\n", []), result("b", [], split="val")
    with pytest.raises(ValueError, match="not evaluated on the same samples") as error:
        c.compare(one, other)
    assert str(error.value).isprintable()
    assert c.compare(one, result("b", [7])).sentence().isprintable()


def test_the_interval_of_many_samples_does_not_overflow():
    draw = np.random.default_rng(0)
    a = draw.random(200_000) < 0.5
    b = a ^ (draw.random(200_000) < 0.05)
    low, high = c.paired_interval(a, b)
    assert 0.0018 < high - low < 0.0022
