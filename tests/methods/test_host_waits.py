"""How often a step of a training makes the host wait for a GPU, counted on a CPU: a step of any
method or risk must not, so that the host runs ahead of the device."""

import pytest
import torch
from torch import nn

from sparring import attacks, methods, risks, threats
from sparring.batch import Batch
from sparring.introspect.freeze import ModelView
from sparring.methods.base import Method
from sparring.objective import Objective
from sparring.risks.base import Risk
from tests.host_waits import HostWaits, believed_gpu

METHODS = {
    "AT": methods.AT,
    "TRADES": methods.TRADES,
    "MART": methods.MART,
    "ALP": methods.ALP,
    "JR": methods.JR,
    "OTJR": methods.OTJR,
    "TransportJR": methods.TransportJR,
    "UAD": lambda: methods.UAD(sites=["1"], reference="1"),
    "UAT": methods.UAT,
    "Standard": methods.Standard,
}
WAITS = {
    "SAT": 8,
    "Sparsity": 2,
}  # SAT: its transport ends by a tolerance; Sparsity: two row counts


def network() -> nn.Sequential:
    pool = nn.AvgPool2d(4)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), pool)
    return net.extend([nn.Flatten(), nn.Linear(16, 10)])


def waits_of_a_step(method: Method, risk: Risk) -> HostWaits:
    """The waits of the second step, from the attack to the optimizer."""
    model = network()
    attack = attacks.PGD(threats.Linf(0.1), steps=3, best=False)
    objective, view, loss_view = Objective(attack, method, risk), ModelView(model), ModelView(model)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(2):
        x, y = torch.rand(16, 1, 8, 8), torch.randint(0, 10, (16,))
        with believed_gpu(), HostWaits() as waits:
            batch = objective.maximize(view, Batch(x, y))
            loss = objective.minimize(loss_view, batch)
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
            objective.update(model, batch)
    return waits


@pytest.mark.parametrize("name", list(METHODS))
def test_no_method_waits(name):
    assert dict(waits_of_a_step(METHODS[name](), risks.Mean()).places) == {}


@pytest.mark.parametrize("name", list(WAITS))
def test_those_that_must_wait_seldom(name):
    assert waits_of_a_step(getattr(methods, name)(), risks.Mean()).total <= WAITS[name]


@pytest.mark.parametrize("name", ["KL", "Alpha", "Renyi", "CVaR"])
def test_no_risk_waits(name):
    waits = waits_of_a_step(methods.AT(), getattr(risks, name)())
    assert dict(waits.places) == {}
