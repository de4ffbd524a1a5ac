"""A goal as a model: arg max, gradient, transformations and lead, by their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from sparring.attacks import APGD, FAB, PGD, HopSkipJump, Square
from sparring.attacks.goal import Goal
from sparring.threats import L2, Linf


def logits(n: int = 64, k: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def identity(x: torch.Tensor) -> torch.Tensor:
    return x


def test_without_more_the_goal_is_the_model_up_to_a_constant():
    z = logits()
    out = Goal(identity, 2)(z)
    assert torch.allclose(out.log_softmax(1), z.log_softmax(1), atol=1e-6)


def test_a_target_is_reached_exactly_where_it_is_the_largest():
    z = logits()
    for target in range(5):
        goal = Goal(identity, 1, target=target)
        assert torch.equal(goal(z).argmax(1) != goal.attacked_label, z.argmax(1) == target)


def test_a_lead_asks_for_more_logits():
    z = logits()
    wrong = Goal(identity, 0, lead=0.7)(z).argmax(1) != 0
    assert torch.equal(wrong, z[:, 1:].amax(1) - z[:, 0] > 0.7)


def test_a_success_is_one_under_every_transformation():
    shift = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    goal = Goal(identity, 0, transforms=[lambda x: x + shift])
    z = logits()
    other = z[:, 1:].amax(1)
    assert torch.equal(goal(z).argmax(1) != 0, (other > z[:, 0]) & (other > z[:, 0] + 1))


def test_the_gradient_is_the_mean_over_the_transformations():
    scales = (1.0, 3.0)
    goal = Goal(identity, 0, transforms=[lambda x: scales[1] * x])
    z = logits(4).requires_grad_()
    (grad,) = torch.autograd.grad(goal(z)[:, 1].sum(), z)
    expected = torch.zeros_like(z)
    expected[:, 1], expected[:, 0] = 2.0, -2.0  # the mean of 1 and 3
    assert torch.allclose(grad, expected)


@pytest.mark.parametrize("attack", [PGD, APGD, Square, FAB, HopSkipJump])
@pytest.mark.parametrize("target", [1, 3])
def test_any_attack_reaches_a_target(attack, target):
    """On a linear model a radius of the distance to the target's region is enough."""
    draw = torch.Generator().manual_seed(2)
    w = torch.randn(4, 3 * 8 * 8, generator=draw) / 14
    model = lambda x: 8 * (x.flatten(1) - 0.5) @ w.T  # noqa: E731
    x = 0.3 + 0.4 * torch.rand(1, 3, 8, 8, generator=draw)
    label = int(model(x).argmax())
    assert label != target
    goal = Goal(model, label, target=target)
    ball = L2(4.0) if attack is HopSkipJump else Linf(0.12)
    little = {"queries": 2000} if attack in (Square, HopSkipJump) else {}
    x_adv = attack(ball, **little)(goal, x, torch.tensor([goal.attacked_label]))
    assert int(model(x_adv).argmax()) == target


def test_a_target_far_behind_still_has_a_slope():
    """A cross-entropy of two classes 200 logits apart is 0 in float32, and rises nowhere."""
    model = lambda x: torch.stack([100 + 0 * x[:, 0], -100 + 120 * x[:, 0]], 1)  # noqa: E731
    goal = Goal(model, 0, target=1)
    x = torch.full((1, 1), 0.1)
    x_adv = APGD(Linf(0.85), steps=20, loss="ce")(goal, x, torch.tensor([0]))
    assert x_adv.item() == pytest.approx(0.95, abs=1e-5)


@pytest.mark.parametrize("lead", [-1.0, math.inf, math.nan])
def test_a_lead_is_a_number_of_logits(lead):
    with pytest.raises(ValueError, match="lead"):
        Goal(identity, 0, lead=lead)
