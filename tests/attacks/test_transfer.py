"""Transfer: points from a surrogate, on a model whose gradients are gone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring.attacks import APGD, FAB, PGD, Transfer
from sparring.threats import Linf
from tests.oracles import Linear, Net, problem

F64 = torch.float64


class Flat(nn.Module):
    """A model behind a step of 1e-6: the same answers, gradient 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        out = self.model(x)
        return out.detach() + 0 * x.flatten(1).sum(1, keepdim=True)


def broken(attack, model, x, y):
    x_adv = attack(model, x, y)
    with torch.no_grad():
        return model(x_adv).argmax(1) != y, x_adv


class TestTransfer:
    ball = Linf(0.15)

    def problem(self):
        model, x, _ = problem(b=40)
        with torch.no_grad():
            return model, x, model(x).argmax(1)

    def test_the_model_itself_without_its_gradients_as_surrogate(self):
        """What PGD breaks with gradients, transfer breaks without."""
        model, x, y = self.problem()
        direct, _ = broken(PGD(self.ball, steps=40), model, x, y)
        blind, _ = broken(PGD(self.ball, steps=40, random_start=False), Flat(model), x, y)
        moved, x_adv = broken(
            Transfer(self.ball, surrogate=model, attack=PGD(self.ball, steps=40)), Flat(model), x, y
        )
        assert direct.sum() > blind.sum()
        assert moved.sum() >= direct.sum()
        assert (self.ball.distance(x_adv, x) <= 0.15 + 1e-12).all()

    def test_a_scaled_linear_surrogate_finds_the_exact_worst_point(self):
        w = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
        x = torch.full((1, 3), 0.5, dtype=F64)
        surrogate = Linear(3 * w, 0.0)
        model = Linear(w, -(x @ w).item() - 0.999 * 0.15 * w.abs().sum().item())
        y = torch.zeros(1).long()
        for attack in (PGD(self.ball), APGD(self.ball, steps=10)):
            wrong, _ = broken(Transfer(self.ball, surrogate=surrogate, attack=attack), model, x, y)
            assert wrong.all()

    def test_climbing_to_the_end_transfers_better_than_the_first_success(self):
        model, x, y = self.problem()
        other = Net(6, 4, scale=2.0, seed=0).double()
        with torch.no_grad():
            for v in other.parameters():
                noise = torch.randn(v.shape, dtype=F64, generator=torch.Generator().manual_seed(1))
                v += 0.3 * noise
        first = FAB(self.ball)  # hands over points that have only just crossed
        ends = PGD(self.ball, steps=40)
        near, _ = broken(Transfer(self.ball, surrogate=other, attack=first), model, x, y)
        far, _ = broken(Transfer(self.ball, surrogate=other, attack=ends), model, x, y)
        assert far.sum() > near.sum()

    def test_each_attack_sees_what_those_before_it_left(self):
        model, x, y = self.problem()
        seen = []

        class Spy(PGD):
            def maximize(self, f, batch):
                seen.append(len(batch.x))
                return super().maximize(f, batch)

        attack = Transfer(self.ball, surrogate=model, attack=[Spy(self.ball), Spy(self.ball)])
        wrong, _ = broken(attack, Flat(model), x, y)
        assert seen[0] == len(x)
        assert 0 < seen[1] < len(x)
        assert wrong.sum() >= len(x) - seen[1]

    def test_what_leaves_the_ball_is_projected_back(self):
        model, x, y = self.problem()
        wide = PGD(Linf(0.6), steps=10)
        _, x_adv = broken(Transfer(self.ball, surrogate=model, attack=wide), Flat(model), x, y)
        assert (self.ball.distance(x_adv, x) <= 0.15 + 1e-12).all()

    def test_its_seed_takes_the_place_of_the_attacks_own(self):
        model, x, y = self.problem()

        def run(inner, outer):
            attack = PGD(Linf(0.02), steps=1, seed=inner)
            return Transfer(Linf(0.02), surrogate=model, attack=attack, seed=outer)(
                Flat(model), x, y
            )

        assert torch.equal(run(0, 5), run(1, 5))
        assert not torch.equal(run(0, 5), run(0, 6))

    def test_the_surrogate_is_left_as_it_was(self):
        model, x, y = self.problem()
        surrogate = nn.Sequential(nn.BatchNorm1d(6), Net(6, 4)).double().train()
        before = {k: v.clone() for k, v in surrogate.state_dict().items()}
        Transfer(self.ball, surrogate=surrogate, attack=PGD(self.ball))(Flat(model), x, y)
        assert surrogate.training
        assert all(torch.equal(v, before[k]) for k, v in surrogate.state_dict().items())
        assert all(v.grad is None for v in surrogate.parameters())

    def test_what_cannot_be(self):
        model, x, y = self.problem()
        with pytest.raises(ValueError, match="at least one"):
            Transfer(self.ball, surrogate=model, attack=[])
        with pytest.raises(ValueError, match="untargeted"):
            Transfer(self.ball, surrogate=model, attack=PGD(self.ball, targeted=True))
        two = Net(6, 2).double()
        with pytest.raises(ValueError, match="surrogate has 2 classes"):
            Transfer(self.ball, surrogate=two, attack=PGD(self.ball))(model, x, y)
        five = Net(6, 5).double()
        with pytest.raises(ValueError, match="surrogate has 5 classes and the model 4"):
            Transfer(self.ball, surrogate=five, attack=PGD(self.ball))(model, x, y)
