"""Sliced transport: its literal twin, all permutations, closed forms, gradients."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sparring.functional import optimal_transport
from sparring.functional.geometry import norm
from tests.functional.clouds import assignment, clouds, slices
from tests.reference import transport as literal


class TestSlices:
    @pytest.mark.parametrize("law", optimal_transport.SLICE_LAWS)
    @pytest.mark.parametrize("count", [1, 3, 8, 9])
    def test_are_unit_vectors_and_follow_the_generator(self, law, count):
        like = torch.zeros(5, 4, dtype=torch.float64)
        theta = slices(like, count, law)
        assert theta.shape == (count, 4)
        assert theta.dtype == like.dtype
        assert torch.allclose(norm(theta, 2), torch.ones(count, dtype=theta.dtype))
        assert torch.equal(theta, slices(like, count, law))
        assert not torch.equal(theta, slices(like, count, law, seed=2))

    def test_orthonormal_blocks(self):
        theta = slices(torch.zeros(1, 4, dtype=torch.float64), 8, "orthonormal")
        one = torch.eye(4, dtype=torch.float64)
        assert torch.allclose(theta[:4] @ theta[:4].T, one)
        assert torch.allclose(theta[4:] @ theta[4:].T, one)
        assert not torch.allclose(theta[:4] @ theta[4:].T, one, atol=0.5)

    @pytest.mark.parametrize(
        ("law", "fourth"), [("sphere", 0.025), ("cube", 0.0181), ("orthonormal", 0.025)]
    )
    def test_moments(self, law, fourth):
        """E θθᵀ = I/d for every law; E θ₁⁴ = 3/(d(d + 2)) on the sphere and less for the cube."""
        theta = slices(torch.zeros(1, 10, dtype=torch.float64), 100_000, law)
        second = theta.T @ theta / len(theta)
        assert torch.allclose(second, torch.eye(10, dtype=theta.dtype) / 10, atol=2e-3)
        assert theta.pow(4).mean().item() == pytest.approx(fourth, rel=0.015)

    def test_orthonormal_blocks_have_less_noise(self):
        a, c = clouds(64, 10)
        spread = {}
        for law in ("sphere", "orthonormal"):
            result = [
                optimal_transport.sliced_wasserstein(a, c, slices(a, 30, law, seed=s))
                for s in range(60)
            ]
            spread[law] = torch.stack(result).std().item()
        assert spread["orthonormal"] < 0.7 * spread["sphere"]

    @pytest.mark.parametrize("law", optimal_transport.SLICE_LAWS)
    def test_of_bfloat16_and_of_no_features(self, law):
        theta = slices(torch.zeros(5, 4, dtype=torch.bfloat16), 6, law)
        assert theta.dtype == torch.bfloat16
        assert torch.allclose(norm(theta.float(), 2), torch.ones(6), atol=0.01)
        assert slices(torch.zeros(5, 0), 6, law).shape[1] == 0

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ({"law": "ball"}, r"law = 'ball' is not allowed: law must be one of sphere, cube, ort"),
            ({"count": 0}, r"count = 0 is not allowed: count must be a number of slices ≥ 1"),
        ],
    )
    def test_bad_input(self, bad, message):
        with pytest.raises(ValueError, match=message):
            optimal_transport.random_slices(torch.zeros(2, 3), **bad)


class TestSliced:
    @pytest.mark.parametrize("law", optimal_transport.SLICE_LAWS)
    def test_twin(self, law):
        a, c = clouds()
        theta = slices(a, 7, law)
        lists = a.tolist(), c.tolist(), theta.tolist()
        value = optimal_transport.sliced_wasserstein(a, c, theta)
        assert value.item() == pytest.approx(literal.sliced(*lists), rel=1e-12)
        moved = optimal_transport.displacement(optimal_transport.slice_gaps(a, c, theta), theta)
        twin = torch.tensor(literal.movement(*lists), dtype=a.dtype)
        assert torch.allclose(moved, twin, rtol=1e-12)

    def test_a_slice_is_the_best_assignment(self):
        a, c = clouds()
        for theta in slices(a, 5).split(1):
            best = assignment(optimal_transport.ground_cost(a @ theta.T, c @ theta.T))
            assert optimal_transport.sliced_wasserstein(a, c, theta).item() == pytest.approx(
                best, rel=1e-12
            )

    def test_and_so_of_all_permutations(self):
        a, c = clouds(5, 2)
        theta = slices(a, 1)
        s, t = (a @ theta.T)[:, 0], (c @ theta.T)[:, 0]
        every = [(s - t[list(p)]).square().mean().item() for p in itertools.permutations(range(5))]
        result = optimal_transport.sliced_wasserstein(a, c, theta).item()
        assert result == pytest.approx(min(every), rel=1e-12)

    def test_the_displacement_is_the_gradient(self):
        """Δ = −(K·B/2)·∂SW/∂source, and the opposite mass pulls on the target."""
        a, c = clouds()
        theta = slices(a, 32)
        a.requires_grad_()
        c.requires_grad_()
        grads = torch.autograd.grad(optimal_transport.sliced_wasserstein(a, c, theta), (a, c))
        delta = optimal_transport.displacement(optimal_transport.slice_gaps(a, c, theta), theta)
        assert torch.allclose(delta, -(32 * len(a) / 2) * grads[0], rtol=1e-13, atol=1e-14)
        assert torch.allclose(grads[0].sum(0), -grads[1].sum(0), rtol=1e-12)

    def test_gradcheck(self):
        a, c = clouds(6, 3)
        theta = slices(a, 5)
        pair = (a.requires_grad_(), c.requires_grad_())
        assert torch.autograd.gradcheck(
            lambda u, v: optimal_transport.sliced_wasserstein(u, v, theta), pair
        )

    @pytest.mark.parametrize("law", optimal_transport.SLICE_LAWS)
    def test_a_permuted_cloud_is_the_same_cloud(self, law):
        a, _ = clouds()
        theta, order = slices(a, 32, law), torch.randperm(len(a))
        assert torch.equal(
            optimal_transport.slice_gaps(a, a[order], theta), torch.zeros(len(a), 32, dtype=a.dtype)
        )

    def test_a_shifted_cloud(self):
        """W₂² of each slice is (θ·t)²; over orthonormal slices they average to ‖t‖²/d."""
        a, _ = clouds()
        t = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=a.dtype)
        theta = slices(a, 6)
        expected = (theta @ t).square().mean()
        assert torch.allclose(
            optimal_transport.sliced_wasserstein(a, a + t, theta), expected, rtol=1e-12
        )
        whole = optimal_transport.sliced_wasserstein(a, a + t, slices(a, 8, "orthonormal"))
        assert torch.allclose(whole, t.square().sum() / 4, rtol=1e-12)
        moved = optimal_transport.displacement(optimal_transport.slice_gaps(a, a + t, theta), theta)
        assert torch.allclose(moved, ((theta @ t) @ theta).expand_as(a), rtol=1e-10)

    def test_not_above_the_paired_distance(self):
        """On the same slices, W₂² ≤ mean (s − t)² ; over orthonormal ones that is the mean square
        of the logits' gap."""
        for seed in range(5):
            a, c = clouds(seed=seed)
            theta = slices(a, 32)
            paired = ((a - c) @ theta.T).square().mean(0)
            assert (
                optimal_transport.slice_gaps(a, c, theta).square().mean(0) <= paired + 1e-12
            ).all()
            theta = slices(a, 4, "orthonormal")
            assert optimal_transport.sliced_wasserstein(
                a, c, theta
            ) <= torch.nn.functional.mse_loss(a, c)

    def test_ties_are_harmless(self):
        a, c = clouds()
        same = torch.zeros_like(a, requires_grad=True)
        value = optimal_transport.sliced_wasserstein(same, c, slices(a, 8))
        (grad,) = torch.autograd.grad(value, same)
        assert value.isfinite()
        assert grad.isfinite().all()

    def test_empty_batches_and_sizes_that_differ(self):
        nothing = torch.zeros(0, 3)
        assert optimal_transport.sliced_wasserstein(nothing, nothing, slices(nothing, 4)) == 0
        with pytest.raises(ValueError, match=r"target.shape = \(2, 3\) is not allowed"):
            optimal_transport.slice_gaps(torch.zeros(4, 3), torch.zeros(2, 3), torch.eye(3))


class TestTrajectory:
    def test_rows_have_length_one_and_no_graph(self):
        a, c = clouds()
        a.requires_grad_()
        theta = slices(a, 32)
        delta = optimal_transport.displacement(optimal_transport.slice_gaps(a, c, theta), theta)
        result = optimal_transport.trajectory(delta, torch.randn_like(a))
        assert not result.requires_grad
        assert torch.allclose(norm(result, 2), torch.ones(len(a), dtype=a.dtype))
        assert torch.allclose(result * norm(delta.detach(), 2)[:, None], delta.detach())

    @pytest.mark.parametrize("size", [0.0, 1e-13, 1e-30])
    def test_what_does_not_move_takes_the_other_direction(self, size):
        instead = torch.randn(3, 4)
        result = optimal_transport.trajectory(torch.full((3, 4), size), instead)
        assert torch.allclose(result, instead / norm(instead, 2)[:, None])


class TestMaxSlice:
    def test_of_a_shifted_cloud_is_the_shift(self):
        a, _ = clouds(64)
        t = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=a.dtype)
        theta = optimal_transport.max_slice(a, a + t, slices(a, 4), steps=50)
        assert torch.allclose((theta @ t).abs(), t.norm(), rtol=1e-6)
        value = optimal_transport.sliced_wasserstein(a, a + t, theta)
        assert torch.allclose(value, t.square().sum(), rtol=1e-6)

    def test_against_a_fine_grid_of_the_circle(self):
        a, c = clouds(20, 2)
        angle = torch.linspace(0, math.pi, 20_001, dtype=a.dtype)
        grid = torch.stack([angle.cos(), angle.sin()], 1)
        most = optimal_transport.slice_gaps(a, c, grid).square().mean(0).max()
        starts = slices(a, 16)
        result = optimal_transport.sliced_wasserstein(
            a, c, optimal_transport.max_slice(a, c, starts)
        )
        assert result.item() == pytest.approx(most.item(), rel=1e-6)
        assert result >= optimal_transport.slice_gaps(a, c, starts).square().mean(0).max()

    def test_leaves_no_graph(self):
        a, c = clouds()
        starts = slices(a, 2)
        theta = optimal_transport.max_slice(a.requires_grad_(), c, starts)
        assert not theta.requires_grad
        assert not starts.requires_grad
        assert optimal_transport.sliced_wasserstein(a, c, theta).requires_grad
        still = optimal_transport.max_slice(a, a, starts)
        assert torch.allclose(norm(still, 2), torch.ones(1, dtype=a.dtype))

    def test_starts_of_any_length_count_by_their_direction(self):
        a, c = clouds()
        starts = slices(a, 4)
        theta = optimal_transport.max_slice(a, c, starts * 100)
        assert torch.allclose(theta, optimal_transport.max_slice(a, c, starts))
