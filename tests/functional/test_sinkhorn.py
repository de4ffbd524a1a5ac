"""Sinkhorn: its literal twin, the best assignment, closed forms, gradients, other packages."""

from __future__ import annotations

import math

import pytest
import torch

from sparring.functional import optimal_transport
from tests.functional.clouds import assignment, clouds, slices
from tests.reference import transport as literal

TIGHT = {"steps": 20_000, "tol": 1e-14}
NEAR = {"rtol": 1e-9, "atol": 1e-9}


class TestGroundCost:
    def test_kinds(self):
        a, c = clouds(5, 3)
        twin = torch.tensor(literal.squared(a.tolist(), c.tolist()), dtype=a.dtype)
        assert torch.allclose(optimal_transport.ground_cost(a, c), twin)
        assert torch.allclose(optimal_transport.ground_cost(a, c, "half-squared"), twin / 2)
        assert torch.allclose(optimal_transport.ground_cost(a, c, "distance"), twin.sqrt())

    @pytest.mark.parametrize("kind", optimal_transport.COSTS)
    def test_coinciding_points_have_a_finite_gradient(self, kind):
        a = clouds(4, 3)[0].requires_grad_()
        (grad,) = torch.autograd.grad(optimal_transport.ground_cost(a, a, kind).sum(), a)
        assert grad.isfinite().all()

    @pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
    def test_low_precision_is_computed_in_float32(self, kind):
        a, c = (cloud.to(kind) for cloud in clouds(5, 3))
        cost = optimal_transport.ground_cost(a, c)
        assert torch.equal(cost, optimal_transport.ground_cost(a.float(), c.float()))

    def test_unknown(self):
        with pytest.raises(ValueError, match=r"cost = 'cubic' is not allowed: cost must be one of"):
            optimal_transport.ground_cost(torch.zeros(1, 1), torch.zeros(1, 1), "cubic")


class TestSinkhorn:
    @pytest.mark.parametrize("eps", [0.3, 1.0, 10.0])
    def test_twin(self, eps):
        a, c = clouds(6, 3)
        result = optimal_transport.sinkhorn(optimal_transport.ground_cost(a, c), eps, **TIGHT)
        twin = literal.entropic(literal.squared(a.tolist(), c.tolist()), eps)
        assert result.item() == pytest.approx(twin, rel=1e-10)
        divergence = optimal_transport.sinkhorn_divergence(a, c, eps=eps, **TIGHT)
        assert divergence.item() == pytest.approx(
            literal.divergence(a.tolist(), c.tolist(), eps), rel=1e-9
        )

    @pytest.mark.parametrize("kind", optimal_transport.COSTS)
    def test_without_entropy_it_is_the_best_assignment(self, kind):
        a, c = clouds(15, 3)
        cost = optimal_transport.ground_cost(a, c, kind)
        exact = assignment(cost)
        eps = 1e-4
        result = optimal_transport.sinkhorn(cost, eps, steps=20_000, tol=1e-10, scaling=0.9).item()
        assert exact <= result + 1e-4
        assert result <= exact + eps * math.log(15) + 1e-9  # the entropy of a permutation

    def test_stopped_early_it_is_a_lower_bound(self):
        cost = optimal_transport.ground_cost(*clouds(15, 3))
        values = [
            optimal_transport.sinkhorn(cost, 0.5, steps=n).item() for n in (1, 3, 10, 100, 1000)
        ]
        exact = optimal_transport.sinkhorn(cost, 0.5, **TIGHT).item()
        assert values == sorted(values)  # every update climbs the dual
        assert values[-1] <= exact + 1e-12
        assert values[-1] == pytest.approx(exact, rel=1e-8)

    def test_marginals_of_the_plan(self):
        cost = optimal_transport.ground_cost(*clouds(9, 3)).requires_grad_()
        (plan,) = torch.autograd.grad(optimal_transport.sinkhorn(cost, 0.5, **TIGHT), cost)
        ninth = torch.full((9,), 1 / 9, dtype=cost.dtype)
        assert torch.allclose(plan.sum(0), ninth, **NEAR)
        assert torch.allclose(plan.sum(1), ninth, **NEAR)

    @pytest.mark.parametrize("eps", [1.0, 5.0, 20.0])
    def test_a_shift_costs_its_square(self, eps):
        a, _ = clouds()
        t = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=a.dtype)
        result = optimal_transport.sinkhorn_divergence(a, a + t, eps=eps, **TIGHT)
        assert result.item() == pytest.approx(t.square().sum().item(), rel=1e-6)
        assert optimal_transport.sinkhorn_divergence(
            a, a, eps=eps, **TIGHT
        ).item() == pytest.approx(0, abs=1e-9)

    def test_much_entropy_leaves_the_means(self):
        a, c = clouds()
        result = optimal_transport.sinkhorn_divergence(a, c, eps=1e7)
        expected = (a.mean(0) - c.mean(0)).square().sum()
        assert result.item() == pytest.approx(expected.item(), rel=1e-5)

    def test_symmetric_not_negative_and_blind_to_order(self):
        for seed in range(4):
            a, c = clouds(seed=seed)
            result = optimal_transport.sinkhorn_divergence(a, c, eps=0.5, **TIGHT)
            assert result > 0
            assert torch.allclose(
                result, optimal_transport.sinkhorn_divergence(c, a, eps=0.5, **TIGHT), **NEAR
            )
            mixed = optimal_transport.sinkhorn_divergence(
                a[torch.randperm(len(a))], c, eps=0.5, **TIGHT
            )
            assert torch.allclose(result, mixed, **NEAR)

    @pytest.mark.parametrize("kind", ["squared", "half-squared"])
    def test_gradcheck(self, kind):
        a, c = clouds(5, 2)
        pair = (a.requires_grad_(), c.requires_grad_())
        assert torch.autograd.gradcheck(
            lambda u, v: optimal_transport.sinkhorn_divergence(u, v, eps=0.7, cost=kind, **TIGHT),
            pair,
        )

    def test_gradcheck_of_the_distance(self):
        """Between two clouds; within one, ‖a_i − a_i‖ stands on its kink."""
        a, c = clouds(5, 2)
        pair = (a.requires_grad_(), c.requires_grad_())
        assert torch.autograd.gradcheck(
            lambda u, v: optimal_transport.sinkhorn(
                optimal_transport.ground_cost(u, v, "distance"), 0.7, **TIGHT
            ),
            pair,
        )

    def test_two_points_and_clouds_of_two_sizes(self):
        a, c = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
        assert optimal_transport.sinkhorn_divergence(a, c).item() == pytest.approx(25.0)
        both = torch.tensor([[3.0, 4.0], [3.0, 4.0]])
        assert optimal_transport.sinkhorn_divergence(a, both).item() == pytest.approx(
            25.0, rel=1e-5
        )

    def test_finite_far_apart_in_float32(self):
        a, c = (torch.randn(2, 16, 10) * 200).unbind()
        a.requires_grad_()
        result = optimal_transport.sinkhorn_divergence(a, c, eps=1e-3)
        (grad,) = torch.autograd.grad(result, a)
        assert result.isfinite()
        assert grad.isfinite().all()

    @pytest.mark.parametrize("b", [0, 1])
    def test_small_batches(self, b):
        a = torch.rand(b, 3, requires_grad=True)
        result = optimal_transport.sinkhorn_divergence(a, torch.rand(b, 3))
        (grad,) = torch.autograd.grad(result, a)
        assert result.isfinite()
        assert grad.isfinite().all()

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ({"eps": 0.0}, r"eps = 0\.0 is not allowed: eps must be a number > 0"),
            ({"steps": -1}, r"steps = -1 is not allowed"),
            ({"scaling": 1.0}, r"scaling = 1\.0 is not allowed: scaling must be a factor in"),
            ({"cost": "cubic"}, r"cost = 'cubic' is not allowed"),
        ],
    )
    def test_bad_input(self, bad, message):
        a, c = clouds(3, 2)
        with pytest.raises(ValueError, match=message):
            optimal_transport.sinkhorn_divergence(a, c, **bad)

    def test_not_a_cloud(self):
        with pytest.raises(ValueError, match=r"target.shape = \(2, 3, 4\) is not allowed"):
            optimal_transport.sinkhorn_divergence(torch.zeros(2, 3), torch.zeros(2, 3, 4))


def test_agrees_with_pot():
    import ot as pot

    a, c = clouds(20, 3)
    theta = slices(a, 16)
    theirs = pot.sliced_wasserstein_distance(a, c, projections=theta.T) ** 2
    assert optimal_transport.sliced_wasserstein(a, c, theta).item() == pytest.approx(
        float(theirs), rel=1e-9
    )
    cost, even = optimal_transport.ground_cost(a, c), torch.full((20,), 1 / 20, dtype=a.dtype)
    plan = pot.sinkhorn(
        even, even, cost, 0.5, method="sinkhorn_log", numItermax=5000, stopThr=1e-13
    )
    value = (plan * (cost + 0.5 * (400 * plan).log())).sum()
    assert optimal_transport.sinkhorn(cost, 0.5, **TIGHT).item() == pytest.approx(
        value.item(), rel=1e-8
    )


def test_agrees_with_geomloss():
    import geomloss

    a, c = clouds(20, 3)
    theirs = geomloss.SamplesLoss("sinkhorn", p=2, blur=0.5, scaling=0.999, backend="tensorized")
    result = optimal_transport.sinkhorn_divergence(a, c, eps=0.25, cost="half-squared", **TIGHT)
    assert result.item() == pytest.approx(theirs(a, c).item(), rel=1e-3)
