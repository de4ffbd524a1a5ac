"""Sparse-RS: against its literal twin, the best locations of a linear model, and its count."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sparring.attacks import SparseRS
from sparring.attacks.sparse import _LocationProposer
from sparring.evaluation.judge import feasible
from sparring.functional.losses import margin
from sparring.threats import L0, Linf
from tests.oracles import Linear, problem
from tests.reference import sparse as twin

SHAPES = [(7,), (1,), (1, 3, 4), (3, 2, 5), (2, 6), (4, 1, 1)]


def inputs(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (1.4 * torch.rand(*shape, generator=draw, dtype=dtype) - 0.2).clamp(0, 1)


def weights(d: int, seed: int = 1) -> Tensor:
    return torch.randn(d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def most(w: Tensor, x: Tensor, k: int) -> Tensor:
    """max w·δ over k locations: the sum of the k largest Σ_c |w|·room."""
    room = torch.where(w.view_as(x[0]) > 0, 1 - x, x)
    gain = w.view_as(x[0]).abs() * room
    gain = gain.sum(1).flatten(1) if x.ndim == 4 else gain.flatten(1)
    return gain.topk(min(k, gain.shape[1])).values.sum(1)


class Counting(Linear):
    """Counts its queries."""

    num_queries = 0

    def forward(self, x: Tensor) -> Tensor:
        self.num_queries += len(x)
        return super().forward(x)


def test_the_share_falls_as_published():
    attack = SparseRS(L0(1), queries=10_000)
    expected = {0: 1, 1: 2, 50: 2, 51: 4, 200: 4, 201: 5, 500: 5, 501: 6, 1000: 6, 1001: 8, 2000: 8}
    expected |= {2001: 10, 4000: 10, 4001: 12, 6000: 12, 6001: 15, 8000: 15, 8001: 20, 9999: 20}
    for query, over in expected.items():
        assert attack.share(query) == 0.3 / over
    for queries in (1, 7, 1000):
        attack = SparseRS(L0(1), queries=queries, alpha_init=0.8)
        for query in range(queries):
            assert attack.share(query) == twin.share(query, queries, 0.8)
    assert SparseRS(L0(1), queries=1000, plan=10_000).share(999) == 0.3 / 6


@pytest.mark.parametrize(("k", "alpha"), [(1, 0.3), (3, 0.3), (5, 1.0)])
def test_it_is_its_twin_point_by_point(k, alpha):
    net = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    for i, v in enumerate(net.parameters()):
        v.data = weights(v.numel(), seed=i).view_as(v)
    net[2].bias.data = torch.tensor([30.0, 0.0, 0.0], dtype=torch.float64)  # never broken
    x, y, draw = inputs(1, 12), torch.tensor([0]), torch.Generator().manual_seed(7)

    def loss(point: list[float]) -> float:
        with torch.no_grad():
            return margin(net(torch.tensor([point], dtype=torch.float64)), y).item()

    def uniform(n: int) -> list[float]:
        return torch.empty(n).uniform_(generator=draw).tolist()

    expected = twin.sparse_rs(loss, x[0].tolist(), uniform, k=k, queries=120, alpha_init=alpha)
    x_adv = SparseRS(L0(k), queries=120, alpha_init=alpha, seed=7)(net, x, y)
    assert torch.equal(x_adv[0], torch.tensor(expected, dtype=x.dtype))


@pytest.mark.parametrize(
    ("shape", "k", "restarts"),
    [((9,), 1, 1), ((9,), 4, 1), ((1, 3, 3), 2, 1), ((2, 2, 3), 2, 8)],
)
def test_it_finds_the_best_locations_of_a_linear_model(shape, k, restarts):
    """With two channels a good location of half-right colours stays: it takes restarts."""
    x, w = inputs(5, *shape), weights(math.prod(shape))
    y = torch.zeros(5, dtype=torch.long)
    x_adv = SparseRS(L0(k), queries=600, restarts=restarts)(Linear(w), x, y)
    assert torch.allclose((x_adv - x).flatten(1) @ w, most(w, x, k), atol=1e-9)


def test_all_locations_may_change():
    x, w = inputs(3, 4), weights(4)
    x_adv = SparseRS(L0(9), queries=300)(Linear(w), x, torch.zeros(3, dtype=torch.long))
    assert torch.allclose((x_adv - x) @ w, most(w, x, 9), atol=1e-9)


@given(st.sampled_from(SHAPES), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_proposals_are_feasible_whatever_the_shape(shape, k, m, seed):
    for dtype in (torch.float32, torch.float64):
        x = inputs(4, *shape, seed=seed, dtype=dtype)
        proposer = _LocationProposer(x, k, L0(k), torch.Generator().manual_seed(seed))
        best, y = proposer.first(), torch.zeros(4, dtype=torch.long)
        for step in range(5):
            if step == 2:
                keep = torch.tensor([True, False, True, True])
                proposer.keep(keep)
                x, y, best = x[keep], y[keep], best[keep]
            assert best.shape == x.shape
            assert best.dtype == dtype
            assert feasible(L0(k), best, x, y).all()
            z = proposer.propose(best, m)
            better = torch.arange(len(x)) % 2 == step % 2
            proposer.accept(better)
            best = torch.where(better.reshape(-1, *[1] * len(shape)), z, best)
            order = proposer.order.sort(1).values
            assert torch.equal(order, torch.arange(proposer.n).expand(len(x), -1))


def test_another_box_to_the_last_bit():
    x = torch.full((3, 5), 0.3, dtype=torch.float64)
    x_adv = SparseRS(L0(2, low=-0.1, high=0.7), queries=20)(
        Linear(weights(5), -9.0), x, torch.zeros(3, dtype=torch.long)
    )
    assert set(x_adv.unique().tolist()) == {-0.1, 0.3, 0.7}


def test_queries_are_as_many_as_configured_and_the_broken_leave():
    model, x, y = Counting(weights(9)), inputs(4, 9), torch.zeros(4, dtype=torch.long)
    SparseRS(L0(2), queries=30, restarts=2)(model, x, y)
    assert model.num_queries == 4 * (1 + 2 * 30)
    model.num_queries = 0
    SparseRS(L0(0), queries=30)(model, x, y)
    assert model.num_queries == 4
    easy = Counting(torch.ones(4, dtype=torch.float64), -1.5)
    x = torch.tensor([[0.1] * 4, [0.3] * 4], dtype=torch.float64)
    x_adv = SparseRS(L0(1), queries=100)(easy, x, y[:2])
    assert easy(x_adv).argmax(1).tolist() == [0, 1]
    assert 101 + 2 < easy.num_queries < 101 + 50


def test_rows_see_nothing_of_each_other_but_the_draws():
    x, w, y = inputs(4, 6), weights(6), torch.zeros(4, dtype=torch.long)
    other, rows = x.clone(), torch.tensor([0, 2, 3])
    other[1] = 1 - other[1]
    linear, bad = Linear(w), torch.zeros(4, 2, dtype=torch.bool)
    bad[1, 0] = True
    plain = SparseRS(L0(2), queries=60)(linear, x, y)
    assert torch.equal(SparseRS(L0(2), queries=60)(linear, other, y)[rows], plain[rows])
    # targeted: no class is not the target, so that the row stays
    attack, y = SparseRS(L0(2), queries=60, targeted=True), 1 - y
    poisoned = attack(lambda z: linear(z).masked_fill(bad, torch.nan), x, y)
    attack.reseed(0)
    assert torch.equal(poisoned[rows], attack(linear, x, y)[rows])
    assert torch.equal(poisoned[rows], plain[rows])
    assert feasible(L0(2), poisoned, x, y).all()


def test_targeted():
    model, x, _ = problem(b=40)
    with torch.no_grad():
        y = (model(x).argmax(1) + 1) % 4
        x_adv = SparseRS(L0(3), queries=100, targeted=True)(model, x, y)
        assert (model(x).argmax(1) != y).all()
        assert (model(x_adv).argmax(1) == y).sum() >= 10


def test_refusals():
    for key, value in (("queries", 0), ("alpha_init", 0.0), ("alpha_init", 1.5), ("plan", 0)):
        with pytest.raises(ValueError, match=f"{key} = {value} is not allowed"):
            SparseRS(L0(1), **{key: value})
    with pytest.raises(ValueError, match="a ball of L0 for SparseRS"):
        SparseRS(Linf(0.1))
