"""AWP and SAM pass each batch twice; a risk that solves λ moves it once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.methods import AT
from sparring.objective import Objective
from sparring.risks import KL
from sparring.threats import Transport
from sparring.training.stepper import Stepper
from sparring.weights import AWP, SAM
from tests.training.small import plain_steps


def settled(climb) -> list[float]:
    """λ after each of the last steps of weights that hardly move."""
    torch.manual_seed(0)
    model, x = nn.Linear(2, 2), torch.rand(64, 2) * 0.02 + 0.5
    threat = Transport(4.0, descent="gradient", init="zero")
    attack = PGD(threat, steps=40, size=0.1, best=False, random_start=False)
    goal, slow = Objective(attack, AT(), KL(radius=0.01)), {"name": "SGD", "lr": 1e-9}
    arguments = plain_steps(objective=goal, optimizer=slow, climb=climb)
    run = Stepper(model, arguments, x[:2], classes=2, device=torch.device("cpu"))
    run.train()
    seen = []
    for number in range(1, 31):
        run.step(Batch(x, torch.zeros(64, dtype=torch.long)), epoch=1, number=number)
        seen.append(run.objective.risk.multiplier.item())
    return seen[-6:]


@pytest.mark.parametrize("climb", [AWP(gamma=1e-6), SAM(rho=1e-6)], ids=["AWP", "SAM"])
def test_the_multiplier_settles_where_it_does_without(climb):
    without = settled(None)
    assert max(without) - min(without) < 1e-2
    assert settled(climb) == pytest.approx(without, rel=1e-3)


def test_a_climb_that_raises_leaves_the_multiplier():
    class Broken(AT):
        def loss(self, model, batch):
            risk(torch.tensor([1.0, 3.0]), torch.ones(2), Batch(batch.x[:2], batch.y[:2]))
            raise RuntimeError("broken")

    risk = KL(radius=0.01)
    objective = Objective(None, Broken(), risk)
    run = Stepper.__new__(Stepper)
    run.objective, run.climb, run.climb_model = objective, SAM(rho=0.1), nn.Linear(2, 2)
    run.model, before = run.climb_model, risk.multiplier.clone()
    batch = Batch(torch.rand(4, 2), torch.zeros(4, dtype=torch.long), cost=torch.zeros(4))
    with pytest.raises(RuntimeError, match="broken"):
        run._perturbed(batch)
    assert torch.equal(risk.multiplier, before)
