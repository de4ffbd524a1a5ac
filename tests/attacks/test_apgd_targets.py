"""The classes that APGD aims at, and their order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring.attacks import APGD
from sparring.attacks.apgd import CANDIDATES, MANY, likeliest_classes
from sparring.attacks.base import ActiveSet
from sparring.attacks.rows import wrong_classes
from sparring.threats import L1, L2, Linf
from tests.oracles import problem

DUAL = {Linf: 1.0, L2: 2.0, L1: float("inf")}


def targeted(threat, **keywords) -> APGD:
    return APGD(threat, loss="dlr-targeted", steps=3, **keywords)


def classifier(classes: int, d: int = 6) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, classes)).double().eval()


def inputs(n: int = 9, d: int = 6) -> torch.Tensor:
    return torch.rand(n, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("kind", list(DUAL), ids=lambda kind: kind.__name__)
def test_linearity_is_the_distance_to_the_linear_boundary(kind):
    """Sample by sample: (z_y − z_t) / ‖∇z_y − ∇z_t‖ in the dual norm, from the whole Jacobian."""
    model, x = classifier(7), inputs()
    y = model(x).argmax(1)
    attack, active = targeted(kind(0.1), targets=4, order="linearity"), ActiveSet(model, x, y)
    assert attack.num_rounds(active) == 4
    for i in range(len(x)):
        rows = torch.autograd.functional.jacobian(lambda v: model(v[None])[0], x[i])
        z, label = model(x[i : i + 1])[0], int(y[i])
        distance = {
            t: ((z[label] - z[t]) / (rows[label] - rows[t]).norm(DUAL[kind])).item()
            for t in range(7)
            if t != label
        }
        expected = sorted(distance, key=distance.__getitem__)[:4]
        assert [int(attack._target(active, turn)[i]) for turn in range(4)] == expected


@pytest.mark.parametrize(("classes", "linear"), [(MANY - 1, False), (MANY, True)])
def test_auto_takes_linearity_from_100_classes_on(classes, linear):
    model, x = classifier(classes), inputs()
    y = model(x).argmax(1)
    orders = {}
    for order in ("logits", "linearity", "auto"):
        attack, active = targeted(Linf(0.1), targets=3, order=order), ActiveSet(model, x, y)
        attack.num_rounds(active)
        orders[order] = attack._targets
    assert torch.equal(orders["auto"], orders["linearity" if linear else "logits"])
    assert not torch.equal(orders["logits"], orders["linearity"])
    # Of very many classes those of highest logit are candidates.
    first = wrong_classes(model(x), y)[:, :CANDIDATES]
    assert all(
        set(o.tolist()) <= set(f.tolist()) for o, f in zip(orders["auto"], first, strict=True)
    )


def test_the_order_is_sought_once_and_serves_the_rows_that_stay():
    model, x, y = problem(b=40)
    y, calls = model(x).argmax(1), []

    class Counted(APGD):
        def _order_targets(self, active):
            calls.append(len(active))
            return super()._order_targets(active)

    attack = Counted(Linf(0.06), loss="dlr-targeted", steps=8, restarts=2)
    x_adv = attack(model, x, y)
    broken = model(x_adv).argmax(1) != y
    assert 0 < broken.sum() < 40
    assert calls == [40]
    active = ActiveSet(model, x, y)
    attack.num_rounds(active)
    active.broken = broken
    active.restart()
    order = wrong_classes(model(x), y)[~broken]
    assert all(torch.equal(attack._target(active, t), order[:, t % 3]) for t in range(6))


def test_a_class_without_slope_comes_last():
    def model(x):
        return torch.stack([1 + x[:, 0], 0.9 + x[:, 0], x[:, 1]], 1)

    x, y = torch.tensor([[0.5, 0.5]]), torch.tensor([0])
    active = ActiveSet(model, x, y)
    order = likeliest_classes(active, torch.tensor([[1, 2]]), torch.inf)
    assert order.tolist() == [[2, 1]]


def test_probability_margin_is_a_loss_of_apgd():
    model, x, y = problem(b=40)
    y = model(x).argmax(1)
    x_adv = APGD(Linf(0.06), loss="probability-margin", steps=20)(model, x, y)
    assert 0 < (model(x_adv).argmax(1) != y).sum() < 40
