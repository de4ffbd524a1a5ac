"""What a search returns for a sample that it did not break: its point of highest loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring.attacks import APGD, MIFGSM, NES, SPSA, Square
from sparring.attacks.transfer import surrogate_points
from sparring.functional import losses
from sparring.threats import Linf
from tests.oracles import problem

BALL = Linf(0.02)


def unbroken() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A net that is right everywhere, by far: nothing breaks in a small ball."""
    model, x, _ = problem(b=24)
    with torch.no_grad():
        y = model(x).argmax(1)
        top = model(x).topk(2, dim=1).values
    far = top[:, 0] - top[:, 1] > 0.3
    return model, x[far], y[far]


@pytest.mark.parametrize(
    "attack",
    [
        MIFGSM(BALL),
        MIFGSM(BALL, loss="dlr"),
        MIFGSM(BALL, targeted=True),
        MIFGSM(BALL, loss="dlr", targeted=True),
        Square(BALL, queries=50),
        Square(BALL, queries=50, loss="dlr"),
        Square(BALL, queries=50, loss="ce", targeted=True),
        SPSA(BALL, steps=5, loss="dlr"),
        NES(BALL, steps=5, loss="probability-margin"),
        APGD(BALL, steps=5, loss="dlr"),
    ],
    ids=lambda a: f"{type(a).__name__}-{a.loss}-{getattr(a, 'targeted', False)}",
)
def test_the_point_of_highest_loss_is_returned(attack):
    model, x, y = unbroken()
    sign = 1
    if getattr(attack, "targeted", False):
        y, sign = (y + 1) % 4, -1
    x_adv = attack(model, x, y)
    with torch.no_grad():
        missed = (model(x_adv).argmax(1) == y) == (sign == 1)
        gained = sign * (
            losses.BY_NAME[attack.loss](model(x_adv), y) - losses.BY_NAME[attack.loss](model(x), y)
        )
    assert missed.sum() > 8
    assert (gained[missed] > 0).all()


@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
def test_a_surrogates_points_are_ranked_by_the_loss_that_is_climbed(loss):
    model, x, y = unbroken()
    attack, seen = APGD(Linf(0.3), steps=8, loss=loss), []
    handle = model.register_forward_hook(
        lambda _, args, out: seen.append(losses.BY_NAME[loss](out.detach(), y))
    )
    z = surrogate_points(attack, model, x, y)
    handle.remove()
    best = torch.stack(seen).amax(0)
    torch.testing.assert_close(losses.BY_NAME[loss](model(z), y).detach(), best)
