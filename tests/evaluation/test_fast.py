"""The suite `fast`: a first estimate that never is a claim."""

from __future__ import annotations

import pytest
import torch

from sparring.evaluation import evaluate, suites
from sparring.threats import L0, L1, L2, Bits, Linf

FAST = suites.SUITES["fast"]


def test_it_is_declared_between_pgd_and_autoattack():
    names = list(suites.SUITES)
    assert names.index("pgd") < names.index("fast") < names.index("autoattack")
    assert FAST.labels == ["APGD-PM-30", "APGD-DLR-50", "APGD-T-50×3", "Square-500 nearest"]
    margin, dlr, targeted, square = (e.make(Linf(0.3)) for e in FAST.entries)
    assert (margin.loss, margin.steps) == ("probability-margin", 30)
    assert (dlr.loss, dlr.steps) == ("dlr", 50)
    assert (targeted.loss, targeted.targets, targeted.order) == ("dlr-targeted", 3, "auto")
    assert square.queries == 500
    assert FAST.entries[-1].near_share < 1
    assert FAST.cascade


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), L1(1.0)], ids=lambda t: type(t).__name__)
def test_a_claim_takes_another_suite(threat):
    """`fast` has an attack without gradients, and is not what the verdict recommends."""
    assert suites.gradient_free_suite([threat]) == "autoattack"
    assert len(FAST.entries_for(threat)) == 4


@pytest.mark.parametrize("threat", [L0(3), Bits(3)], ids=lambda t: type(t).__name__)
def test_other_threats_are_refused(threat):
    with pytest.raises(ValueError, match="suite = 'fast' has no attack for"):
        FAST.entries_for(threat)


class TestVerdict:
    def test_at_best_look(self, problem):
        result = evaluate(
            problem.model, (problem.x, problem.y), "Linf", "fast", eps=0.05, progress=False
        )
        reason = "the suite fast is a first estimate: confirm it by the suite autoattack"
        assert (result.verdict, result.reasons, result.reason) == ("look", [reason], reason)
        expected = problem.robust("Linf", 0.05)
        assert torch.equal(torch.from_numpy(result.arrays["correct_0.05"]), expected)

    def test_with_points_of_another_model(self, problem):
        rows = (problem.x, problem.y)
        options = {"eps": 0.05, "progress": False, "surrogate": problem.model}
        result = evaluate(problem.model, rows, "Linf", "fast", **options)
        assert result.suite == "fast+transfer"
        assert result.verdict == "look"

    def test_every_other_suite_is_its_own_confirmation(self):
        assert [s.name for s in suites.SUITES.values() if s.confirmed_by] == ["fast"]
