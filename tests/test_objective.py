"""The formula: what maximize fills, what minimize adds up, and a training run whose optimum is
known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import PGD
from sparring.batch import Batch, Loss
from sparring.functional.losses import boosted_ce, cross_entropy, kl
from sparring.methods import AT, MART, TRADES, Method, Standard
from sparring.objective import Objective
from sparring.risks import KL, CVaR, Mean, PerClass, Risk
from sparring.threats import Linf, Threat
from tests.oracles import Linear, NormedNet, TwoGaussians, problem
from tests.reference import balls, search


class Pays(Threat):
    """Any point; the cost is ‖x' − x‖₂², as in Sinha et al. 2018."""

    low, high = -10.0, 10.0

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        return z + size * grad

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        return z

    def cost(self, z: Tensor, batch: Batch) -> Tensor:
        return (z - batch.x).square().sum(1)


class Linearly(Method):
    """The adversary gains w·x'."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = w

    def gain(self, model: nn.Module, batch: Batch):
        return lambda x_adv, y_adv: x_adv @ self.w

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        return Loss(batch.x_adv @ self.w)


class Fined(Standard):
    """Standard training with a penalty."""

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        return replace(super().loss(model, batch), penalty=torch.tensor(2.0))


class TestMaximize:
    def test_it_fills_the_batch_and_changes_nothing_else(self):
        model, x, y = problem()
        batch = Batch(x, y)
        full = Objective(PGD(Linf(0.1)), AT(), Mean()).maximize(model, batch)
        assert batch.x_adv is batch.y_adv is batch.cost is None
        assert full.x is x
        assert full.y_adv is y
        assert torch.equal(full.cost, torch.zeros_like(batch.weight))
        assert 0.05 < (full.x_adv - x).abs().max() <= 0.1 + 1e-12
        assert not full.x_adv.requires_grad

    def test_without_an_attack_x_is_the_adversarial_point(self):
        model, x, y = problem()
        full = Objective(None, AT(), Mean()).maximize(model, Batch(x, y))
        assert full.x_adv is x
        assert full.y_adv is y
        assert full.cost.eq(0).all()

    def test_a_multiplier_on_transport_has_its_known_optimum(self):
        """max w·δ − λ‖δ‖² is reached at δ = w/2λ, where it costs ‖w‖²/4λ²."""
        w, multiplier = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), 4.0
        x, y = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.long)
        attack = PGD(Pays(), steps=200, size=0.1, random_start=False)
        objective = Objective(attack, Linearly(w), Mean(multiplier=multiplier))
        full = objective.maximize(nn.Identity(), Batch(x, y))
        assert torch.allclose(full.x_adv, (w / (2 * multiplier)).expand(2, 3))
        assert torch.allclose(full.cost, w.square().sum() / (4 * multiplier**2))
        value = w.square().sum() / (4 * multiplier)
        assert torch.allclose(objective.minimize(nn.Identity(), full).total, value)

    @pytest.mark.parametrize("mode", ["eval", "train", "keep"])
    def test_the_model_is_held_in_the_mode_of_the_attack(self, mode):
        model, seen = NormedNet(), []
        model[3].p = 0.0
        model.register_forward_pre_hook(lambda m, _: seen.append(m.training))
        batch = Batch(torch.rand(4, 1, 4, 4), torch.zeros(4, dtype=torch.long))
        before = model[1].running_mean.clone()
        Objective(PGD(Linf(0.1), steps=1, mode=mode), TRADES(), Mean()).maximize(model, batch)
        assert set(seen) == {mode != "eval"}
        assert torch.equal(model[1].running_mean, before)
        assert model.training
        assert all(w.requires_grad for w in model.parameters())


class TestTrades:
    """KL and soft-label cross-entropy differ by a constant in x': one and the same search, bit for
    bit."""

    attack = staticmethod(lambda: PGD(Linf(0.1, init="noise"), steps=10, size=0.02, best=False))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_its_attack_is_pgd_on_soft_labels(self, dtype):
        model, x, y = problem(dtype=dtype)
        result = Objective(self.attack(), TRADES(), Mean()).maximize(model, Batch(x, y)).x_adv

        soft = model(x).softmax(1).detach()

        def f(z: Tensor) -> Tensor:
            logits = model(z)
            return cross_entropy(logits, soft)

        assert torch.equal(self.attack().maximize(f, Batch(x, y)), result)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_its_attack_is_the_authors_loop_on_the_kl(self, dtype):
        model, x, y = problem(dtype=dtype)
        result = Objective(self.attack(), TRADES(), Mean()).maximize(model, Batch(x, y)).x_adv

        clean = model(x).detach()
        x_adv = self.attack().threat.random_start(Batch(x, y), torch.Generator().manual_seed(0))
        for _ in range(10):
            x_adv.requires_grad_()
            (grad,) = torch.autograd.grad(kl(clean, model(x_adv)).sum(), x_adv)
            x_adv = x_adv.detach() + 0.02 * grad.sign()
            x_adv = torch.min(torch.max(x_adv, x - 0.1), x + 0.1).clamp(0.0, 1.0)
        assert torch.equal(result, x_adv)


class TestMart:
    def test_the_inner_attack_is_that_of_at_or_its_own_loss(self):
        model, x, y = problem()

        def result(method: Method) -> Batch:
            attack = PGD(Linf(0.05), steps=30, random_start=False)
            return Objective(attack, method, Mean()).maximize(model, Batch(x, y))

        at, ce, self_loss = result(AT()), result(MART()), result(MART(inner="self"))
        assert torch.equal(ce.x_adv, at.x_adv)
        reached = {
            name: MART().loss(model, full).per_sample.mean()
            for name, full in (("self_loss", self_loss), ("ce", ce))
        }
        assert reached["self_loss"] > reached["ce"]

    def test_the_last_iterate_is_the_published_loop(self):
        model, x, y = problem()
        threat = Linf(0.1, init="noise")
        attack = PGD(threat, steps=5, size=0.03, best=False)
        result = Objective(attack, MART(), Mean()).maximize(model, Batch(x, y)).x_adv
        starts = threat.random_start(Batch(x, y), torch.Generator().manual_seed(0))
        for i in range(len(x)):
            path = search.pgd_linf(
                lambda z, i=i: cross_entropy(model(z), y[i : i + 1]),
                x[i],
                starts[i],
                eps=0.1,
                size=0.03,
                steps=5,
            )
            assert torch.allclose(result[i], path[-1], atol=1e-12)
            assert balls.norm((path[-1] - x[i]).tolist(), float("inf")) <= 0.1 + 1e-12

    def test_without_its_second_term(self):
        model, x, y = problem()
        objective = Objective(PGD(Linf(0.1)), MART(beta=0.0), Mean())
        full = objective.maximize(model, Batch(x, y))
        assert torch.equal(
            objective.minimize(model, full).total, boosted_ce(model(full.x_adv), y).mean()
        )


class TestMinimize:
    def test_the_natural_part_is_mixed_in(self):
        model, x, y = problem()
        full = Objective(PGD(Linf(0.1)), AT(), Mean()).maximize(model, Batch(x, y))
        robust = cross_entropy(model(full.x_adv), y).mean()
        clean = cross_entropy(model(x), y).mean()
        for natural in (0.0, 0.3, 1.0):
            loss = Objective(None, AT(), Mean(), natural=natural).minimize(model, full)
            assert torch.allclose(loss.total, (1 - natural) * robust + natural * clean)
            assert ("clean" in loss.terms) == (natural > 0)

    def test_the_penalty_is_added_once(self):
        model, x, y = problem()
        objective = Objective(None, Fined(), Mean(), natural=0.5)
        total = objective.minimize(model, objective.maximize(model, Batch(x, y))).total
        assert torch.allclose(total, cross_entropy(model(x), y).mean() + 2)

    def test_the_base_measure_reaches_every_part(self):
        model, x, y = problem()
        weight = torch.arange(8.0, dtype=x.dtype)
        objective = Objective(None, AT(), Mean(), natural=0.5)
        total = objective.minimize(
            model, objective.maximize(model, Batch(x, y, weight=weight))
        ).total
        assert torch.allclose(total, (weight * cross_entropy(model(x), y)).sum() / weight.sum())

    def test_natural_out_of_range(self):
        for natural in (-0.1, 1.1):
            with pytest.raises(
                ValueError,
                match=r"natural = .* is not allowed: natural must be a weight in \[0, 1\]",
            ):
                Objective(None, AT(), Mean(), natural=natural)


def test_update_reaches_every_part_once():
    seen = []

    def recording(base: type, **members):
        def update(self, model, batch):
            seen.append(base.__name__)

        return type("Recording" + base.__name__, (base,), {"update": update, **members})

    threat, attack = recording(Linf)(0.1), recording(PGD)
    objective = Objective(attack(threat), recording(AT)(), recording(Mean)())
    model, x, y = problem()
    objective.update(model, Batch(x, y))
    assert seen == ["Linf", "PGD", "AT", "Mean"]
    seen.clear()
    Objective(None, recording(AT)(), recording(Mean)()).update(model, Batch(x, y))
    assert seen == ["AT", "Mean"]


def test_the_multiplier_may_be_a_tensor_that_learns():
    class Learns(Risk):
        def __init__(self) -> None:
            super().__init__()
            self.multiplier = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        def forward(self, loss: Tensor, cost: Tensor, batch: Batch) -> Tensor:
            return (loss - self.multiplier * cost).mean()

    w = torch.tensor([1.0], dtype=torch.float64)
    x = torch.zeros(1, 1, dtype=torch.float64)
    objective = Objective(
        PGD(Pays(), steps=100, size=0.1, random_start=False), Linearly(w), Learns()
    )
    full = objective.maximize(nn.Identity(), Batch(x, torch.tensor([0])))
    assert torch.allclose(full.x_adv, torch.full_like(x, 0.25))
    assert objective.risk.multiplier.grad is None
    objective.minimize(nn.Identity(), full).total.backward()
    assert torch.allclose(
        objective.risk.multiplier.grad, torch.tensor(-0.0625, dtype=torch.float64)
    )


class TestTwoGaussians:
    """A linear classifier of two Gaussians: its robust accuracy, and the best there is, in closed
    form."""

    world = TwoGaussians(torch.tensor([1.0] + [0.3] * 10), sigma=0.6)
    eps = 0.3

    def trained(self, objective: Objective) -> tuple[nn.Linear, Tensor, float]:
        x, y = self.world.sample(4000, seed=1)
        model = nn.Linear(11, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
        for _ in range(60):
            loss = objective.minimize(model, objective.maximize(model, Batch(x, y)))
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
        w, b = (p.detach()[1] - p.detach()[0] for p in (model.weight, model.bias))
        return model, w, b.item()

    def attack(self, steps: int = 1) -> PGD:
        return PGD(Linf(self.eps, low=-20.0, high=20.0), steps=steps, random_start=False)

    def test_adversarial_training_reaches_the_optimum(self):
        _, w, b = self.trained(Objective(self.attack(), AT(), Mean()))
        assert self.world.accuracy(w, b, self.eps) > self.world.best(self.eps) - 0.01
        assert w[0] > 10 * w[1:].abs().max()  # what the adversary can erase is not used

    def test_standard_training_does_not(self):
        _, w, b = self.trained(Objective(None, Standard(), Mean()))
        assert self.world.accuracy(w, b) > self.world.best(0.0) - 0.01
        assert self.world.accuracy(w, b, self.eps) < self.world.best(self.eps) - 0.05

    def test_pgd_measures_the_robust_accuracy_that_is_there(self):
        model, w, b = self.trained(Objective(None, Standard(), Mean()))
        x, y = self.world.sample(4000, seed=2)
        x_adv = self.attack(5)(model, x, y)
        measured = (model(x_adv).argmax(1) == y).double().mean().item()
        exact = self.world.accuracy(w, b, self.eps)
        assert abs(measured - exact) < 3 * (exact * (1 - exact) / 4000) ** 0.5


def test_a_linear_model_and_a_batch_of_its_labels():
    """AT on the linear margin: the loss at x' is softplus(eps·‖w‖₁ − margin)."""
    w = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    model, x = Linear(w), torch.full((2, 3), 0.5, dtype=torch.float64)
    y = torch.zeros(2, dtype=torch.long)
    objective = Objective(PGD(Linf(0.1)), AT(), Mean())
    total = objective.minimize(model, objective.maximize(model, Batch(x, y))).total
    side = model(x)[0, 0] - model(x)[0, 1]
    assert torch.allclose(total, nn.functional.softplus(0.1 * w.abs().sum() - side))


@pytest.mark.parametrize("natural", [0.0, 0.5])
@pytest.mark.parametrize(
    "risk", [Mean(), CVaR(level=0.5), KL(radius=0.1), PerClass(KL(), classes=[1])], ids=repr
)
def test_a_batch_of_no_weight_has_loss_0(risk, natural):
    """A short batch may hold nothing but a class that `data.balance` leaves out."""
    model, x, y = problem()
    objective = Objective(PGD(Linf(0.1), steps=1), AT(), risk, natural=natural)
    batch = objective.maximize(model, Batch(x, y, weight=torch.zeros(len(x), dtype=x.dtype)))
    loss = objective.minimize(model, batch)
    loss.total.backward()
    objective.update(model, batch)
    assert loss.total == 0
    assert all((p.grad == 0).all() for p in model.parameters() if p.grad is not None)
