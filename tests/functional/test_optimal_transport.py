"""Transport: literal twins, brute force over assignments, closed forms, gradients."""

from __future__ import annotations

import importlib.util
import itertools
import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sparring.functional import optimal_transport
from sparring.functional.geometry import norm
from tests.reference import transport as literal

TIGHT = {"steps": 20_000, "tol": 1e-14}
NEAR = {"rtol": 1e-9, "atol": 1e-9}


def clouds(b: int = 12, d: int = 4, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two clouds `(b, d)` that overlap."""
    draw = torch.Generator().manual_seed(seed)
    a, c = torch.randn(2, b, d, generator=draw, dtype=torch.float64)
    return a, 0.7 * c + 0.5


def drawn(like: Tensor, count: int, law: str = "sphere", seed: int = 1) -> Tensor:
    return optimal_transport.random_slices(
        like, count, law=law, generator=torch.Generator().manual_seed(seed)
    )


def assignment(cost: Tensor) -> float:
    """min over permutations of the mean cost."""
    rows, columns = linear_sum_assignment(cost.numpy())
    return float(cost[rows, columns].mean())


class TestSlices:
    @pytest.mark.parametrize("law", optimal_transport.SLICE_LAWS)
    @pytest.mark.parametrize("count", [1, 3, 8, 9])
    def test_are_unit_vectors_and_follow_the_generator(self, law, count):
        like = torch.zeros(5, 4, dtype=torch.float64)
        theta = drawn(like, count, law)
        assert theta.shape == (count, 4)
        assert theta.dtype == like.dtype
        assert torch.allclose(norm(theta, 2), torch.ones(count, dtype=theta.dtype))
        assert torch.equal(theta, drawn(like, count, law))
        assert not torch.equal(theta, drawn(like, count, law, seed=2))

    def test_orthonormal_blocks(self):
        theta = drawn(torch.zeros(1, 4, dtype=torch.float64), 8, "orthonormal")
        one = torch.eye(4, dtype=torch.float64)
        assert torch.allclose(theta[:4] @ theta[:4].T, one)
        assert torch.allclose(theta[4:] @ theta[4:].T, one)
        assert not torch.allclose(theta[:4] @ theta[4:].T, one, atol=0.5)

    @pytest.mark.parametrize(
        ("law", "fourth"), [("sphere", 0.025), ("cube", 0.0181), ("orthonormal", 0.025)]
    )
    def test_moments(self, law, fourth):
        """E θθᵀ = I/d for every law; E θ₁⁴ = 3/(d(d + 2)) on the sphere and less for the cube."""
        theta = drawn(torch.zeros(1, 10, dtype=torch.float64), 100_000, law)
        second = theta.T @ theta / len(theta)
        assert torch.allclose(second, torch.eye(10, dtype=theta.dtype) / 10, atol=2e-3)
        assert theta.pow(4).mean().item() == pytest.approx(fourth, rel=0.015)

    def test_orthonormal_blocks_have_less_noise(self):
        a, c = clouds(64, 10)
        spread = {}
        for law in ("sphere", "orthonormal"):
            found = [
                optimal_transport.sliced_wasserstein(a, c, drawn(a, 30, law, seed=s))
                for s in range(60)
            ]
            spread[law] = torch.stack(found).std().item()
        assert spread["orthonormal"] < 0.7 * spread["sphere"]

    @pytest.mark.parametrize(
        ("bad", "said"),
        [
            ({"law": "ball"}, r"law = 'ball' is not allowed: law must be one of sphere, cube, ort"),
            ({"count": 0}, r"count = 0 is not allowed: count must be a number of slices ≥ 1"),
        ],
    )
    def test_bad_input(self, bad, said):
        with pytest.raises(ValueError, match=said):
            optimal_transport.random_slices(torch.zeros(2, 3), **bad)


class TestSliced:
    @pytest.mark.parametrize("law", optimal_transport.SLICE_LAWS)
    def test_twin(self, law):
        a, c = clouds()
        theta = drawn(a, 7, law)
        lists = a.tolist(), c.tolist(), theta.tolist()
        value = optimal_transport.sliced_wasserstein(a, c, theta)
        assert value.item() == pytest.approx(literal.sliced(*lists), rel=1e-12)
        moved = optimal_transport.displacement(optimal_transport.slice_gaps(a, c, theta), theta)
        twin = torch.tensor(literal.movement(*lists), dtype=a.dtype)
        assert torch.allclose(moved, twin, rtol=1e-12)

    def test_a_slice_is_the_best_assignment(self):
        a, c = clouds()
        for theta in drawn(a, 5).split(1):
            best = assignment(optimal_transport.ground_cost(a @ theta.T, c @ theta.T))
            assert optimal_transport.sliced_wasserstein(a, c, theta).item() == pytest.approx(
                best, rel=1e-12
            )

    def test_and_so_of_all_permutations(self):
        a, c = clouds(5, 2)
        theta = drawn(a, 1)
        s, t = (a @ theta.T)[:, 0], (c @ theta.T)[:, 0]
        every = [(s - t[list(p)]).square().mean().item() for p in itertools.permutations(range(5))]
        found = optimal_transport.sliced_wasserstein(a, c, theta).item()
        assert found == pytest.approx(min(every), rel=1e-12)

    def test_the_displacement_is_the_gradient(self):
        """Δ = −(K·B/2)·∂SW/∂source, and the opposite mass pulls on the target."""
        a, c = clouds()
        theta = drawn(a, 32)
        a.requires_grad_()
        c.requires_grad_()
        grads = torch.autograd.grad(optimal_transport.sliced_wasserstein(a, c, theta), (a, c))
        delta = optimal_transport.displacement(optimal_transport.slice_gaps(a, c, theta), theta)
        assert torch.allclose(delta, -(32 * len(a) / 2) * grads[0], rtol=1e-13, atol=1e-14)
        assert torch.allclose(grads[0].sum(0), -grads[1].sum(0), rtol=1e-12)

    def test_gradcheck(self):
        a, c = clouds(6, 3)
        theta = drawn(a, 5)
        pair = (a.requires_grad_(), c.requires_grad_())
        assert torch.autograd.gradcheck(
            lambda u, v: optimal_transport.sliced_wasserstein(u, v, theta), pair
        )

    @pytest.mark.parametrize("law", optimal_transport.SLICE_LAWS)
    def test_a_permuted_cloud_is_the_same_cloud(self, law):
        a, _ = clouds()
        theta, order = drawn(a, 32, law), torch.randperm(len(a))
        assert torch.equal(
            optimal_transport.slice_gaps(a, a[order], theta), torch.zeros(len(a), 32, dtype=a.dtype)
        )

    def test_a_shifted_cloud(self):
        """W₂² of each slice is (θ·t)²; over orthonormal slices they average to ‖t‖²/d."""
        a, _ = clouds()
        t = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=a.dtype)
        theta = drawn(a, 6)
        expected = (theta @ t).square().mean()
        assert torch.allclose(
            optimal_transport.sliced_wasserstein(a, a + t, theta), expected, rtol=1e-12
        )
        whole = optimal_transport.sliced_wasserstein(a, a + t, drawn(a, 8, "orthonormal"))
        assert torch.allclose(whole, t.square().sum() / 4, rtol=1e-12)
        moved = optimal_transport.displacement(optimal_transport.slice_gaps(a, a + t, theta), theta)
        assert torch.allclose(moved, ((theta @ t) @ theta).expand_as(a), rtol=1e-10)

    def test_not_above_the_paired_distance(self):
        """On the same slices, W₂² ≤ mean (s − t)² ; over orthonormal ones that is the mean square
        of the logits' gap."""
        for seed in range(5):
            a, c = clouds(seed=seed)
            theta = drawn(a, 32)
            paired = ((a - c) @ theta.T).square().mean(0)
            assert (
                optimal_transport.slice_gaps(a, c, theta).square().mean(0) <= paired + 1e-12
            ).all()
            theta = drawn(a, 4, "orthonormal")
            assert optimal_transport.sliced_wasserstein(
                a, c, theta
            ) <= torch.nn.functional.mse_loss(a, c)

    def test_ties_are_harmless(self):
        a, c = clouds()
        same = torch.zeros_like(a, requires_grad=True)
        value = optimal_transport.sliced_wasserstein(same, c, drawn(a, 8))
        (grad,) = torch.autograd.grad(value, same)
        assert value.isfinite()
        assert grad.isfinite().all()

    def test_empty_batches_and_sizes_that_differ(self):
        nothing = torch.zeros(0, 3)
        assert optimal_transport.sliced_wasserstein(nothing, nothing, drawn(nothing, 4)) == 0
        with pytest.raises(ValueError, match=r"target.shape = \(2, 3\) is not allowed"):
            optimal_transport.slice_gaps(torch.zeros(4, 3), torch.zeros(2, 3), torch.eye(3))


class TestTrajectory:
    def test_rows_have_length_one_and_no_graph(self):
        a, c = clouds()
        a.requires_grad_()
        theta = drawn(a, 32)
        delta = optimal_transport.displacement(optimal_transport.slice_gaps(a, c, theta), theta)
        found = optimal_transport.trajectory(delta, torch.randn_like(a))
        assert not found.requires_grad
        assert torch.allclose(norm(found, 2), torch.ones(len(a), dtype=a.dtype))
        assert torch.allclose(found * norm(delta.detach(), 2)[:, None], delta.detach())

    @pytest.mark.parametrize("size", [0.0, 1e-13, 1e-30])
    def test_what_does_not_move_takes_the_other_direction(self, size):
        instead = torch.randn(3, 4)
        found = optimal_transport.trajectory(torch.full((3, 4), size), instead)
        assert torch.allclose(found, instead / norm(instead, 2)[:, None])


class TestMaxSlice:
    def test_of_a_shifted_cloud_is_the_shift(self):
        a, _ = clouds(64)
        t = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=a.dtype)
        theta = optimal_transport.max_slice(a, a + t, drawn(a, 4), steps=50)
        assert torch.allclose((theta @ t).abs(), t.norm(), rtol=1e-6)
        value = optimal_transport.sliced_wasserstein(a, a + t, theta)
        assert torch.allclose(value, t.square().sum(), rtol=1e-6)

    def test_against_a_fine_grid_of_the_circle(self):
        a, c = clouds(20, 2)
        angle = torch.linspace(0, math.pi, 20_001, dtype=a.dtype)
        grid = torch.stack([angle.cos(), angle.sin()], 1)
        most = optimal_transport.slice_gaps(a, c, grid).square().mean(0).max()
        starts = drawn(a, 16)
        found = optimal_transport.sliced_wasserstein(
            a, c, optimal_transport.max_slice(a, c, starts)
        )
        assert found.item() == pytest.approx(most.item(), rel=1e-6)
        assert found >= optimal_transport.slice_gaps(a, c, starts).square().mean(0).max()

    def test_leaves_no_graph(self):
        a, c = clouds()
        starts = drawn(a, 2)
        theta = optimal_transport.max_slice(a.requires_grad_(), c, starts)
        assert not theta.requires_grad
        assert not starts.requires_grad
        assert optimal_transport.sliced_wasserstein(a, c, theta).requires_grad
        still = optimal_transport.max_slice(a, a, starts)
        assert torch.allclose(norm(still, 2), torch.ones(1, dtype=a.dtype))


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

    def test_unknown(self):
        with pytest.raises(ValueError, match=r"cost = 'cubic' is not allowed: cost must be one of"):
            optimal_transport.ground_cost(torch.zeros(1, 1), torch.zeros(1, 1), "cubic")


class TestSinkhorn:
    @pytest.mark.parametrize("eps", [0.3, 1.0, 10.0])
    def test_twin(self, eps):
        a, c = clouds(6, 3)
        found = optimal_transport.sinkhorn(optimal_transport.ground_cost(a, c), eps, **TIGHT)
        twin = literal.entropic(literal.squared(a.tolist(), c.tolist()), eps)
        assert found.item() == pytest.approx(twin, rel=1e-10)
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
        found = optimal_transport.sinkhorn(cost, eps, steps=20_000, tol=1e-10, scaling=0.9).item()
        assert exact <= found + 1e-4
        assert found <= exact + eps * math.log(15) + 1e-9  # the entropy of a permutation

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
        found = optimal_transport.sinkhorn_divergence(a, a + t, eps=eps, **TIGHT)
        assert found.item() == pytest.approx(t.square().sum().item(), rel=1e-6)
        assert optimal_transport.sinkhorn_divergence(
            a, a, eps=eps, **TIGHT
        ).item() == pytest.approx(0, abs=1e-9)

    def test_much_entropy_leaves_the_means(self):
        a, c = clouds()
        found = optimal_transport.sinkhorn_divergence(a, c, eps=1e7)
        expected = (a.mean(0) - c.mean(0)).square().sum()
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)

    def test_symmetric_not_negative_and_blind_to_order(self):
        for seed in range(4):
            a, c = clouds(seed=seed)
            found = optimal_transport.sinkhorn_divergence(a, c, eps=0.5, **TIGHT)
            assert found > 0
            assert torch.allclose(
                found, optimal_transport.sinkhorn_divergence(c, a, eps=0.5, **TIGHT), **NEAR
            )
            mixed = optimal_transport.sinkhorn_divergence(
                a[torch.randperm(len(a))], c, eps=0.5, **TIGHT
            )
            assert torch.allclose(found, mixed, **NEAR)

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
        found = optimal_transport.sinkhorn_divergence(a, c, eps=1e-3)
        (grad,) = torch.autograd.grad(found, a)
        assert found.isfinite()
        assert grad.isfinite().all()

    @pytest.mark.parametrize("b", [0, 1])
    def test_small_batches(self, b):
        a = torch.rand(b, 3, requires_grad=True)
        found = optimal_transport.sinkhorn_divergence(a, torch.rand(b, 3))
        (grad,) = torch.autograd.grad(found, a)
        assert found.isfinite()
        assert grad.isfinite().all()

    @pytest.mark.parametrize(
        ("bad", "said"),
        [
            ({"eps": 0.0}, r"eps = 0\.0 is not allowed: eps must be a number > 0"),
            ({"steps": -1}, r"steps = -1 is not allowed"),
            ({"scaling": 1.0}, r"scaling = 1\.0 is not allowed: scaling must be a factor in"),
            ({"cost": "cubic"}, r"cost = 'cubic' is not allowed"),
        ],
    )
    def test_bad_input(self, bad, said):
        a, c = clouds(3, 2)
        with pytest.raises(ValueError, match=said):
            optimal_transport.sinkhorn_divergence(a, c, **bad)

    def test_not_a_cloud(self):
        with pytest.raises(ValueError, match=r"target.shape = \(2, 3, 4\) is not allowed"):
            optimal_transport.sinkhorn_divergence(torch.zeros(2, 3), torch.zeros(2, 3, 4))


needs = {
    name: pytest.mark.skipif(not importlib.util.find_spec(name), reason=f"{name} is not installed")
    for name in ("ot", "geomloss")
}


@needs["ot"]
def test_agrees_with_pot():
    import ot as pot

    a, c = clouds(20, 3)
    theta = drawn(a, 16)
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


@needs["geomloss"]
def test_agrees_with_geomloss():
    import geomloss

    a, c = clouds(20, 3)
    theirs = geomloss.SamplesLoss("sinkhorn", p=2, blur=0.5, scaling=0.999, backend="tensorized")
    found = optimal_transport.sinkhorn_divergence(a, c, eps=0.25, cost="half-squared", **TIGHT)
    assert found.item() == pytest.approx(theirs(a, c).item(), rel=1e-3)
