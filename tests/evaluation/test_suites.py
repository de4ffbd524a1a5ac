"""Suites are data."""

import pytest

from sparring.attacks import PGD
from sparring.evaluation import Suite, suites
from sparring.threats import L0, L1, L2, Linf


def entries(name):
    return {entry.label: entry for entry in suites.SUITES[name].entries}


def test_suites_are_declared_data():
    assert suites.find_suite("quick").description == "FGSM · PGD-20"
    assert suites.find_suite("pgd").description == "FGSM · PGD-20 · PGD-100 · PGD-50×10 margin"
    margin = entries("pgd")["PGD-50×10 margin"].make(Linf(0.3))
    assert (margin.steps, margin.restarts, margin.loss, margin.threat.eps) == (
        50,
        10,
        "margin",
        0.3,
    )
    assert entries("quick")["PGD-20"].make(Linf(0.3)).step_size == pytest.approx(0.03)
    with pytest.raises(ValueError, match="each with its own label"):
        Suite("twice", 1, (("A", PGD), ("A", PGD)))


@pytest.mark.parametrize("given", [[PGD], {"A": PGD}, [("A", PGD(Linf(0.1)))], [("A",)]])
def test_what_is_no_pair_of_a_label_and_a_function_is_refused(given):
    with pytest.raises(ValueError, match=r"attacks = .* is not allowed: .*lambda threat: PGD"):
        Suite("own", 1, given)


class TestAutoAttack:
    """The published order and budgets (Croce and Hein 2020, sec. 5)."""

    def test_standard(self):
        suite = suites.find_suite("autoattack")
        assert suite.labels[:4] == ["APGD-CE", "APGD-T", "FAB-T", "Square"]
        assert (suite.version, suite.cascade) == (2, True)
        made = [e.make(Linf(0.3)) for e in suite.entries_for(Linf(0.3))]
        ce, targeted, fab, square = made[:4]
        assert (ce.loss, ce.steps, ce.restarts) == ("ce", 100, 1)
        assert (targeted.loss, targeted.steps, targeted.targets) == ("dlr-targeted", 100, 9)
        assert (fab.steps, fab.targets, fab.restarts) == (100, 9, 1)
        assert (square.queries, square.restarts) == (5000, 1)

    def test_near_misses_are_tried_again_with_other_draws(self):
        again = suites.find_suite("autoattack").entries[4:]
        assert [entry.label for entry in again] == ["APGD-T again", "Square again"]
        assert all(0 < entry.near_share < 1 for entry in again)
        first, second = (e.make(Linf(0.3)) for e in (suites.SQUARE, again[1]))
        assert first.config().keys() == second.config().keys()

    def test_plus(self):
        made = {e.label: e.make(L2(0.5)) for e in suites.find_suite("autoattack-plus").entries}
        labels = ["APGD-CE×5", "APGD-DLR×5", "FAB×5", "Square", "APGD-T", "FAB-T"]
        assert list(made) == labels
        assert [made[label].restarts for label in labels[:3]] == [5, 5, 5]
        assert made["APGD-DLR×5"].loss == "dlr"

    def test_rand(self):
        made = [e.make(Linf(0.1)) for e in suites.find_suite("autoattack-rand").entries]
        assert [(m.loss, m.eot, m.steps) for m in made] == [("ce", 20, 100), ("dlr", 20, 100)]


@pytest.mark.parametrize(
    "threat", [Linf(0.1), L2(0.5), L1(2.0), L0(3)], ids=lambda t: type(t).__name__
)
@pytest.mark.parametrize("name", suites.SUITES)
def test_every_attack_of_a_suite_can_be_made(name, threat):
    """For each norm it says it knows; a suite that knows none says so."""
    suite = suites.find_suite(name)
    if not any(entry.supports(threat) for entry in suite.entries):
        balls = name.startswith(("autoattack", "fast"))
        assert (type(threat) is L0 and balls) or name.startswith("bits")
        kind = type(threat).__name__
        with pytest.raises(ValueError, match=f"suite = '{name}' has no attack for {kind}"):
            suite.entries_for(threat)
        return
    known = suite.entries_for(threat)
    assert known
    assert all(entry.make(threat).threat is threat for entry in known)


def test_a_surrogate_adds_its_points():
    def surrogate(x):
        return x

    both = suites.find_suite("quick", surrogate)
    assert both.name == "quick+transfer"
    assert both.labels[:2] == ["FGSM", "PGD-20"]
    points = both.entries_for(Linf(0.1))[2:]
    assert len(points) == 3
    assert all(e.make(Linf(0.1)).surrogate is surrogate for e in points)
    assert {e.kind for e in both.entries[2:]} == {"transfer"}
    assert suites.find_suite("transfer", surrogate).labels == both.labels[2:]
    with pytest.raises(ValueError, match="surrogate = None is not allowed"):
        suites.find_suite("transfer")
