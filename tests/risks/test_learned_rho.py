"""Duals that are learned: the α-divergence with a learned ρ, and what a batch does to them."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from sparring.batch import Batch
from sparring.risks import KL, Alpha, PerClass
from tests.reference import risks as literal
from tests.risks.test_divergence import F64, P, U, value


class TestLearnedRho:
    """`Alpha(solve_rho=False)`: the authors' dual, at the λ and ρ that Adam has reached."""

    COST = torch.tensor([0.0, 0.3, 0.1, 0.2, 0.05], dtype=F64)

    @pytest.mark.parametrize("a", [1.5, 3.0, 6.0])
    @pytest.mark.parametrize("rho", [-0.35, 0.2, 1.0])
    def test_value_weights_and_both_slopes_are_the_literal_ones(self, a, rho):
        risk = Alpha(
            alpha=a,
            radius=0.2,
            mode="learned",
            initial_multiplier=0.8,
            solve_rho=False,
            initial_rho=rho,
        )
        u, c = (t.clone().requires_grad_() for t in (U, self.COST))
        got = value(risk, u, cost=c, weight=P)
        λ, ρ = risk.multiplier.double(), risk.rho.double()
        twin = partial(literal.alpha_dual, p=P.tolist(), radius=0.2, a=a)
        args = U.tolist(), self.COST.tolist(), λ.item(), ρ.item()
        assert got.item() == pytest.approx(twin(*args), rel=1e-12)
        w, slope = torch.autograd.grad(got, (u, c))
        for i in range(len(U)):
            for part, grad in ((0, w), (1, slope)):
                ends = []
                for step in (1e-6, -1e-6):
                    moved = [list(args[0]), list(args[1])]
                    moved[part][i] += step
                    ends.append(twin(*moved, *args[2:]))
                assert grad[i].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)
        by_multiplier = (twin(*args[:2], λ + 1e-6, ρ) - twin(*args[:2], λ - 1e-6, ρ)) / 2e-6
        by_rho = (twin(*args[:2], λ, ρ + 1e-6) - twin(*args[:2], λ, ρ - 1e-6)) / 2e-6
        assert risk._slope.item() == pytest.approx(by_multiplier.item(), abs=1e-6)
        assert risk._rho_slope.item() == pytest.approx(by_rho.item(), abs=1e-6)

    def test_it_bounds_the_solved_value_and_reaches_it(self):
        exact = value(Alpha(alpha=3.0, radius=0.1), U).item()
        risk = Alpha(alpha=3.0, radius=0.1, mode="learned", lr=0.02, solve_rho=False)
        for _ in range(3000):
            assert value(risk, U).item() >= exact - 1e-9
            risk.update(nn.Identity(), Batch(U[:, None], torch.zeros(5).long()))
            risk.lr *= 0.9985
        assert value(risk, U).item() == pytest.approx(exact, rel=1e-5)
        assert risk.terms["total_weight"].item() == pytest.approx(1, abs=1e-2)

    def test_at_the_authors_rate_it_scales_and_does_not_re_weight(self):
        """TRADES' losses in their units: the weights sum to 1.5 and the effective sample is all."""
        draw = torch.Generator().manual_seed(0)
        u = (2.4 + 1.1 * torch.randn(128, generator=draw, dtype=F64)).clamp_min(0)
        learned = {"alpha": 6.0, "radius": 0.5, "mode": "learned", "lr": 4e-6}
        fixed = Alpha(**learned, solve_rho=False, initial_rho=-0.35)
        solved = Alpha(**learned)
        for risk in (fixed, solved):
            value(risk, u)
        assert 1.4 < fixed.terms["total_weight"].item() < 1.8
        assert fixed.terms["ess"].item() > 0.98
        assert solved.terms["ess"].item() < 0.9

    def test_a_batch_without_its_classes_moves_no_dual(self):
        """Whatever batch came before: a training that resumes there goes on alike."""
        inner = Alpha(mode="learned", solve_rho=False, lr=0.1)
        risk, batch = PerClass(inner, classes=[1]), Batch(U[:, None], torch.zeros(5).long())
        with_class = Batch(U[:, None], torch.tensor([0, 1, 1, 0, 1]))
        risk(U, torch.zeros_like(U), with_class)
        risk.update(nn.Identity(), with_class)
        before = {k: v.clone() for k, v in risk.state_dict().items()}
        risk(U, torch.zeros_like(U), batch)
        risk.update(nn.Identity(), batch)
        assert all(v.equal(before[k]) for k, v in risk.state_dict().items())
        risk(U, torch.zeros_like(U), with_class)
        risk.update(nn.Identity(), with_class)
        assert not risk.state_dict()["of.rho"].equal(before["of.rho"])

    def test_a_multiplier_that_fell_near_0_rises_again(self):
        risk, cost = KL(radius=0.1), torch.ones(5, dtype=F64)
        risk.multiplier = torch.tensor(0.0)
        for _ in range(80):
            value(risk, U, cost=cost)
        assert risk.multiplier > 0.1

    def test_weights_that_are_all_0_leave_no_sample_and_no_nan(self):
        risk = Alpha(alpha=5.0, mode="learned", solve_rho=False, initial_rho=100.0)
        assert value(risk, U).isfinite()
        assert risk.terms["total_weight"] == 0
        assert risk.terms["ess"] == 0
        assert all(term.isfinite() for term in risk.terms.values())

    def test_its_state_goes_on_where_it_stopped(self):
        one, other = (Alpha(mode="learned", solve_rho=False, lr=0.1) for _ in range(2))
        batch = Batch(U[:, None], torch.zeros(5).long())
        for _ in range(3):
            value(one, U)
            one.update(nn.Identity(), batch)
        other.load_state_dict(one.state_dict())
        for risk in (one, other):
            value(risk, U)
            risk.update(nn.Identity(), batch)
        assert torch.equal(one.rho, other.rho)
        assert one.rho != 1.0

    def test_refusals(self):
        with pytest.raises(ValueError, match='solve_rho must be True, unless mode = "learned"'):
            Alpha(solve_rho=False)
        with pytest.raises(ValueError, match="initial_rho must be a valid number"):
            Alpha(mode="learned", solve_rho=False, initial_rho=math.inf)
