"""HopSkipJump: labels only, a linear boundary whose distance is known, and its budget."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import HopSkipJump
from sparring.attacks.base import ActiveSet
from sparring.attacks.hopskipjump import interpolate
from sparring.functional.geometry import norm
from sparring.threats import L1, L2, Linf, Threat
from tests.oracles import DUAL, Linear, problem

BALLS: dict[float, type] = {math.inf: Linf, 2: L2}
BOTH = pytest.mark.parametrize("p", list(BALLS), ids=str)
F64 = torch.float64


def ball(p: float, eps: float = 0.1) -> Threat:
    return BALLS[p](eps)


class Labels(nn.Module):
    """Predict the class of another model, as 0 and 1, and count the queries."""

    def __init__(self, model: nn.Module, k: int) -> None:
        super().__init__()
        self.model, self.k, self.num_queries = model, k, 0

    def forward(self, x: Tensor) -> Tensor:
        self.num_queries += len(x)
        pred = self.model(x).detach().argmax(1)
        return nn.functional.one_hot(pred, self.k).to(x.dtype)


class TestLinearModel:
    """The nearest wrong point is at |margin| / ‖w‖ in the dual norm."""

    w = torch.tensor([0.5, -1.0, 2.0, -0.7, 0.8, 1.2], dtype=F64)

    def problem(self) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
        draw = torch.Generator().manual_seed(0)
        x = 0.4 + 0.1 * torch.rand(12, 6, generator=draw, dtype=F64)
        model = Linear(self.w, -(x @ self.w).max().item() - 0.1)
        with torch.no_grad():
            gap = model(x)
        return Labels(model, 2), x, torch.zeros(12).long(), gap[:, 0] - gap[:, 1]

    @BOTH
    def test_distances(self, p):
        model, x, y, gap = self.problem()
        exact = gap / torch.linalg.vector_norm(self.w, ord=DUAL[p])
        point, far = HopSkipJump(ball(p), queries=3000).distances(model, x, y)
        assert (far >= exact * (1 - 1e-9)).all()
        assert (far <= exact * {math.inf: 1.10, 2: 1.02}[p]).all()
        assert torch.allclose(ball(p).distance(point, x), far)
        assert (model(point).argmax(1) == 1).all()

    @BOTH
    def test_more_queries_come_closer(self, p):
        model, x, y, _ = self.problem()
        few = HopSkipJump(ball(p), queries=150).distances(model, x, y)[1]
        many = HopSkipJump(ball(p), queries=2000).distances(model, x, y)[1]
        assert few.isfinite().all()
        assert many.mean() < 0.97 * few.mean()

    @BOTH
    def test_a_call_breaks_what_is_well_within_and_stays_inside(self, p):
        model, x, y, gap = self.problem()
        exact = gap / torch.linalg.vector_norm(self.w, ord=DUAL[p])
        eps = exact.median().item()
        x_adv = HopSkipJump(ball(p, eps), queries=2000)(model, x, y)
        wrong = model(x_adv).argmax(1) != y
        assert (ball(p).distance(x_adv, x) <= eps * (1 + 1e-9)).all()
        assert wrong[exact < 0.85 * eps].all()
        assert not wrong[exact > eps].any()
        assert wrong.any()

    @BOTH
    def test_the_normal_points_to_the_other_side(self, p):
        """At the boundary, v·w/‖w‖ is near 1 in L2; in Linf v is the sign of w."""
        model, x, y, gap = self.problem()
        attack = HopSkipJump(ball(p), chunk=5000)
        boundary = x + (gap / self.w.norm().square())[:, None] * self.w
        active = ActiveSet(model, x, y)
        delta, rows = torch.full((12,), 0.01, dtype=F64), torch.arange(12) < 11
        v = attack._estimate_normal(active, boundary, delta, rows, 2000)
        assert (v[11] == 0).all()
        if p == 2:
            assert (v[:11] @ self.w / self.w.norm() > 0.98).all()
        else:
            assert ((v[:11] == self.w.sign()).to(F64).mean() > 0.97).all()


class TestRules:
    @BOTH
    @pytest.mark.parametrize("queries", [1, 30, 200, 1001])
    def test_no_row_takes_more_than_its_queries(self, p, queries):
        inner, x, y = problem(b=1)
        with torch.no_grad():
            y = inner(x).argmax(1)
        model = Labels(inner, 4)
        HopSkipJump(ball(p), queries=queries).distances(model, x, y)
        assert 1 < model.num_queries <= queries + 1  # and one at x
        assert queries < 1000 or model.num_queries > 0.8 * queries

    def test_a_row_without_a_start_is_given_up(self):
        """One class everywhere: no start after `tries` queries, and no more queries."""
        model = Labels(Linear(torch.ones(4, dtype=F64)), 2)
        x, y = torch.full((2, 4), 0.5, dtype=F64), torch.zeros(2).long()
        point, far = HopSkipJump(L2(0.1), tries=7).distances(model, x, y)
        assert (far == math.inf).all()
        assert torch.equal(point, x)
        assert model.num_queries == 2 * 8

    @BOTH
    def test_a_sample_wrong_at_x_is_at_distance_0(self, p):
        model, x, y = problem()
        with torch.no_grad():
            wrong = model(x).argmax(1) != y
        point, far = HopSkipJump(ball(p), queries=100).distances(model, x, y)
        assert (far[wrong] == 0).all()
        assert torch.equal(point[wrong], x[wrong])
        assert (far[~wrong] > 0).all()

    @BOTH
    def test_interpolate(self, p):
        draw = torch.Generator().manual_seed(0)
        x, z = torch.rand(2, 3, 2, 4, generator=draw, dtype=F64)
        part = torch.tensor([0.0, 0.4, 1.0], dtype=F64)
        got = interpolate(x, z, part, p)
        assert torch.allclose(got[0], x[0])
        assert torch.allclose(got[2], z[2])
        assert torch.allclose(norm(got - x, p), part * norm(z - x, p))

    @pytest.mark.parametrize(
        ("more", "key"),
        [
            ({"queries": 0}, "queries"),
            ({"samples": 0}, "samples"),
            ({"tries": 0}, "tries"),
            ({"chunk": 0}, "chunk"),
            ({"mode": "off"}, "mode"),
        ],
    )
    def test_what_cannot_be(self, more, key):
        with pytest.raises(ValueError, match=key):
            HopSkipJump(L2(0.1), **more)

    def test_a_norm_it_does_not_know(self):
        with pytest.raises(ValueError, match="Linf or L2 for HopSkipJump"):
            HopSkipJump(L1(1.0))
