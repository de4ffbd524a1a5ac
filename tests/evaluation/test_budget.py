"""Budgets, memory, several norms, and models that move: what an evaluation does about them."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn

from sparring.attacks import FGSM, PGD, Noise
from sparring.evaluation import Suite, budget, evaluate
from sparring.evaluation.budget import Budget
from sparring.threats import L2, Linf

TWO = Suite("two", 1, (("FGSM", FGSM), ("PGD", lambda t: PGD(t, steps=5, loss="margin"))))


def run(problem, model=None, **kw):
    given = {"threat": "Linf", "eps": 0.1, "batch_size": 20, "progress": False, "suite": TWO, **kw}
    return evaluate(model or problem.model, (problem.x, problem.y), **given)


class TestBudget:
    def test_what_is_left_out_counts_as_robust_and_is_said(self, problem):
        whole, part = run(problem), run(problem, queries=60)
        assert part.robust.accuracy > whole.robust.accuracy
        assert part.early.startswith("its budget of 60 forward passes was spent: ")
        assert part.early in part.reasons
        assert part.verdict == "look"
        skipped = [row.skipped for row in part.attacks]
        right = round(whole.clean.accuracy * whole.n)
        assert [row.attacked + s for row, s in zip(part.attacks, skipped, strict=True)] == [
            right
        ] * 2
        assert skipped[0] > 0
        assert skipped[1] == right
        assert sum(row.forwards * row.attacked for row in part.attacks) <= 60

    def test_a_budget_that_is_enough_changes_nothing(self, problem, same):
        same(run(problem, queries=10**6, seconds=1e6), run(problem))

    def test_time_ends_a_batch_in_its_middle(self, problem):
        class Slow(nn.Module):
            def forward(self, x):
                time.sleep(0.01)
                return problem.model(x)

        begun = time.perf_counter()
        part = run(
            problem,
            Slow(),
            seconds=0.05,
            suite=Suite("long", 1, (("PGD", lambda t: PGD(t, steps=1000, size=1e-6)),)),
        )
        assert time.perf_counter() - begun < 6
        assert part.early.startswith("its budget of 0.05 seconds was spent")
        assert part.robust.accuracy == part.clean.accuracy

    def test_a_larger_budget_goes_on_where_a_smaller_one_ended(self, problem, tmp_path, same):
        out = tmp_path / "r.json"
        first = run(problem, queries=60, out=out)
        assert 0 < first.attacks[0].attacked < run(problem).attacks[0].attacked
        assert (tmp_path / "r.json.partial").exists()
        same(run(problem, out=out), run(problem))
        assert not (tmp_path / "r.json.partial").exists()

    @pytest.mark.parametrize("queries", [60, 400])
    def test_samples_that_a_larger_radius_left_out_are_no_symptom(self, problem, queries):
        part = run(problem, eps=[0.05, 0.1, 0.15], queries=queries)
        assert part.by_eps[0].count < part.by_eps[-1].count
        assert part.verdict == "look"
        assert not [c for c in part.checks if c.fired]

    def test_whole_radii_before_the_end_are_compared(self, problem):
        """FGSM of the larger radius does nothing, so what breaks before is robust again."""
        names = {0.05: FGSM, 0.1: lambda t: Noise(t, draws=1), 0.15: FGSM}
        suite = Suite("own", 1, (("A", lambda t: names[t.eps](t)),))
        part = run(problem, eps=[*names], queries=250, suite=suite)
        assert part.attacks[0].skipped
        assert not any(row.attacks[0].skipped for row in part.by_eps[:2])
        assert part.verdict == "not sound"

    def test_processes_share_it(self, monkeypatch):
        monkeypatch.setattr(budget.distributed, "world", lambda: 4)
        one = Budget(queries=100)
        one.count(24)
        assert not one.exhausted
        one.count(1)
        assert one.exhausted == "its budget of 100 forward passes was spent"

    @pytest.mark.parametrize("budget", [{"seconds": 0}, {"queries": -1}])
    def test_a_budget_of_nothing_is_refused(self, problem, budget):
        (key,) = budget
        with pytest.raises(ValueError, match=f"{key} = .* is not allowed: {key} must be a"):
            run(problem, **budget)


class Tight(nn.Module):
    """A model for which memory ends above a number of samples."""

    def __init__(self, inner, most, message):
        super().__init__()
        self.inner, self.most, self.message, self.sizes = inner, most, message, []

    def forward(self, x):
        if x.requires_grad and len(x) > self.most:
            raise RuntimeError(self.message)
        self.sizes.append(len(x))
        return self.inner(x)


class TestMemory:
    full = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried to"

    def test_a_batch_that_does_not_fit_is_halved(self, problem):
        found = run(problem, Tight(problem.model, 6, self.full), eps=0.05)
        assert found.robust == run(problem, eps=0.05).robust
        assert found.n == len(problem.y)

    def test_a_sample_that_does_not_fit_is_an_error(self, problem):
        with pytest.raises(RuntimeError, match="not enough memory"):
            run(problem, Tight(problem.model, 0, self.full))

    def test_other_errors_stay(self, problem):
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            run(problem, Tight(problem.model, 6, "mat1 and mat2 shapes cannot be multiplied"))


class TestNorms:
    def test_several_at_once(self, problem):
        both = run(problem, threat={"Linf": [0.02, 0.05], "L2": 0.1}, eps=None)
        assert [(row.threat, row.eps) for row in both.by_eps] == [
            ("Linf", 0.02),
            ("Linf", 0.05),
            ("L2", 0.1),
        ]
        robust = {(n, e): problem.robust(n, e) for n, e in (("Linf", 0.05), ("L2", 0.1))}
        each = [both.arrays["correct_Linf_0.05"], both.arrays["correct_L2_0.1"]]
        np.testing.assert_array_equal(each[0], robust["Linf", 0.05].numpy())
        np.testing.assert_array_equal(each[1], robust["L2", 0.1].numpy())
        union = torch.stack(list(robust.values())).all(0)
        assert both.robust.accuracy == pytest.approx(union.float().mean().item())
        assert not any(c.fired for c in both.checks)

    def test_threats_of_ones_own(self, problem):
        rows = run(problem, threat=[Linf(0.05), L2(0.1)], eps=None).by_eps
        assert [(r.threat, r.eps) for r in rows] == [("Linf", 0.05), ("L2", 0.1)]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"threat": ["Linf", "Linf"]}, "each another norm"),
            ({"threat": []}, "one or more threats"),
            ({"threat": {"Linf": 0.1}, "eps": 0.1}, "the table of threats has the radii"),
            ({"threat": {"Linv": 0.1}, "eps": None}, "did you mean 'Linf'"),
            ({"eps": 8}, r"at most 1, the width of the box in Linf \(8/255\?\)"),
            ({"threat": "L2", "eps": 3}, r"at most 2.449, the width of the box in L2"),
        ],
    )
    def test_what_makes_no_sense_is_said(self, problem, change, message):
        with pytest.raises(ValueError, match=message):
            run(problem, **change)


class Restless(nn.Module):
    """A model that writes to itself when it is called."""

    def __init__(self, inner, what):
        super().__init__()
        self.inner, self.what = inner, what

    def forward(self, x):
        if self.what == "weights":
            with torch.no_grad():
                self.inner.w.mul_(1.0)
        else:
            self.train()
        return self.inner(x)


@pytest.mark.parametrize("what", ["weights", "mode"])
def test_a_model_that_changes_when_it_is_called(problem, what):
    with pytest.raises(ValueError, match=f"the model changes its own {what} when it is called"):
        run(problem, Restless(problem.model, what).eval())
