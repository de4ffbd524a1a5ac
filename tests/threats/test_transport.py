"""Transport: the cost, its best point in closed form, and the published loop."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.functional.geometry import normalize
from sparring.functional.losses import cross_entropy
from sparring.methods import AT
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Transport
from tests.oracles import problem
from tests.reference import threats as reference

NORMS = [1, 2, math.inf]


def centre(b: int = 3, d: int = 5) -> Batch:
    return Batch(torch.full((b, d), 0.5, dtype=torch.float64), torch.zeros(b, dtype=torch.long))


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(
    g: Tensor, threat: Transport, batch: Batch, multiplier: float
) -> Callable[[Tensor], Tensor]:
    """g·z − λ·c(z)."""

    def f(z: Tensor) -> Tensor:
        value = (z * g).flatten(1).sum(1) - multiplier * threat.cost(z, batch)
        return value

    return f


@given(
    p=st.sampled_from(NORMS),
    power=st.floats(1.0, 4.0),
    scale=st.floats(1e-3, 10.0),
    seed=st.integers(0, 99),
    shape=st.sampled_from([(4,), (1, 2, 3)]),
)
def test_the_cost_is_that_of_the_formula(p, power, scale, seed, shape):
    x, z = randn(2, *shape, seed=seed), randn(2, *shape, seed=seed + 1)
    threat, batch = Transport(scale, p=p, power=power), Batch(x, torch.tensor([0, 1]))
    for reported, a, b in zip(threat.cost(z, batch).tolist(), x, z, strict=True):
        a, b = a.flatten().tolist(), b.flatten().tolist()
        assert reported == pytest.approx(reference.transport_cost(a, b, scale, p, power), rel=1e-9)
    assert torch.allclose(threat.distance(z, x), (threat.cost(z, batch) / scale) ** (1 / power))


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 3.0])
def test_the_slope_at_x_is_zero_and_near_it_finite(p, power):
    batch = centre()
    for z in (batch.x, batch.x + 1e-160, batch.x + 1e-8 * randn(3, 5)):
        at = z.clone().requires_grad_()
        (slope,) = torch.autograd.grad(Transport(1.0, p=p, power=power).cost(at, batch).sum(), at)
        assert slope.isfinite().all()
        if z is batch.x:
            assert slope.eq(0).all()


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("power", [1.5, 2.0, 3.0])
def test_the_best_of_a_linear_gain_is_the_conjugate_of_the_cost(p, power):
    g, batch, multiplier, scale = 0.05 * randn(3, 5), centre(), 0.7, 0.4
    threat = Transport(scale, p=p, power=power, clip=False)
    f = linear(g, threat, batch, multiplier)
    top = [reference.transport_gain(row, multiplier, scale, p, power) for row in g.tolist()]
    best = torch.tensor(top, dtype=torch.float64)
    at_x = f(batch.x)
    steepest = {
        1: g * (g.abs() == g.abs().amax(1, keepdim=True)),
        2: g,
        math.inf: g.sign(),
    }[p]
    along = normalize(steepest, p)
    slope = (along * g).sum(1)
    r = (slope / (multiplier * scale * power)) ** (1 / (power - 1))
    assert torch.allclose(f(batch.x + r[:, None] * along) - at_x, best)
    for seed in range(50):  # and nothing is better
        z = batch.x + (2 * r[:, None] * normalize(randn(3, 5, seed=seed), 2))
        assert (f(z) - at_x <= best + 1e-12).all()


def test_gradient_steps_end_at_g_over_2_lambda_l():
    g, batch, multiplier, scale = 0.1 * randn(3, 5), centre(), 0.8, 2.0
    threat = Transport(scale, descent="gradient")
    attack = PGD(threat, steps=60, size=0.5 / (2 * multiplier * scale))
    result = attack.maximize(linear(g, threat, batch, multiplier), batch)
    assert torch.allclose(result - batch.x, g / (2 * multiplier * scale), atol=1e-9)


@pytest.mark.parametrize(("descent", "near"), [("sign", 0.002), ("l2", 0.002)])
def test_the_other_steps_come_as_near_as_their_length(descent, near):
    g, batch, multiplier, scale = 0.1 * randn(3, 5), centre(), 0.8, 2.0
    threat = Transport(scale, descent=descent)
    result = PGD(threat, steps=200, size=near).maximize(linear(g, threat, batch, multiplier), batch)
    off = result - batch.x - g / (2 * multiplier * scale)
    assert off.abs().max() <= near


def test_the_box_cuts_each_coordinate_of_a_separable_cost():
    """p = power = 2: the best point in the box is the free one, clipped."""
    g, multiplier, scale = 3 * randn(4, 5), 0.5, 1.0
    x = torch.rand(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    batch = Batch(x, torch.zeros(4, dtype=torch.long))
    threat = Transport(scale, descent="gradient")
    result = PGD(threat, steps=80, size=0.5).maximize(linear(g, threat, batch, multiplier), batch)
    assert torch.allclose(result, (batch.x + g / (2 * multiplier * scale)).clamp(0, 1), atol=1e-9)
    loose = Transport(scale, descent="gradient", clip=False)
    free = PGD(loose, steps=80, size=0.5).maximize(linear(g, loose, batch, multiplier), batch)
    assert torch.allclose(free, batch.x + g / (2 * multiplier * scale), atol=1e-9)


@pytest.mark.parametrize(
    ("p", "power", "scale"), [(2, 1.5, 0.1), (2, 1.0, 0.01), (2, 2.5, 0.1), (math.inf, 1.5, 0.2)]
)
@pytest.mark.parametrize("multiplier", [0.5, 2.0])
def test_an_objective_climbs_as_the_published_loop_does(p, power, scale, multiplier):
    """z ← z + 0.01·sign ∇[ℓ/λ − L‖z − x‖_p^q], unclipped, from x, 20 times; in float64."""
    model, x, y = problem()
    z = x.clone()
    for _ in range(20):
        z = z.detach().requires_grad_()
        cost = scale * torch.linalg.vector_norm(z - x, ord=p, dim=1) ** power
        value = cross_entropy(model(z), y) / multiplier - cost
        z = z + 0.01 * torch.autograd.grad(value.sum(), z)[0].sign()
    z = z.detach()
    assert ((z < 0) | (z > 1)).any()
    threat = Transport(scale, p=p, power=power, clip=False)
    attack = PGD(threat, steps=20, size=0.01, random_start=False, best=False)
    batch = Objective(attack, AT(), Mean(multiplier=multiplier)).maximize(model, Batch(x, y))
    assert torch.allclose(batch.x_adv, z, rtol=0, atol=1e-12)
    paid = scale * torch.linalg.vector_norm(z - x, ord=p, dim=1) ** power
    assert torch.allclose(batch.cost, paid)


def test_a_high_multiplier_holds_the_adversary_and_a_low_one_lets_it_go():
    model, x, y = problem()
    moved = []
    for multiplier in (0.01, 1.0, 100.0):
        attack = PGD(Transport(1.0), steps=40, size=0.02)
        batch = Objective(attack, AT(), Mean(multiplier=multiplier)).maximize(model, Batch(x, y))
        assert ((batch.x_adv >= 0) & (batch.x_adv <= 1)).all()
        moved.append((batch.x_adv - x).norm(dim=1).mean().item())
    assert moved[0] > moved[1] > 5 * moved[2]
    assert moved[2] < 0.05


def test_wrm_minimizes_the_loss_less_what_was_paid():
    model, x, y = problem()
    objective = Objective(PGD(Transport(1.0), steps=5, size=0.05), AT(), Mean(multiplier=1.5))
    batch = objective.maximize(model, Batch(x, y))
    total = objective.minimize(model, batch).total
    expected = (
        cross_entropy(model(batch.x_adv), y) - 1.5 * (batch.x_adv - x).square().sum(1)
    ).mean()
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)


def test_starts():
    batch, draw = centre(400, 6), torch.Generator().manual_seed(0)
    assert torch.equal(Transport(1.0, init="zero").random_start(batch, draw), batch.x)
    noise = Transport(1.0, noise=0.01).random_start(batch, draw) - batch.x
    assert noise.std().item() == pytest.approx(0.01, rel=0.05)
    edge = Batch(torch.ones(4, 6), torch.zeros(4, dtype=torch.long))
    assert Transport(1.0, noise=0.1).random_start(edge, draw).max() <= 1
    assert Transport(1.0, noise=0.1, clip=False).random_start(edge, draw).max() > 1


def test_refusals():
    for wrong in (
        {"scale": 0},
        {"scale": -1.0},
        {"p": 3},
        {"p": 0},
        {"power": 0.5},
        {"noise": -1},
        {"init": "uniform"},
        {"descent": "l1"},
        {"scale": math.inf},
        {"power": math.nan},
    ):
        ((key, value),) = wrong.items()
        with pytest.raises(ValueError, match=f"{key} = {value!r} is not allowed: {key} must be"):
            Transport(**{"scale": 1.0, **wrong})
