"""Logits that name no class: wrong to every search as to the judge, whatever the label."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparring import attacks
from sparring.attacks.base import ActiveSet
from sparring.attacks.goal import Goal
from sparring.evaluation.judge import judge
from sparring.introspect.predict import predicted_class
from sparring.threats import L0, L2, Linf

INF, NAN = torch.inf, torch.nan
LABELS = range(3)
ATTACKS = {
    "PGD": attacks.PGD(Linf(0.2)),
    "APGD": attacks.APGD(Linf(0.2), steps=20),
    "APGDT": attacks.APGDT(Linf(0.2), steps=20),
    "MIFGSM": attacks.MIFGSM(Linf(0.2)),
    "Square": attacks.Square(Linf(0.2), queries=50),
    "SPSA": attacks.SPSA(Linf(0.2), steps=10, size=0.05),
    "SparseRS": attacks.SparseRS(L0(2), queries=50),
    "CW": attacks.CW(L2(0.4), steps=40, size=0.05),
    "HopSkipJump": attacks.HopSkipJump(L2(0.4), queries=300),
    "Noise": attacks.Noise(Linf(0.2), draws=50),
}


class Breaks(torch.nn.Module):
    """Every sample is right by a lead that falls, and never to 0, as its features rise; beyond a
    sum of them there is no class."""

    def __init__(self, y: Tensor, row: tuple[float, ...]) -> None:
        super().__init__()
        self.y, self.row, self.limit = y, torch.tensor(row), 2.3

    def forward(self, x: Tensor) -> Tensor:
        total = x.sum(1, keepdim=True)
        lead = torch.nn.functional.one_hot(self.y[:1], 3) * (5 - total)
        return torch.where(total > self.limit, self.row, lead)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("row", [(NAN, NAN, NAN), (INF, INF, INF), (0.0, NAN, 1.0)], ids=str)
@pytest.mark.parametrize("name", list(ATTACKS))
def test_every_search_breaks_it(name, row, label):
    x, y = torch.full((2, 4), 0.5), torch.full((2,), label)
    model, attack = Breaks(y, row), ATTACKS[name]
    attack.reseed(0)
    x_adv = attack(model, x, y)
    assert judge(model, attack.threat, x_adv, x, y, name=name).is_adversarial(y).all()


ROWS = torch.tensor([[NAN, NAN], [INF, 0], [0, INF], [NAN, 0], [-INF, -INF], [1, 0], [0, -INF]])


@pytest.mark.parametrize("y", [-1, 0, 1])
def test_a_search_sees_what_the_judge_sees(y):
    labels = torch.full((len(ROWS),), y)
    pred = predicted_class(ROWS)
    active = ActiveSet(torch.nn.Identity(), torch.rand(len(ROWS), 2), labels)
    assert torch.equal(active.is_adversarial(ROWS, labels), (pred != y) | (pred < 0))
    active.targeted = True
    assert torch.equal(active.is_adversarial(ROWS, labels), (pred == y) & (pred >= 0))


def test_no_class_is_no_target():
    """The first of the classes without a number was a success, though none is predicted."""
    x, y = torch.full((2, 4), 0.5), torch.zeros(2, dtype=torch.long)
    for target in LABELS:
        model = Breaks(y, (NAN, NAN, NAN))
        goal = Goal(model, 0, target=target)
        over = torch.full((2, 4), 0.6)
        reached = goal(over).argmax(1) != goal.attacked_label
        assert predicted_class(goal(over)).ge(0).all()
        assert not reached.any()
        active = ActiveSet(model, x, y + target, targeted=True)
        assert not active.is_adversarial(model(over), y + target).any()


def test_one_transformation_without_a_class_is_no_success_under_all():
    z = torch.tensor([[3.0, 1.0, 0.0]])
    goal = Goal(lambda x: x, 0, transforms=[lambda x: x * NAN])
    assert torch.equal(goal(z), torch.tensor([[0.0, -2.0, -3.0]]))
    one = Goal(lambda x: x * NAN, 0)
    assert torch.equal(one(z), torch.tensor([[0.0, INF, INF]]))  # the label is left by any lead
    both = Goal(lambda x: x * NAN, 0, transforms=[lambda x: x])
    assert predicted_class(both(z)).item() == -1
