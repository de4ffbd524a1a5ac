"""The attacks on binary features: against literal twins, and what a linear model allows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import BCA, BGA, DFGSM, RFGSM, BitSearch, Grosse
from sparring.batch import Batch
from sparring.functional.losses import cross_entropy, margin
from sparring.threats import Bits, Linf, Only
from tests.oracles import Linear, Net, admissible_bits
from tests.reference import bits as twin
from tests.reference import search

FIVE = (DFGSM, RFGSM, BGA, BCA, Grosse)
ALL = (*FIVE, BitSearch)


def bits(b: int, d: int, *, share: float = 0.35, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(b, d, generator=draw) < share).double()


def weights(d: int, seed: int = 1) -> Tensor:
    return torch.randn(d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steady(d: int = 9, k: int = 2, *, b: int = 12) -> tuple[nn.Module, Tensor, Tensor]:
    """A net that predicts class 0 everywhere: no row leaves."""
    model = Net(d, k, scale=2.0, seed=3).double()
    with torch.no_grad():
        model[2].bias[0] += 12.0
    return model, bits(b, d), torch.zeros(b, dtype=torch.long)


def trained(
    d: int = 60, k: int = 2, *, n: int = 400, steps: int = 60, seed: int = 0, hard: bool = False
) -> tuple[nn.Module, Tensor, Tensor]:
    """A ReLU net fitted to sparse bits, `hard`: to attacked ones; and what it gets right."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % k
    rate = 0.3 * torch.rand(k, d, generator=draw) ** 2
    x = (torch.rand(n, d, generator=draw) < rate[y] + 0.02).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(d, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU())
        model.append(nn.Linear(24, k))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(steps):
        z = BGA(Bits(6), steps=4)(model, x, y) if hard else x
        loss = nn.functional.cross_entropy(model(z), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = model(x).argmax(1) == y
    return model, x[right], y[right]


def wrong(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) != y


def slope(model: nn.Module, y: Tensor, x: Tensor, *, of: str) -> twin.Slope:
    """The loss of one sample that a twin climbs, and its gradient."""

    def loss(z: Tensor) -> Tensor:
        if of == "ce":
            return cross_entropy(model(z), y)
        return model(z).log_softmax(1)[:, 1]

    return lambda z: search.slope(loss, torch.tensor(z, dtype=x.dtype))


@pytest.mark.parametrize("steps", [1, 2, 5, 16])
class TestTwins:
    def check(self, attack, literal, *, steps: int, of: str = "ce") -> None:
        model, x, y = steady()
        x_adv = attack(Bits(), steps=steps)(model, x, y)
        ways = [literal(slope(model, y[:1], x, of=of), row.tolist(), steps) for row in x]
        assert torch.equal(x_adv, torch.tensor(ways, dtype=x.dtype))
        assert steps == 1 or (x_adv != x).any()

    def test_dfgsm(self, steps):
        half = [0.5] * 9
        self.check(DFGSM, lambda g, x, k: twin.fgsm(g, x, k, half), steps=steps)

    def test_bga(self, steps):
        self.check(BGA, twin.bga, steps=steps)

    def test_bca(self, steps):
        model, x, y = steady(d=20)
        x_adv = BCA(Bits(), steps=steps)(model, x, y)
        ways = [twin.bca(slope(model, y[:1], x, of="ce"), row.tolist(), steps) for row in x]
        assert torch.equal(x_adv, torch.tensor(ways, dtype=x.dtype))

    def test_grosse(self, steps):
        self.check(Grosse, twin.grosse, steps=steps, of="log p")

    def test_rfgsm(self, steps):
        model, x, y = steady()
        attack = RFGSM(Bits(), steps=steps, seed=7)
        u = torch.rand(x.shape, generator=torch.Generator().manual_seed(7), dtype=x.dtype)
        ways = [
            twin.fgsm(slope(model, y[:1], x, of="ce"), row.tolist(), steps, v.tolist())
            for row, v in zip(x, u, strict=True)
        ]
        assert torch.equal(attack(model, x, y), torch.tensor(ways, dtype=x.dtype))


def test_bca_is_lost_on_a_bit_that_may_not_flip_unless_any_bit_is_off():
    w = torch.tensor([-3.0, 2.0, 1.0], dtype=torch.float64)
    x, y = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64), torch.zeros(1, dtype=torch.long)
    assert torch.equal(BCA(Bits())(Linear(w), x, y), x)
    assert BCA(Bits(), any_bit=False)(Linear(w), x, y).tolist() == [[1.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    "threat",
    [
        Bits(),
        Bits(0),
        Bits(1),
        Bits(3),
        Bits(add_only=False),
        Bits(3, add_only=False),
        Bits(mutable=[1, 0, 1, 1, 0, 1, 0, 1, 1]),
        Bits(2, add_only=False, mutable=[1, 0, 1, 1, 0, 1, 0, 1, 1]),
    ],
    ids=lambda t: f"{t.eps}-{t.add_only}-{'mask' if t.mutable else 'all'}",
)
class TestLinear:
    """Where the best set of flips is known."""

    def most(self, w: Tensor, x: Tensor, threat: Bits) -> Tensor:
        mask = [int(m) for m in threat.mutable or [1] * x.shape[1]]
        best = [
            twin.best_flips(w.tolist(), r, threat.eps, add_only=threat.add_only, mutable=mask)
            for r in x.tolist()
        ]
        return torch.tensor(best, dtype=x.dtype)

    @pytest.mark.parametrize("attack", [DFGSM, RFGSM, Grosse, BitSearch])
    def test_exact(self, threat, attack):
        x, w, y = bits(10, 9), weights(9), torch.zeros(10, dtype=torch.long)
        x_adv = attack(threat)(Linear(w), x, y)
        assert torch.allclose((x_adv - x) @ w, self.most(w, x, threat), atol=1e-9)
        assert admissible_bits(threat, x_adv, x).all()

    def test_bca_that_stays_within_the_set(self, threat):
        x, w, y = bits(10, 9), weights(9), torch.zeros(10, dtype=torch.long)
        x_adv = BCA(threat, any_bit=False)(Linear(w), x, y)
        assert torch.allclose((x_adv - x) @ w, self.most(w, x, threat), atol=1e-9)

    @pytest.mark.parametrize("attack", ALL)
    def test_nothing_leaves_the_set_on_a_net(self, threat, attack):
        model, _, _ = steady(k=3)
        x = bits(30, 9, share=0.5)
        y = torch.arange(30) % 3
        x_adv = attack(threat)(model, x, y)
        assert admissible_bits(threat, x_adv, x).all()
        assert (margin(model(x_adv), y) >= margin(model(x), y) - 1e-9)[~wrong(model, x, y)].all()


@pytest.mark.parametrize("low_high", [(0.0, 1.0), (-1.0, 2.0), (0.1, 0.7)])
@pytest.mark.parametrize("attack", ALL)
def test_another_alphabet(attack, low_high):
    low, high = low_high
    threat = Bits(3, low=low, high=high)
    x = torch.where(bits(10, 9) == 1, high, low).to(torch.float32)
    w, y = weights(9, seed=2).float(), torch.zeros(10, dtype=torch.long)
    x_adv = attack(threat)(Linear(w, b=-8.0), x, y)
    assert admissible_bits(threat, x_adv, x).all()
    assert (x_adv != x).any()


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("eps", [2, 5, math.inf])
def test_the_search_breaks_all_that_the_five_break(k, hard, eps):
    model, x, y = trained(k=k, hard=hard)
    threat = Bits(eps)
    union = torch.zeros(len(x), dtype=torch.bool)
    for attack in FIVE:
        union |= wrong(model, attack(threat)(model, x, y), y)
    x_adv = BitSearch(threat)(model, x, y)
    assert admissible_bits(threat, x_adv, x).all()
    mine = wrong(model, x_adv, y)
    assert mine[union].all()
    assert union.any()


def test_swaps_reach_what_gradients_do_not():
    """A bit of slope 0 that pays most, within a budget that others have used up."""

    def model(z: Tensor) -> Tensor:
        pays = 4 * z[:, 0] ** 2 + 0.3 * z[:, 2] + 0.2 * z[:, 3]
        return torch.stack([torch.full_like(pays, 20.0), pays], 1)

    x, y = torch.zeros(1, 6), torch.zeros(1, dtype=torch.long)
    for eps, best in ((1, [1, 0, 0, 0, 0, 0]), (2, [1, 0, 1, 0, 0, 0])):
        assert BitSearch(Bits(eps), restarts=1)(model, x, y).tolist() == [best]
        blind = BitSearch(Bits(eps), restarts=1, tries=0)(model, x, y)
        assert blind[0, 0] == 0


def test_the_gradient_swaps_too():
    """What was best at x is not, once the other bit of a pair is there."""

    def model(z: Tensor) -> Tensor:
        pays = 3 * z[:, 0] * z[:, 1] + z[:, 2] + 1.2 * z[:, 1] + 0.1 * z[:, 0]
        return torch.stack([torch.full_like(pays, 20.0), pays], 1)

    x, y = torch.zeros(1, 6), torch.zeros(1, dtype=torch.long)
    x_adv = BitSearch(Bits(2), restarts=1, tries=0)(model, x, y)
    assert x_adv.tolist() == [[1, 1, 0, 0, 0, 0]]


@pytest.mark.parametrize("attack", FIVE)
class TestTraining:
    def gain(self, model, y):
        def f(z):
            logits = model(z)
            return cross_entropy(logits, y)

        return f

    def test_it_maximizes_the_gain_of_a_trainer(self, attack):
        model, x, y = steady()
        climbed = attack(Bits(3)).maximize(self.gain(model, y), Batch(x, y))
        assert torch.equal(climbed, attack(Bits(3))(model, x, y))
        assert admissible_bits(Bits(3), climbed, x).all()
        assert not climbed.requires_grad

    def test_only_some_classes_move(self, attack):
        model, x, _ = steady()
        y = torch.arange(len(x)) % 2
        x_adv = attack(Only(Bits(), classes=[1])).maximize(self.gain(model, y), Batch(x, y))
        assert torch.equal(x_adv[y == 0], x[y == 0])
        assert attack is BCA or (x_adv[y == 1] != x[y == 1]).any()


class TestBitSearchInTraining:
    def gain(self, model, y):
        return lambda z: cross_entropy(model(z), y)

    @pytest.mark.parametrize("eps", [1, 4, math.inf])
    def test_of_a_linear_model_it_is_the_optimum(self, eps):
        w, x, y = weights(9), bits(12, 9), torch.zeros(12, dtype=torch.long)
        model = Linear(w)
        attack = BitSearch(Bits(eps, add_only=False), steps=1, restarts=1)
        z = attack.maximize(self.gain(model, y), Batch(x, y))

        def lead(at: Tensor) -> Tensor:
            return model(at).diff(dim=1)[:, 0]

        slope = lead(torch.eye(9).double()) - lead(torch.zeros(9, 9).double())
        change = ((1 - 2 * x) * slope).clamp_min(0).sort(1, descending=True).values
        torch.testing.assert_close(lead(z) - lead(x), change[:, : int(min(eps, 9))].sum(1))

    @pytest.mark.parametrize("restarts", [1, 3])
    def test_it_gains_more_than_the_five(self, restarts):
        model, x, y = trained(hard=True)
        f, batch = self.gain(model, y), Batch(x, y)
        z = BitSearch(Bits(5), steps=5, restarts=restarts).maximize(f, batch)
        assert admissible_bits(Bits(5), z, x).all()
        assert not z.requires_grad
        assert (f(z) >= f(x)).all()
        others = torch.stack([f(attack(Bits(5), steps=5).maximize(f, batch)) for attack in FIVE])
        assert f(z).mean() > others.mean(1).max()

    def test_it_reaches_what_its_call_reaches_by_gradients(self):
        model, x, y = steady()
        attack = BitSearch(Bits(3), restarts=1, tries=0)
        assert torch.equal(attack.maximize(self.gain(model, y), Batch(x, y)), attack(model, x, y))

    def test_only_some_classes_move(self):
        model, x, _ = steady()
        y = torch.arange(len(x)) % 2
        attack = BitSearch(Only(Bits(), classes=[1]), restarts=2)
        z = attack.maximize(self.gain(model, y), Batch(x, y))
        assert torch.equal(z[y == 0], x[y == 0])
        assert (z[y == 1] != x[y == 1]).any()

    def test_its_passes(self):
        model, x, y = trained(hard=True)
        seen: list[int] = []
        model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
        attack = BitSearch(Bits(5), steps=2, restarts=2, roundings=1)
        attack.maximize(self.gain(model, y), Batch(x, y))
        forwards = 2 * 6 + (2 + 3 + 1) + 2 * 6
        assert seen == [len(x)] * forwards


@pytest.mark.parametrize("attack", ALL)
class TestOddities:
    def test_a_gradient_that_is_no_number_harms_no_other(self, attack):
        linear, x, y = Linear(weights(6)), bits(4, 6), torch.zeros(4, dtype=torch.long)
        bad = torch.tensor([False, True, False, False])

        def model(z: Tensor) -> Tensor:
            # finite logits, so that the row stays; the slope of a root at 0, times 0, is no number
            root = torch.where(bad, 0 * z.sum(1), 1.0).sqrt()
            return linear(z) * (root + bad)[:, None]

        if attack is BitSearch:  # it runs on some of the rows: mark the bad ones by their inputs
            x[:, 0], x[1, 0] = 0.0, 1.0

            def model(z: Tensor) -> Tensor:
                odd = torch.stack([z[:, 0] == 1.0, torch.zeros_like(z[:, 0], dtype=torch.bool)], 1)
                return linear(z) * torch.where(odd, torch.nan, 1.0)

            threat = Bits(2, mutable=[0, 1, 1, 1, 1, 1])
        else:
            threat = Bits(2)
        rows = torch.tensor([0, 2, 3])
        x_adv = attack(threat)(model, x, y)
        assert torch.equal(x_adv[rows], attack(threat)(linear, x, y)[rows])
        assert admissible_bits(threat, x_adv, x).all()

    def test_images_and_rows_alone(self, attack):
        model = nn.Sequential(nn.Flatten(), *Net(18, 3, scale=2.0)).double()
        x = bits(6, 18).view(6, 2, 3, 3)
        y = model(x).argmax(1)
        x_adv = attack(Bits(4))(model, x, y)
        assert admissible_bits(Bits(4), x_adv, x).all()
        if attack in (BitSearch, RFGSM):  # they draw
            return
        for i in range(6):
            alone = attack(Bits(4))(model, x[i : i + 1], y[i : i + 1])
            assert torch.equal(alone[0], x_adv[i])

    def test_refusals(self, attack):
        with pytest.raises(ValueError, match=f"a ball of Bits for {attack.__name__}"):
            attack(Linf(0.1))
        with pytest.raises(ValueError, match="steps = 0 is not allowed"):
            attack(Bits(), steps=0)
        with pytest.raises(ValueError, match="mode = 'evil' is not allowed"):
            attack(Bits(), mode="evil")
        model, x, y = steady()
        with pytest.raises(ValueError, match=r"x has the value 0\.5: for Bits every feature must"):
            attack(Bits())(model, x + 0.5 * (x == 0), y)


def test_their_number_of_passes():
    model, x, y = steady(d=40, b=3)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    for attack, num_passes in ((DFGSM, 11), (Grosse, 10), (RFGSM, 11)):
        seen.clear()
        attack(Bits(), steps=10)(model, x, y)
        assert seen == [3] * num_passes
    seen.clear()
    RFGSM(Bits(), steps=10, draws=4)(model, x, y)
    assert seen == [3] * 14


def test_a_broken_sample_leaves():
    model, x, y = trained()
    seen: list[int] = []
    hook = model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    x_adv = BGA(Bits())(model, x, y)
    hook.remove()
    assert seen == sorted(seen, reverse=True)
    assert wrong(model, x_adv, y).any()
    assert seen[-1] < seen[0]


@pytest.mark.parametrize("make", [DFGSM, lambda t, **k: RFGSM(t, draws=4, **k)])
def test_a_random_start_climbs_what_is_flat_at_x(make):
    """The gain of TRADES has no gradient at x: without a random start nothing moves."""
    model, x, y = trained()
    batch, clean = Batch(x, y), model(x).detach().softmax(1)

    def kl(z: Tensor, _: Tensor) -> Tensor:
        logits = model(z)
        value = -(clean * (logits.log_softmax(1) - clean.log())).sum(1)
        # exactly flat at x, as it is in exact arithmetic
        value = torch.where((z == x).all(1), value.detach() + 0 * logits.sum(1), value)
        return value

    def gain(z: Tensor) -> Tensor:
        return kl(z, y)

    still = make(Bits(), steps=5).maximize(gain, batch)
    moved = make(Bits(), steps=5, random_start=True).maximize(gain, batch)
    assert torch.equal(still, x)
    assert admissible_bits(Bits(), moved, x).all()
    assert (gain(moved) >= gain(x)).all()
    assert (gain(moved) > 0.1).float().mean() > 0.5
