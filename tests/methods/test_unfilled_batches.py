"""A batch that `maximize` has not filled is refused in a sentence, by each method that needs it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring.batch import Batch
from sparring.methods import (
    ALP,
    AT,
    JR,
    MART,
    OTJR,
    SAT,
    TRADES,
    UAD,
    UAT,
    SemiSupervised,
    Standard,
    TransportJR,
)
from sparring.objective import Objective
from sparring.risks import Mean

METHODS = [ALP(), AT(), JR(), JR(jac=0.0), MART(), OTJR(), OTJR(sw=0.0, jac=0.0), SAT()]
METHODS += [SAT(weight=0.0), TRADES(), TransportJR(), UAD(sites=(), reference="none"), UAT()]
METHODS += [SemiSupervised(of=AT(), unlabelled=UAT())]


def problem() -> tuple[nn.Module, Batch]:
    return nn.Linear(4, 3), Batch(torch.rand(6, 4), torch.arange(6) % 3)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_message_says_what_to_call(method):
    with pytest.raises(ValueError, match=r"x_adv is missing: call objective\.maximize"):
        method.loss(*problem())


@pytest.mark.parametrize("method", [Standard(), AT()], ids=str)
def test_so_does_that_of_the_objective(method):
    with pytest.raises(ValueError, match=r"cost is missing: call maximize\(model, batch\) first"):
        Objective(None, method, Mean()).minimize(*problem())


@pytest.mark.parametrize("method", [ALP(), AT(), JR(), OTJR(), SAT(), UAT()], ids=str)
def test_labels_are_those_of_x_where_the_adversary_moves_none(method):
    model, batch = problem()
    batch.x_adv = batch.x + 0.1
    torch.manual_seed(0)
    without = method.loss(model, batch).per_sample
    batch.y_adv = batch.y
    torch.manual_seed(0)
    assert torch.equal(without, method.loss(model, batch).per_sample)
