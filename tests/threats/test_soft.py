"""The soft ball: its step, its multiplier, and what it has in common with the hard one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.methods import AT
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Joint, Linf, Only, SoftLinf, soft
from tests.oracles import problem
from tests.reference import threats as reference


def batch_of(b: int = 4, d: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    x = (1.4 * torch.rand(b, d, generator=draw, dtype=dtype) - 0.2).clamp(0, 1)
    return Batch(x, torch.arange(b) % 2)


def randn(like: Tensor, seed: int = 1) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=draw, dtype=like.dtype)


def moved(batch: Batch, by: float) -> Batch:
    """A batch whose adversary went by this much everywhere, on the mean."""
    signs = torch.ones_like(batch.x)
    signs[:, ::2] = -1
    return Batch(batch.x, batch.y, x_adv=batch.x + by * signs)


@pytest.mark.parametrize("multiplier", [0.0, 0.4, 1.0, 1.7])
@pytest.mark.parametrize("tau", [None, 0.05, 0.5])
def test_a_step_is_that_of_the_formula(multiplier, tau):
    batch, size = batch_of(), 0.1
    threat = SoftLinf(0.2, multiplier=multiplier, tau=tau)
    z, g = batch.x + 0.3 * randn(batch.x), randn(batch.x, 2)
    g[0, 0] = 0
    for values, row, x, slope in zip(threat.step(z, g, size, batch), z, batch.x, g, strict=True):
        expected = reference.soft_step(
            row.tolist(),
            x.tolist(),
            slope.tolist(),
            size=size,
            radius=0.2,
            multiplier=multiplier,
            tau=size if tau is None else tau,
        )
        assert values.tolist() == pytest.approx(expected, abs=1e-6)  # λ is float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_multiplier_1_it_is_the_hard_ball_bit_for_bit(dtype):
    batch = batch_of(8, 7, dtype=dtype)
    w = randn(batch.x)

    def f(z: Tensor) -> Tensor:
        return (w * z).tanh().sum(1)

    soft, hard = (PGD(t(0.1), steps=7, size=0.03, seed=4) for t in (SoftLinf, Linf))
    assert torch.equal(soft.maximize(f, batch), hard.maximize(f, batch))


def test_a_smaller_multiplier_lets_it_go_further_and_the_box_holds():
    batch = Batch(torch.full((2, 3), 0.5), torch.zeros(2, dtype=torch.long))
    reach = []
    for multiplier in (1.0, 0.5, 0.0):
        attack = PGD(SoftLinf(0.1, multiplier=multiplier), steps=20, size=0.1, best=False)
        result = attack.maximize(lambda z: z.sum(1), batch)
        reach.append((result - 0.5).max().item())
    assert reach == pytest.approx([0.1, 0.2, 0.5])  # r; r + a(1 − λ)/λ, where it stands; the box


def test_the_multiplier_follows_the_distance():
    batch, every = batch_of(), 3
    threat = SoftLinf(0.1, multiplier=0.02, every=every, rate=1.0)
    distances = [0.4, 0.2, 0.1, *[0.05] * 3, *[0.0] * 6, 0.3, 0.3]
    expected = reference.soft_multiplier(distances, radius=0.1, start=0.02, rate=1.0, every=every)
    values = []
    for d in distances:
        threat.update(nn.Identity(), moved(batch, d))
        values.append(threat.current_multiplier.item())
    assert values == pytest.approx(expected, abs=1e-6)
    assert len(set(values)) == 5  # it moved four times, and ended at 0
    assert values[-1] == 0.0


def test_by_default_it_moves_every_ten_batches():
    batch, threat = batch_of(), SoftLinf(0.1)
    for k in range(20):
        assert threat.current_multiplier.item() == pytest.approx(1 - 0.02 * 0.07 * (k // 10))
        threat.update(nn.Identity(), moved(batch, 0.03))
    threat.update(nn.Identity(), batch)  # not attacked
    threat.update(nn.Identity(), moved(batch_of(0), 0.03))
    assert threat.current_multiplier.item() == pytest.approx(1 - 0.04 * 0.07)
    assert threat.current_multiplier.isfinite()


def test_a_process_without_rows_takes_part_in_the_joint_mean(monkeypatch):
    """`Only` leaves a process none of its rows: it joins, and weighs nothing."""
    seen = []

    def mean(t):  # of two processes, the other with 3 rows that moved by 0.3
        seen.append(t)
        return (t + torch.tensor([0.9, 3.0])) / 2

    monkeypatch.setattr(soft.distributed, "mean", mean)
    empty, full = SoftLinf(0.1, every=1), SoftLinf(0.1, every=1)
    empty.update(nn.Identity(), moved(batch_of(0), 0.3))
    assert empty.current_multiplier.item() == pytest.approx(1 + 0.02 * 0.2)
    full.update(nn.Identity(), moved(batch_of(), 0.1))
    rows = seen[1][1].item()
    joint = (0.1 * rows + 0.9) / (rows + 3)
    assert full.current_multiplier.item() == pytest.approx(1 - 0.02 * (0.1 - joint), abs=1e-6)


def test_its_state_goes_on_where_it_stopped():
    batch = batch_of()
    one, other = SoftLinf(0.1, every=4), SoftLinf(0.1, every=4)
    for d in (0.3, 0.2, 0.1):
        one.update(nn.Identity(), moved(batch, d))
    other.load_state_dict(one.state_dict())
    assert other.config() == one.config()
    for threat in (one, other):
        for d in (0.6, 0.1):
            threat.update(nn.Identity(), moved(batch, d))
    assert torch.equal(one.current_multiplier, other.current_multiplier)
    assert one.current_multiplier.item() == pytest.approx(1 - 0.02 * (0.1 - 1.2 / 4))


def test_an_objective_updates_it_after_the_step():
    model, x, y = problem()
    threat = SoftLinf(0.1, every=1)
    objective = Objective(PGD(threat, steps=3, size=0.1), AT(), Mean())
    batch = objective.maximize(model, Batch(x, y))
    objective.update(model, batch)
    far = (batch.x_adv - x).abs().mean().item()
    assert threat.current_multiplier.item() == pytest.approx(1 - 0.02 * (0.1 - far), abs=1e-6)
    assert "attack.threat.current_multiplier" in objective.state_dict()


def test_around_it_only_the_classes_that_move_are_counted():
    batch = batch_of(4)
    batch = moved(batch, 0.3)
    batch.x_adv = torch.where(batch.y[:, None] == 1, batch.x_adv, batch.x)
    inner = SoftLinf(0.1, every=1)
    Only(inner, classes=[1]).update(nn.Identity(), batch)
    assert inner.current_multiplier.item() == pytest.approx(1 - 0.02 * (0.1 - 0.3))


def test_the_cost_is_half_the_square_beyond_the_radius():
    x = torch.zeros(2, 3)
    z, batch = torch.tensor([[0.1, -0.1, 0.05], [0.3, -0.4, 0.1]]), Batch(x, torch.tensor([0, 1]))
    cost = SoftLinf(0.1, scale=0.5, tau=0.02).cost(z, batch)
    assert cost.tolist() == pytest.approx([0.0, 0.5 / 0.02 * (0.2**2 + 0.3**2) / 2])
    assert SoftLinf(0.1, tau=0.02).cost(z, batch).tolist() == [0, 0]
    assert SoftLinf(0.1).cost(z, batch).tolist() == [0, 0]


@pytest.mark.parametrize("price", [0.2, 1.0])
def test_a_lagging_step_at_the_price_is_that_of_armors_code(price):
    batch, size = batch_of(), 0.1
    batch.price = torch.tensor(price, dtype=torch.float64)
    threat = SoftLinf(0.2, multiplier=0.7, tau=0.25, scale=0.1, follows="price", lag=True)
    z, g = batch.x + 0.3 * randn(batch.x), randn(batch.x, 2)
    for values, row, x, slope in zip(threat.step(z, g, size, batch), z, batch.x, g, strict=True):
        expected = reference.lagging_soft_step(
            row.tolist(),
            x.tolist(),
            slope.tolist(),
            size=size,
            radius=0.2,
            multiplier=price,
            tau=0.25,
        )
        assert values.tolist() == pytest.approx(expected, abs=1e-12)


def test_with_lag_a_point_stands_one_step_beyond_the_radius_and_pays_for_it():
    """At λ = 1 without lag it is the hard ball; with it, as in ARMOR's code, r + a."""
    x, y = torch.full((2, 5), 0.5), torch.zeros(2, dtype=torch.long)
    model = nn.Linear(5, 2)
    reach, costs = [], []
    for lag in (False, True):
        threat = SoftLinf(8 / 255, tau=2 / 255, scale=0.1, rate=0, follows="price", lag=lag)
        attack = PGD(threat, steps=10, size=2 / 255, best=False, random_start=False)
        batch = Objective(attack, AT(), Mean()).maximize(model, Batch(x, y))
        reach.append(255 * (batch.x_adv - x).abs().max().item())
        costs.append(batch.cost.tolist())
    assert reach == pytest.approx([8, 10], abs=1e-3)
    assert costs[0] == [0, 0]
    assert costs[1] == pytest.approx([0.1 / (2 / 255) * 5 * (2 / 255) ** 2 / 2] * 2, rel=1e-3)


def test_the_search_does_not_pay_twice():
    """The pull is the cost's slope, so the gradient of a search holds the loss alone; its value, by
    which points are ranked, holds both. Around it, too, and the label's part keeps its slope."""
    batch = Batch(torch.full((2, 3), 0.5), torch.tensor([0, 1]))
    soft = SoftLinf(0.1, scale=0.5, tau=0.02)
    for threat in (soft, Only(soft, classes=[0, 1]), Joint(soft, scale=1.0, delta=0.4, classes=2)):
        z = (threat.pack(batch) + 0.02).requires_grad_()
        if threat is not soft:
            z = (z.detach() + 0.1).requires_grad_()
        cost = threat.searched_cost(z, batch)
        assert torch.equal(cost, threat.cost(z, batch))
        slope = torch.autograd.grad(cost.sum() + 0 * z.sum(), z)[0]
        assert (slope[:, :3] == 0).all()
        assert (slope[:, 3:] != 0).any() == isinstance(threat, Joint)


def test_a_start_is_in_the_ball_and_no_point_of_the_box_is_too_far():
    batch = batch_of(50, 20)
    threat = SoftLinf(0.1)
    start = threat.random_start(batch, torch.Generator().manual_seed(5))
    assert threat.distance(start, batch.x).max() <= 0.1 * (1 + 1e-9)
    assert (start - batch.x).abs().max() > 0.09
    assert threat.eps is None
    assert torch.equal(threat.project(1 - batch.x, batch), 1 - batch.x)


def test_refusals():
    for wrong in (
        {"radius": -0.1},
        {"tau": 0.0},
        {"multiplier": -1.0},
        {"rate": -0.1},
        {"every": 0},
        {"scale": -1.0},
        {"follows": "both"},
        {"low": 1.0},
        {"radius": math.nan},
    ):
        ((key, value),) = wrong.items()
        with pytest.raises(ValueError, match=f"{key} = {value!r} is not allowed: {key} must be"):
            SoftLinf(**{"radius": 0.1, **wrong})
    with pytest.raises(ValueError, match="tau = None is not allowed: tau must be given, if scale"):
        SoftLinf(0.1, scale=0.1)
