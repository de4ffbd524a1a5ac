"""Binary features: what may flip, the relaxation and its way back, and the best flips."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.evaluation.judge import feasible
from sparring.functional.geometry import project_l1
from sparring.threats import Bits, Transport
from sparring.threats.bits import project_l1_sparse
from tests.oracles import admissible_bits
from tests.reference import threats as reference


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bits(b: int = 4, d: int = 7, seed: int = 0) -> Batch:
    x = (torch.rand(b, d, generator=draw(seed), dtype=torch.float64) < 0.4).double()
    return Batch(x, torch.zeros(b, dtype=torch.long))


def around(batch: Batch, seed: int = 1, scale: float = 1.0) -> Tensor:
    return batch.x + scale * torch.randn(batch.x.shape, generator=draw(seed), dtype=torch.float64)


MASK = [1, 0, 1, 1, 0, 1, 1]
EVERY = pytest.mark.parametrize(
    "threat",
    [Bits(), Bits(2), Bits(0), Bits(3, add_only=False), Bits(2, mutable=MASK), Bits(mutable=MASK)],
    ids=["all", "2", "0", "3-both-ways", "2-masked", "masked"],
)


@given(
    seed=st.integers(0, 999),
    eps=st.sampled_from([0, 1, 2, 4, math.inf]),
    add_only=st.booleans(),
    mutable=st.lists(st.integers(0, 1), min_size=6, max_size=6),
)
def test_a_linear_gain_is_climbed_to_the_best_flips_of_all(seed, eps, add_only, mutable):
    w, batch = torch.randn(6, generator=draw(seed), dtype=torch.float64), bits(3, 6, seed + 1)
    threat = Bits(eps, add_only=add_only, mutable=mutable)
    attack = PGD(threat, steps=12, size=0.25, seed=seed)
    result = attack.maximize(lambda z: z @ w, batch)
    assert admissible_bits(threat, result, batch.x).all()
    for row, x in zip((result - batch.x) @ w, batch.x.int().tolist(), strict=True):
        best = reference.best_flips(w.tolist(), x, budget=eps, add_only=add_only, mutable=mutable)
        assert row.item() == pytest.approx(best, abs=1e-12)


def test_adding_is_worth_the_largest_weights_of_what_is_absent():
    w, batch = torch.randn(40, generator=draw(3), dtype=torch.float64), bits(5, 40)
    result = PGD(Bits(6), steps=20, size=0.2).maximize(lambda z: z @ w, batch)
    worth = torch.where(batch.x == 0, w.clamp_min(0), 0).topk(6).values.sum(1)
    assert torch.allclose((result - batch.x) @ w, worth)


@EVERY
def test_the_relaxation_is_kept_and_rounding_ends_in_the_set(threat):
    batch = bits(6)
    for z in (threat.random_start(batch, draw(2)), threat.project(around(batch), batch)):
        assert ((z >= 0) & (z <= 1)).all()
        assert ((z - batch.x).abs().sum(1) <= threat.eps + 1e-9).all()
        if threat.add_only:
            assert (z >= batch.x).all()
        if threat.mutable is not None:
            assert torch.equal(z[:, [1, 4]], batch.x[:, [1, 4]])
        end = threat.discretize(z, batch)
        assert admissible_bits(threat, end, batch.x).all()
        assert threat.distance(end, batch.x).tolist() == (end != batch.x).sum(1).tolist()
    assert admissible_bits(threat, batch.x, batch.x).all()


@EVERY
def test_the_projection_is_the_nearest_point_of_the_relaxation(threat):
    """No feasible point, and no mixture with one, is nearer."""
    batch = bits(3)
    z = around(batch)
    result = threat.project(z, batch)
    far = (result - z).square().sum(1)
    for seed in range(40):
        other = threat.project(around(batch, seed + 9, 0.7), batch)
        for t in (0.01, 0.3, 1.0):
            mixed = result + t * (other - result)
            assert ((mixed - z).square().sum(1) >= far - 1e-9).all()


def test_projecting_what_moved_is_projecting_all():
    x = torch.zeros(5, 60, dtype=torch.float64)
    z = x.clone()
    z[:, ::9] = 3 * torch.rand(5, 7, generator=draw(0), dtype=torch.float64)
    for eps in (0.0, 1.0, 2.5, 100.0):
        assert torch.equal(project_l1_sparse(z, x, eps, 0, 1), project_l1(z, x, eps, 0, 1))
    assert project_l1_sparse(z[:0], x[:0], 1.0, 0, 1).shape == (0, 60)


def test_rounding_takes_the_largest_moves_beyond_a_half():
    x = torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0]])
    z, batch = torch.tensor([[0.5, 0.6, 0.9, 0.1, 0.5]]), Batch(x, torch.tensor([0]))
    for threat, end in (
        (Bits(), [0, 1, 1, 1, 1]),
        (Bits(1), [0, 0, 1, 1, 1]),
        (Bits(2, add_only=False), [0, 0, 1, 0, 1]),
        (Bits(add_only=False), [0, 1, 1, 0, 1]),
        (Bits(mutable=[1, 1, 0, 1, 1]), [0, 1, 0, 1, 1]),
    ):
        assert threat.discretize(z, batch).tolist() == [end]


def test_what_is_admissible():
    x = torch.tensor([[0.0, 0.0, 1.0]]).repeat(6, 1)
    tried = torch.tensor(
        [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0], [0.5, 0, 1], [math.nan, 0, 1]]
    )
    for threat, ok in (
        (Bits(), [1, 1, 1, 0, 0, 0]),
        (Bits(1), [1, 1, 0, 0, 0, 0]),
        (Bits(1, add_only=False), [1, 1, 0, 1, 0, 0]),
        (Bits(mutable=[True, False, True]), [1, 1, 0, 0, 0, 0]),
        (Bits(0), [1, 0, 0, 0, 0, 0]),
    ):
        expected = [bool(v) for v in ok]
        assert admissible_bits(threat, tried, x).tolist() == expected
        assert feasible(threat, tried, x, torch.zeros(6, dtype=torch.long)).tolist() == expected


def test_a_step_goes_along_the_sign_and_with_a_budget_in_the_largest_ones_only():
    x = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    z = torch.tensor([[0.0, 0.5, 0.0, 1.0]])
    g, batch = torch.tensor([[3.0, -1.0, 2.0, 9.0]]), Batch(x, torch.tensor([0]))
    assert torch.allclose(
        Bits().step(z, g, 0.25, batch) - z, torch.tensor([[0.25, -0.25, 0.25, 0]])
    )
    assert torch.allclose(Bits(1).step(z, g, 0.25, batch) - z, torch.tensor([[0.25, -0.25, 0, 0]]))
    far = Bits().step(z, g, math.inf, batch)
    assert torch.equal(far - z, torch.tensor([[1.0, -1.0, 1.0, 0.0]]))


@pytest.mark.parametrize("q", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("p", [1, 2])
def test_the_cost_of_flips_is_that_of_transport(p, q):
    batch = bits(6)
    z = Bits(4).discretize(Bits(4).random_start(batch, draw(5)), batch)
    assert (z != batch.x).any()
    threat, plain = Bits(scale=0.3, power=q / p), Transport(0.3, p=p, power=q)
    assert torch.allclose(threat.cost(z, batch), plain.cost(z, batch))
    assert Bits().cost(z, batch).eq(0).all()


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_cost_has_a_finite_slope_also_at_x(power):
    batch, threat = bits(6), Bits(scale=0.3, power=power, add_only=False)
    slopes = []
    for z in (batch.x.clone(), threat.project(around(batch), batch)):
        z.requires_grad_()
        slopes += torch.autograd.grad(threat.cost(z, batch).sum(), z)
    assert all(s.isfinite().all() for s in slopes)
    if power == 1:  # leaving x costs 0.3 a flip from the first bit of the way on
        assert torch.allclose(slopes[0], 0.3 * (1 - 2 * batch.x))
    toy, h = torch.tensor([[0.75, 0.5]]), 1.25
    batch = Batch(torch.zeros(1, 2), torch.tensor([0]))
    assert threat.cost(toy, batch).item() == pytest.approx(0.3 * h**power)


def test_a_multiplier_keeps_what_gains_less():
    w = torch.tensor([0.5, 0.2, -0.4, 0.31], dtype=torch.float64)
    batch, threat = Batch(torch.zeros(1, 4).double(), torch.tensor([0])), Bits(scale=0.3)

    def f(z: Tensor) -> Tensor:
        return z @ w - threat.cost(z, batch)

    result = PGD(threat, steps=10, size=0.2).maximize(f, batch)
    assert result.tolist() == [[1.0, 0.0, 0.0, 1.0]]


def test_a_start_fills_the_budget_at_random_and_moves_nothing_else():
    batch = bits(200, 20)
    start = Bits(3).random_start(batch, draw(0))
    assert ((start != batch.x).sum(1) == 3).all()
    assert start[start != batch.x].mean().item() == pytest.approx(0.5, abs=0.05)
    hits = (start != batch.x).double().sum(0) / (batch.x == 0).sum(0)
    assert hits.std() < 0.06
    all_of_them = Bits(add_only=False).random_start(batch, draw(0))
    assert ((all_of_them != batch.x).sum(1) == 20).all()


def test_refusals():
    for wrong in (-1, 0.5):
        with pytest.raises(ValueError, match=f"eps = {wrong} is not allowed: eps must be a whole"):
            Bits(wrong)
    with pytest.raises(
        ValueError, match="mutable = 2 is not allowed: mutable must be zeros and on"
    ):
        Bits(mutable=[0, 2])
    with pytest.raises(ValueError, match=r"scale = -1\.0 is not allowed"):
        Bits(scale=-1.0)
    with pytest.raises(ValueError, match="power = 0 is not allowed"):
        Bits(power=0)
    batch = bits(2, 5)
    for verb in (Bits(mutable=[1] * 4).project, Bits(mutable=[1] * 4).discretize):
        with pytest.raises(ValueError, match="mutable has 4 entries and x has 5 features"):
            verb(batch.x, batch)
    grey = Batch(torch.tensor([[0.0, 0.25]]), torch.tensor([0]))
    for act in (lambda: Bits().random_start(grey), lambda: Bits().discretize(grey.x, grey)):
        with pytest.raises(ValueError, match=r"x has the value 0\.25: for Bits every .* 0 or 1"):
            act()
