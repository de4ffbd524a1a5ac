"""Square attack: against its literal twin, a linear model, and its number of queries."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparring.attacks import Square
from sparring.attacks.square import _BumpProposer, _SignProposer, bump, bump_pairs, window_sides
from sparring.batch import Batch
from sparring.evaluation.judge import feasible
from sparring.functional.losses import margin
from sparring.threats import L1, L2, Box, Linf
from tests.oracles import Linear, NormedNet, gain_in_linf_and_box, problem
from tests.reference import square as twin

BALLS = {math.inf: Linf, 2: L2, 1: L1}
SHAPES = [(7,), (1,), (1, 6, 6), (3, 8, 5), (3, 2, 9), (2, 1, 11), (3, 7), (1, 1, 1)]


def inputs(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (1.4 * torch.rand(*shape, generator=draw, dtype=dtype) - 0.2).clamp(0, 1)


def weights(d: int, seed: int = 1) -> Tensor:
    return torch.randn(d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Counting(Linear):
    """Counts its queries."""

    num_queries = 0

    def forward(self, x: Tensor) -> Tensor:
        self.num_queries += len(x)
        return super().forward(x)


def proposer_of(
    p: float, x: Tensor, eps: float = 0.3, seed: int = 0
) -> _SignProposer | _BumpProposer:
    kind = _SignProposer if p == math.inf else _BumpProposer
    return kind(x, BALLS[p](eps), torch.Generator().manual_seed(seed))


class TestSchedule:
    def test_it_halves_at_the_published_queries(self):
        attack = Square(Linf(0.1), queries=10_000)
        want = {0: 0, 10: 0, 11: 1, 50: 1, 51: 2, 200: 2, 201: 3, 500: 3, 501: 4, 1000: 4, 1001: 5}
        want |= {2000: 5, 2001: 6, 4000: 6, 4001: 7, 6000: 7, 6001: 8, 8000: 8, 8001: 9, 9999: 9}
        for query, halvings in want.items():
            assert attack.share(query) == 0.8 / 2**halvings

    @pytest.mark.parametrize("queries", [1, 7, 100, 5000])
    def test_it_is_laid_over_the_queries(self, queries):
        attack = Square(Linf(0.1), queries=queries, p_init=0.3)
        for query in range(0, queries, max(queries // 500, 1)):
            assert attack.share(query) == twin.share(query, queries, 0.3)

    def test_as_autoattack_uses_it(self):
        attack = Square(Linf(0.1), queries=5000, plan=10_000)
        assert attack.share(4999) == 0.8 / 2**7
        assert [attack.share(i) for i in (10, 11)] == [0.8, 0.4]

    def test_windows(self):
        heights = [window_sides(0.8 / 2**k, 28, 28)[0] for k in range(10)]
        assert heights == [25, 18, 13, 9, 6, 4, 3, 2, 2, 1]
        assert window_sides(0.5, 4, 100) == (4, 50)
        assert window_sides(0.5, 100, 4) == (50, 4)
        assert [window_sides(p, 1, 10) for p in (0.8, 0.24, 0.01)] == [(1, 8), (1, 2), (1, 1)]
        assert window_sides(0.001, 2, 9, least=3) == (2, 3)


class TestTwin:
    @pytest.mark.parametrize("shape", [(1, 5, 5), (3, 4, 6)])
    def test_linf_point_by_point(self, shape):
        x, w = inputs(1, *shape), weights(math.prod(shape))
        w[::3] *= -1
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(len(w), 8), torch.nn.Tanh())
        net.append(torch.nn.Linear(8, 3)).double()
        for k, v in enumerate(net.parameters()):
            v.data = 0.5 * weights(v.numel(), seed=k).view_as(v)
        net[3].bias.data = torch.tensor([9.0, 0.0, 0.0], dtype=torch.float64)  # never broken
        y, draw = torch.tensor([0]), torch.Generator().manual_seed(4)

        def loss(image: twin.Image) -> float:
            with torch.no_grad():
                return margin(net(torch.tensor([image], dtype=torch.float64)), y).item()

        def uniform(n: int) -> list[float]:
            return torch.empty(n).uniform_(generator=draw).tolist()

        expected = twin.search_linf(loss, x[0].tolist(), uniform, eps=0.1, queries=80, p_init=0.8)
        x_adv = Square(Linf(0.1), queries=80, seed=4)(net, x, y)
        assert torch.allclose(x_adv[0], torch.tensor(expected, dtype=x.dtype), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("p", [1, 2])
    @pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 3), (4, 5), (6, 2)])
    def test_hills(self, p, size):
        assert torch.allclose(bump(*size, p), torch.tensor(twin.hill(*size, p)).double())
        if size[0] == size[1]:
            both = [twin.eta(size[0], p, turned=turned) for turned in (False, True)]
            assert torch.allclose(bump_pairs(*size, p), torch.tensor(both).double(), atol=1e-6)

    @pytest.mark.parametrize("p", [1, 2])
    @pytest.mark.parametrize("c", [1, 3])
    @pytest.mark.parametrize("turned", [False, True])
    @pytest.mark.parametrize("corners", [((0, 0), (4, 3)), ((2, 1), (3, 3)), ((1, 1), (1, 1))])
    def test_the_budget_moves(self, p, c, turned, corners):
        h, w, s = 7, 6, 3
        proposer = proposer_of(p, torch.full((1, c, h, w), 0.5, dtype=torch.float64), 0.2)
        best = proposer.first()
        best[:, :, 0] = 0.5  # some budget is unused
        signs = [1.0, -1.0, -1.0][:c]
        corners_u = [
            (i + 0.5) / (n - s + 1) for at in corners for i, n in zip(at, (h, w), strict=True)
        ]
        turn = [0.1 if turned else 0.9, *(0.1 if v > 0 else 0.9 for v in signs)]
        proposer.draw = lambda *n: torch.tensor([corners_u + turn])
        x_adv = proposer.propose(best, 9 / (h * w)) - 0.5
        expected = twin.moved_budget(
            (best - 0.5)[0].tolist(),
            0.2,
            p,
            first=corners[0],
            second=corners[1],
            pattern=twin.eta(s, p, turned=turned),
            signs=signs,
        )
        assert torch.allclose(x_adv[0], torch.tensor(expected, dtype=x_adv.dtype), atol=1e-12)

    def test_the_first_l2_point_is_tiled(self):
        proposer = proposer_of(2, torch.full((2, 1, 12, 11), 0.5, dtype=torch.float64))
        delta = (proposer.first() - 0.5)[:, 0]
        assert torch.allclose(delta.flatten(1).norm(dim=1), torch.tensor(0.3).double())
        tile = torch.tensor(twin.eta(2, 2, turned=False)).double()
        for i in range(6):
            for j in range(5):
                part = delta[0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                part = part * part[0, 0].sign() / part.norm() * tile[0, 0].sign()
                assert torch.allclose(part, tile) or torch.allclose(part, tile.T)
        assert (delta[:, :, 10] == 0).all()


class TestProposals:
    @given(
        st.sampled_from([math.inf, 2, 1]),
        st.sampled_from(SHAPES),
        st.integers(0, 99),
        st.floats(0.0001, 1.0),
    )
    def test_they_are_feasible_whatever_the_shape(self, p, shape, seed, share):
        for dtype in (torch.float32, torch.float64):
            x = inputs(4, *shape, seed=seed, dtype=dtype)
            proposer = proposer_of(p, x, 0.3, seed)
            threat, best, y = BALLS[p](0.3), proposer.first(), torch.zeros(4, dtype=torch.long)
            for k in range(4):
                if k == 2:
                    keep = torch.tensor([True, False, True, True])
                    proposer.keep(keep)
                    x, y, best = x[keep], y[keep], best[keep]
                assert best.shape == x.shape
                assert best.dtype == dtype
                assert feasible(threat, best, x, y).all()
                best = proposer.propose(best, share)

    def test_each_sample_has_a_window_of_its_own_and_every_corner_comes_up(self):
        x = torch.full((3000, 2, 5, 4), 0.5)
        proposer = proposer_of(math.inf, x)
        moved = proposer.propose(x, 4 / 20) != x
        assert (moved.flatten(1).sum(1) == 2 * 4).all()
        corners = {tuple(m.nonzero()[0].tolist()) for m in moved[:, 0]}
        assert corners == {(i, j) for i in range(4) for j in range(3)}
        signs = (proposer.propose(x, 4 / 20) - x).flatten(2).sum(2).sign()
        assert {tuple(s.tolist()) for s in signs} == {(-1, -1), (-1, 1), (1, -1), (1, 1)}

    def test_vectors_start_in_blocks(self):
        x = torch.full((50, 16), 0.5)
        runs = (proposer_of(math.inf, x).first() - x).sign().view(50, 4, 4)
        assert (runs == runs[:, :, :1]).all()
        assert runs[:, :, 0].unique(dim=0).shape[0] > 8


class TestSearch:
    @pytest.mark.parametrize("shape", [(6,), (1, 2, 3), (2, 3)])
    def test_it_finds_the_linf_maximum_of_a_linear_model(self, shape):
        x, w = inputs(5, *shape), weights(6)
        x_adv = Square(Linf(0.2), queries=400)(Linear(w), x, torch.zeros(5, dtype=torch.long))
        gain = (x_adv - x).flatten(1) @ w
        assert torch.allclose(gain, gain_in_linf_and_box(w, x.flatten(1), 0.2), atol=1e-9)

    @pytest.mark.parametrize(("p", "share"), [(2, 0.8), (1, 0.5)])
    def test_it_comes_near_the_maximum_of_the_other_balls(self, p, share):
        x, w = torch.full((4, 1, 5, 5), 0.5, dtype=torch.float64), weights(25)
        y = torch.zeros(4, dtype=torch.long)
        most = 0.3 * (w.norm() if p == 2 else w.abs().max())
        few, many = (
            ((Square(BALLS[p](0.3), queries=n)(Linear(w), x, y) - x).flatten(1) @ w)
            for n in (20, 1500)
        )
        assert (many > few).all()
        assert (many <= most * (1 + 1e-9)).all()
        assert (many >= share * most).all()

    @pytest.mark.parametrize("p", [math.inf, 2, 1])
    def test_queries_are_as_many_as_configured(self, p):
        model, x = Counting(weights(9)), inputs(4, 9)
        y = torch.zeros(4, dtype=torch.long)
        Square(BALLS[p](0.1), queries=30, restarts=2)(model, x, y)
        assert model.num_queries == 4 * (1 + 2 * 30)
        model.num_queries = 0
        Square(BALLS[p](0.1), queries=1)(model, x, y)
        assert model.num_queries == 4 * 2

    def test_a_broken_sample_leaves_at_once(self):
        w = torch.ones(4, dtype=torch.float64)
        x = torch.tensor([[0.1] * 4, [0.45] * 4], dtype=torch.float64)
        model, y = Counting(w, -2.0), torch.zeros(2, dtype=torch.long)
        x_adv = Square(Linf(0.1), queries=200)(model, x, y)
        assert model(x_adv).argmax(1).tolist() == [0, 1]
        assert 201 + 2 < model.num_queries < 201 + 100

    def test_targeted(self):
        model, x, _ = problem(b=40)
        with torch.no_grad():
            y = (model(x).argmax(1) + 1) % 4
        kinds = {}
        for loss in ("margin", "ce"):
            attack = Square(Linf(0.3), queries=150, targeted=True, loss=loss)
            kinds[loss] = int((model(attack(model, x, y)).argmax(1) == y).sum())
        start = int((model(x).argmax(1) == y).sum())
        assert start == 0
        assert min(kinds.values()) >= 10

    def test_it_gets_by_without_a_gradient(self):
        model, x, y = problem(b=40)

        def rounded(z: Tensor) -> Tensor:
            return (model(z.detach()) * 50).round() / 50

        y = rounded(x).argmax(1)
        x_adv = Square(Linf(0.3), queries=100)(rounded, x, y)
        assert (rounded(x_adv).argmax(1) != y).float().mean() > 0.3

    @pytest.mark.parametrize("ball", [Linf, L2, L1])
    def test_a_row_that_is_no_number_harms_no_other(self, ball):
        # targeted: no class is not the target, so that the row stays
        x, y, linear = inputs(4, 6), torch.ones(4, dtype=torch.long), Linear(weights(6))
        bad = torch.tensor([[False, False], [True, False], [False, False], [False, False]])
        how = {"queries": 60, "targeted": True}
        plain = Square(ball(0.1), **how)(linear, x, y)
        x_adv = Square(ball(0.1), **how)(lambda z: linear(z).masked_fill(bad, torch.nan), x, y)
        rows = torch.tensor([0, 2, 3])
        assert torch.equal(x_adv[rows], plain[rows])
        assert feasible(ball(0.1), x_adv, x, y).all()

    def test_rows_see_nothing_of_each_other_but_the_draws(self):
        x, w = inputs(4, 6), weights(6)
        y, other = torch.zeros(4, dtype=torch.long), x.clone()
        other[1] = 1 - other[1]
        for ball in (Linf, L2, L1):
            a, b = (Square(ball(0.1), queries=60)(Linear(w), v, y) for v in (x, other))
            rows = torch.tensor([0, 2, 3])
            assert torch.equal(a[rows], b[rows])
            assert not torch.equal(a[1], b[1])

    def test_both_precisions_find_the_same(self):
        model, x, y = problem(b=20)
        wide = Square(Linf(0.1), queries=40)(model, x, y)
        narrow = Square(Linf(0.1), queries=40)(model.float(), x.float(), y)
        assert torch.allclose(wide.float(), narrow, atol=1e-5)


def test_refusals():
    for key, value in (("queries", 0), ("p_init", 0.0), ("p_init", 1.5), ("plan", 0)):
        with pytest.raises(ValueError, match=f"{key} = {value} is not allowed"):
            Square(Linf(0.1), **{key: value})
    with pytest.raises(ValueError, match="restarts = 0 is not allowed"):
        Square(Linf(0.1), restarts=0)
    with pytest.raises(ValueError, match="loss = 'cw' does not exist"):
        Square(Linf(0.1), loss="cw")
    with pytest.raises(ValueError, match="a ball of Linf or L2 or L1 for Square"):
        Square(Box())


def test_a_radius_of_zero_stays():
    model, x, y = problem()
    for ball in (Linf, L2, L1):
        x_adv = Square(ball(0.0), queries=5)(model, x, y)
        assert torch.equal(x_adv, x)
        assert feasible(ball(0.0), x_adv.float(), x.float(), Batch(x, y).y).all()


@pytest.mark.parametrize("ball", [Linf, L2, L1])
def test_in_bfloat16_and_channels_last_too(ball):
    net, x = NormedNet().eval(), inputs(20, 1, 4, 4, dtype=torch.float32)
    with torch.no_grad():
        y = net(x).argmax(1)
    attack = Square(ball(0.5), queries=40, precision="bfloat16", channels_last=True)
    x_adv = attack(net, x, y)
    assert x_adv.dtype == torch.float32
    assert feasible(attack.threat, x_adv, x, y).all()
    assert (margin(net(x_adv), y) >= margin(net(x), y) - 0.05).all()
    assert (net(x_adv).argmax(1) != y).any()
