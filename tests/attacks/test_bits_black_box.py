"""Attacks on bits by scores and labels alone, against every point of small cubes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sparring import attacks
from sparring.attacks import BitBeam, BitBoundary, LinearBits, MonotoneBits
from sparring.evaluation.guard import Guard
from sparring.evaluation.judge import feasible
from sparring.threats import Bits, Only, Threat

D = 9
CUBE = torch.tensor(list(itertools.product([0.0, 1.0], repeat=D)))
THREATS = [
    Bits(2),
    Bits(3, add_only=False),
    Bits(2, add_only=False, mutable=[1, 1, 0, 1, 1, 0, 1, 0, 1]),
    Bits(2, groups=[[0, 1, 2], [5, 6]]),
    Bits(3, add_only=False, groups=[[0, 1, 2]], mutable=[1, 1, 0, 1, 1, 1, 1, 0, 1]),
    Bits(add_only=False),
    Only(Bits(2), classes=[1]),
]


def rows(threat: Threat, n: int = 40) -> Tensor:
    """Bits; of each group one or none."""
    draw = torch.Generator().manual_seed(0)
    x = (torch.rand(n, D, generator=draw) < 0.4).float()
    for columns in threat.groups or ():
        x[:, list(columns)] = 0
        for i in range(n):
            if i % 5:
                x[i, columns[i % len(columns)]] = 1
    return x


def net(classes: int = 2) -> Callable[[Tensor], Tensor]:
    """A crooked network, without gradient; both classes are common."""
    torch.manual_seed(1)
    first, last = nn.Linear(D, 12), nn.Linear(12, classes)

    def body(x: Tensor) -> Tensor:
        return last((4 * first(x)).tanh()).detach()

    shift = body(CUBE).median(0).values
    return lambda x: body(x) - shift


def linear(classes: int) -> Callable[[Tensor], Tensor]:
    torch.manual_seed(classes)
    w, b = torch.randn(D, classes), 0.3 * torch.randn(classes)
    return lambda x: x @ w + b


def optimum(model: Callable[[Tensor], Tensor], threat: Threat, x: Tensor, y: Tensor) -> Tensor:
    """Which rows some allowed point of the cube evades, by trying all of them."""
    evaded = []
    for i in range(len(x)):
        start, label = x[i].expand(len(CUBE), -1), y[i].expand(len(CUBE))
        allowed = feasible(threat, CUBE, start, label)
        evaded.append((model(CUBE[allowed]).argmax(1) != y[i]).any())
    return torch.stack(evaded)


def evaded(attack: attacks.Attack, model, x: Tensor, y: Tensor) -> Tensor:
    """Which rows an attack evades with points that the threat allows."""
    x_adv = attack(model, x, y)
    assert feasible(attack.threat, x_adv, x, y).all()
    return model(x_adv).argmax(1) != y


@pytest.mark.parametrize("threat", THREATS, ids=repr)
class TestSearch:
    def test_the_beam_is_exhaustive_on_few_bits(self, threat):
        model, x = net(), rows(threat)
        y = model(x).argmax(1)
        best = optimum(model, threat, x, y)
        assert best.any()
        assert (evaded(BitBeam(threat, width=4), model, x, y) == best).float().mean() >= 0.97

    def test_labels_alone_come_near(self, threat):
        model, x = net(), rows(threat)
        y = model(x).argmax(1)
        seen = torch.eye(2)
        best = optimum(model, threat, x, y)
        hit = evaded(BitBoundary(threat), lambda z: seen[model(z).argmax(1)], x, y)
        assert not (hit & ~best).any()
        assert hit.sum() >= 0.85 * best.sum()

    @pytest.mark.parametrize("classes", [2, 3])
    def test_a_linear_model_gets_its_exact_answer(self, threat, classes):
        model, x = linear(classes), rows(threat)
        y = model(x).argmax(1)
        assert torch.equal(evaded(LinearBits(threat), model, x, y), optimum(model, threat, x, y))


def test_linear_bits_is_the_top_k_of_the_weights():
    """As the closed form: with b below all, the margin gains the sum of the k largest."""
    w = torch.tensor([0.5, -2.0, 3.0, 1.0, -1.0])
    x, y = torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0]]), torch.tensor([0])
    for k, gain in ((1, 3.0), (2, 3.5), (5, 3.5)):
        bound = (x @ w).item() + gain
        for shift, evades in ((-bound + 1e-3, True), (-bound - 1e-3, False)):

            def model(z, shift=shift):
                s = z @ w + shift
                return torch.stack([torch.zeros_like(s), s], 1)

            assert evaded(LinearBits(Bits(k)), model, x, y).item() is evades


def test_linear_bits_flips_no_more_than_it_needs():
    w = torch.tensor([1.0, 4.0, 2.0, 3.0])
    model = lambda z: torch.stack([torch.full_like(z[:, 0], 5.5), z @ w], 1)  # noqa: E731
    x_adv = LinearBits(Bits())(model, torch.zeros(1, 4), torch.tensor([0]))
    assert x_adv.tolist() == [[0.0, 1.0, 0.0, 1.0]]


@pytest.mark.parametrize("sign", [1, -1])
def test_monotone_models_get_their_exact_answer(sign):
    torch.manual_seed(0)
    w = torch.rand(D, 6)

    def model(z):
        s = sign * ((z @ w).tanh().sum(1) - 4)
        return torch.stack([torch.zeros_like(s), s], 1)

    threat = Bits(add_only=False)
    x = rows(threat)
    y = model(x).argmax(1)
    assert torch.equal(evaded(MonotoneBits(threat), model, x, y), optimum(model, threat, x, y))
    only = Bits()  # additions alone cannot take a sample out of the class that they favour
    assert not evaded(MonotoneBits(only), model, x, y)[y == (sign > 0)].any()


@pytest.mark.parametrize("make", [BitBeam, BitBoundary])
@pytest.mark.parametrize("queries", [1, 2, 7, 50])
def test_the_budget_of_queries_is_kept(make, queries):
    """Counted outside: by the guard, which also sees the one pass at x before the search."""
    model, x = net(), rows(THREATS[1])
    y = model(x).argmax(1)
    for one in range(5):
        guard = Guard(model)
        make(Bits(2), queries=queries)(guard, x[one : one + 1], y[one : one + 1])
        assert guard.forwards <= queries + 1
    guard = Guard(model)
    make(Bits(2), queries=queries)(guard, x, y)
    assert guard.forwards <= (queries + 1) * len(x)


@pytest.mark.parametrize("make", [BitBeam, BitBoundary, LinearBits, MonotoneBits])
@pytest.mark.parametrize("b", [0, 1])
def test_few_rows_and_chunks_of_any_size(make, b):
    model, threat = net(3), Bits(2, add_only=False, groups=[[0, 1, 2]])
    x = rows(threat)[:b]
    y = torch.zeros(b, dtype=torch.long)
    assert make(threat)(model, x, y).shape == x.shape
    if make is not BitBoundary:
        small, large = (make(threat, chunk=n)(model, x, y) for n in (1, 10_000))
        assert torch.equal(small, large)


def test_a_row_that_may_not_move_costs_nothing():
    model, x = net(), rows(THREATS[0])
    y = model(x).argmax(1)
    for make in (BitBeam, BitBoundary):
        guard = Guard(model)
        x_adv = make(Bits(3, mutable=[0] * D))(guard, x, y)
        assert torch.equal(x_adv, x)
        assert guard.forwards <= 2 * len(x)


def test_the_beam_uses_scores_that_labels_hide():
    """A flat model gives no label away, and its scores do."""
    w = torch.arange(1.0, D + 1)
    threat, x, y = Bits(3), torch.zeros(1, D), torch.tensor([0])
    model = lambda z: torch.stack([torch.full_like(z[:, 0], 23.5), z @ w], 1)  # noqa: E731
    assert evaded(BitBeam(threat, width=1), model, x, y).all()


def test_transfer_goes_on_beyond_the_surrogate():
    model, x = linear(2), rows(THREATS[0])
    y = model(x).argmax(1)
    threat = Bits(2, add_only=False)
    shifted = lambda z: model(z) + 0.4 * torch.nn.functional.one_hot(y[: len(z)], 2)  # noqa: E731
    points = attacks.Transfer(threat, surrogate=model, attack=BitBeam(threat))(shifted, x, y)
    stopped = BitBeam(threat)(model, x, y)
    hits = [(shifted(p).argmax(1) != y).sum() for p in (points, stopped)]
    assert hits[0] > hits[1]


@pytest.mark.parametrize("make", [attacks.BitSearch, attacks.BGA, attacks.DFGSM])
def test_attacks_by_gradients_refuse_groups_and_say_what_moves_them(make):
    with pytest.raises(ValueError, match=r"threat\.groups = .* the attacks of bits-black-box move"):
        make(Bits(2, groups=[[0, 1]]))


@pytest.mark.parametrize("make", [BitBeam, BitBoundary])
def test_numbers_out_of_range_are_named(make):
    with pytest.raises(ValueError, match="queries = 0 is not allowed"):
        make(Bits(2), queries=0)
