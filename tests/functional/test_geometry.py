"""Projections against bisection, their properties, and the shape of the random points."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparring.functional import geometry
from tests.reference import balls

PROJECT = {math.inf: geometry.project_linf, 2.0: geometry.project_l2, 1.0: geometry.project_l1}
LITERAL = {math.inf: balls.linf, 2.0: balls.l2, 1.0: balls.l1}
SAMPLE = {math.inf: geometry.sample_linf, 2.0: geometry.sample_l2, 1.0: geometry.sample_l1}
EVERY = pytest.mark.parametrize("p", list(PROJECT))
NORMS = st.sampled_from(list(PROJECT))
RADII = st.sampled_from([0.0, 0.25, 1.0]) | st.floats(1e-3, 4.0)


@st.composite
def pairs(draw) -> tuple[Tensor, Tensor]:
    """x inside the box, some of it on its edge, and z anywhere; equal coordinates, zeros and ties
    are frequent."""
    b, d = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    inside = st.sampled_from([0.0, 1.0, 0.5]) | st.floats(0, 1)
    moves = st.sampled_from([0.0, 0.25, -0.25]) | st.floats(-3, 3)
    x = [[draw(inside) for _ in range(d)] for _ in range(b)]
    z = [[v + draw(moves) for v in row] for row in x]
    return torch.tensor(x, dtype=torch.float64), torch.tensor(z, dtype=torch.float64)


def project(p: float, z: Tensor, x: Tensor, eps: float | Tensor) -> Tensor:
    return PROJECT[p](z, x, eps, 0.0, 1.0)


@EVERY
@pytest.mark.parametrize("eps", [0.05, 0.3, 1.0])
def test_many_points_at_once_are_projected_as_literally(p, eps):
    """All corners of the problem: room left or not, active or not, mixed within a point."""
    draw = torch.Generator().manual_seed(0)
    x = (1.6 * torch.rand(60, 5, generator=draw, dtype=torch.float64) - 0.3).clamp(0, 1)
    z = x + 0.5 * torch.randn(60, 5, generator=draw, dtype=torch.float64)
    twin = [LITERAL[p](b, a, eps, 0.0, 1.0) for a, b in zip(x.tolist(), z.tolist(), strict=True)]
    assert torch.allclose(
        project(p, z, x, eps), torch.tensor(twin, dtype=x.dtype), rtol=0, atol=1e-7
    )


@given(p=NORMS, pair=pairs(), eps=RADII)
def test_the_projection_is_the_literal_one(p, pair, eps):
    x, z = pair
    result = project(p, z, x, eps)
    for row, a, b in zip(result, x, z, strict=True):
        twin = LITERAL[p](b.tolist(), a.tolist(), eps, 0.0, 1.0)
        assert torch.allclose(row, torch.tensor(twin, dtype=x.dtype), rtol=0, atol=1e-7)


@given(p=NORMS, pair=pairs(), eps=RADII)
def test_feasible(p, pair, eps):
    x, z = pair
    for kind in (torch.float64, torch.float32):
        result = project(p, z.to(kind), x.to(kind), eps)
        assert result.dtype == kind
        assert (result >= 0).all()
        assert (result <= 1).all()
        slack = 1e-12 if kind == torch.float64 else 1e-6
        assert (geometry.norm(result - x.to(kind), p) <= eps * (1 + slack) + slack).all()


@given(p=NORMS, pair=pairs(), eps=RADII, seed=st.integers(0, 9))
def test_nothing_feasible_is_nearer(p, pair, eps, seed):
    x, z = pair
    result = project(p, z, x, eps)
    draw = torch.Generator().manual_seed(seed)
    others = (x + SAMPLE[p](x, eps, draw)).clamp(0, 1)
    for other in (others, x, (x + result) / 2):  # (z − P)·(q − P) ≤ 0 for every feasible q
        assert (((z - result) * (other - result)).sum(1) <= 1e-7).all()


@given(p=NORMS, pair=pairs(), eps=RADII)
def test_idempotent_and_the_identity_inside(p, pair, eps):
    x, z = pair
    once = project(p, z, x, eps)
    assert torch.allclose(project(p, once, x, eps), once, rtol=0, atol=1e-9)
    assert torch.allclose(project(p, x, x, eps), x, rtol=0, atol=0)
    inside = z.clamp(0, 1)
    largest = geometry.norm(inside - x, p).max().item() + 1e-6
    assert torch.allclose(project(p, inside, x, largest), inside, rtol=0, atol=1e-9)


@given(p=NORMS, pair=pairs(), eps=RADII, seed=st.integers(0, 9))
def test_rows_and_coordinates_may_be_permuted(p, pair, eps, seed):
    x, z = pair
    draw = torch.Generator().manual_seed(seed)
    rows, columns = (
        torch.randperm(len(x), generator=draw),
        torch.randperm(x.shape[1], generator=draw),
    )
    result = project(p, z, x, eps)
    assert torch.equal(project(p, z[rows], x[rows], eps), result[rows])
    assert torch.allclose(
        project(p, z[:, columns], x[:, columns], eps), result[:, columns], rtol=0, atol=1e-9
    )


@given(p=NORMS, pair=pairs(), eps=st.floats(1e-3, 2.0), scale=st.floats(0.1, 10.0))
def test_units_do_not_matter(p, pair, eps, scale):
    x, z = pair
    scaled = PROJECT[p](scale * z, scale * x, scale * eps, 0.0, scale)
    assert torch.allclose(scaled, scale * project(p, z, x, eps), rtol=0, atol=1e-8)


@EVERY
def test_a_radius_of_its_own_for_every_sample(p):
    x, z = torch.full((3, 2, 2), 0.5), torch.rand(3, 2, 2)
    eps = torch.tensor([0.0, 0.1, 5.0])
    result = project(p, z, x, eps)
    for i, one in enumerate(eps.tolist()):
        row = slice(i, i + 1)
        assert torch.allclose(result[row], project(p, z[row], x[row], one))
    assert torch.equal(result[0], x[0])
    assert torch.allclose(result[2], z[2])


@EVERY
@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_empty(p, shape):
    x = torch.zeros(shape)
    assert project(p, x, x, 0.1).shape == shape
    assert geometry.norm(x, p).shape == shape[:1]


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_ball_that_ends_where_the_box_does(p, dtype):
    """The first coordinate just fills the ball; rounding must not send the point back to x."""
    x = torch.zeros(4, 2, dtype=dtype)
    z = torch.tensor([[1.4375, 1e-20], [1.1, 1e-9], [3.0, 1e-30], [1.3, 0.0]], dtype=dtype)
    assert torch.allclose(project(p, z, x, 1.0)[:, 0], torch.ones(4, dtype=dtype))


@EVERY
def test_norm_and_unit(p):
    delta = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    expected = {math.inf: 4.0, 2.0: 5.0, 1.0: 7.0}[p]
    assert torch.equal(geometry.norm(delta, p), torch.tensor([expected, 0.0]))
    assert torch.allclose(
        geometry.normalize(delta, p), torch.tensor([[3.0, -4.0], [0.0, 0.0]]) / expected
    )


def test_expand_broadcasts_over_samples():
    like = torch.zeros(2, 3, 4, dtype=torch.float64)
    assert geometry.broadcast_scale(0.5, like).shape == ()
    assert geometry.broadcast_scale(torch.ones(2), like).shape == (2, 1, 1)
    assert geometry.broadcast_scale(torch.ones(2), like).dtype == like.dtype


@EVERY
def test_random_points_are_uniform_in_the_ball(p):
    """‖δ‖/eps to the power d is uniform on [0, 1], and no coordinate or sign is preferred."""
    like, eps, d = torch.zeros(20_000, 3), 0.7, 3
    delta = SAMPLE[p](like, eps, torch.Generator().manual_seed(0))
    depth, _ = (geometry.norm(delta, p) / eps).pow(d).sort()
    steps = torch.linspace(0, 1, len(depth))
    assert (depth - steps).abs().max() < 1.63 / len(depth) ** 0.5  # Kolmogorov and Smirnov at 1 %
    spread = delta.std(0)
    assert (delta.mean(0).abs() < 4 * spread / len(delta) ** 0.5).all()
    assert torch.allclose(spread, spread.mean(), rtol=0.03)


@EVERY
def test_random_points_come_from_the_generator_alone(p):
    like, before = torch.zeros(2, 3), torch.get_rng_state()
    first = SAMPLE[p](like, 1.0, torch.Generator().manual_seed(1))
    assert torch.equal(SAMPLE[p](like, 1.0, torch.Generator().manual_seed(1)), first)
    assert torch.equal(torch.get_rng_state(), before)


@EVERY
def test_many_features_in_float32(p):
    """A whole image: sums of thousands of terms stay within the radius."""
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 32, 32, generator=draw)
    z = x + torch.randn(x.shape, generator=draw)
    for eps in (1e-3, 0.5, 20.0):
        result = project(p, z, x, eps)
        assert (geometry.norm((result - x).double(), p) <= eps * (1 + 1e-5)).all()
        exact = project(p, z.double(), x.double(), eps)
        assert torch.allclose(result.double(), exact, rtol=0, atol=2e-5)


@EVERY
@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-23, 1e-15, 1e-8, 1.0, 1e15, 1e20, 1e30, 1e38])
def test_a_direction_is_free_of_scale(p, scale):
    """Squares of float32 leave its range below 1e-23 and above 2e19."""
    shape = torch.tensor([[3.0, -2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.5, 0.25]])
    delta = shape * scale
    exact = delta.double() / geometry.norm(delta.double(), p).clamp_min(1e-300)[:, None]
    assert torch.allclose(geometry.normalize(delta, p).double(), exact, rtol=1e-5, atol=1e-7)


@EVERY
def test_directions_of_ordinary_length_are_the_plain_quotient(p):
    """To the last bit, beside rows that are too short or too long."""
    sizes = torch.logspace(-14, 14, 29)[:, None]
    delta = torch.randn(29, 7, generator=torch.Generator().manual_seed(0)) * sizes
    found = geometry.normalize(torch.cat([delta, delta[:1] * 1e-20, delta[-1:] * 1e15]), p)
    assert torch.equal(found[:29], delta / geometry.norm(delta, p)[:, None])


@pytest.mark.parametrize("scale", [1e-11, 1e-7, 1.0, 1e7])
def test_the_alignment_is_free_of_scale(scale):
    draw = torch.Generator().manual_seed(0)
    g, h = torch.randn(2, 6, 50, generator=draw)
    exact = 1 - torch.nn.functional.cosine_similarity(g.double(), h.double())
    short = (scale * h).requires_grad_()
    apart, valid = geometry.alignment(scale * g, short)
    assert valid.all()
    assert torch.allclose(apart.double(), exact, atol=1e-6)
    assert torch.allclose(geometry.alignment(scale * g, scale * g)[0], torch.zeros(6), atol=1e-6)
    (slope,) = torch.autograd.grad(apart.sum(), short)
    usual = h.clone().requires_grad_()
    (expected,) = torch.autograd.grad(geometry.alignment(g, usual)[0].sum(), usual)
    assert torch.allclose(slope * scale, expected, rtol=1e-4, atol=1e-6)
