"""Free adversarial training is the paper's loop: one backward pass for the weights and for δ."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sparring.attacks import Free
from sparring.batch import Batch
from sparring.methods import AT
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf
from sparring.weights import AWP
from tests.oracles import problem
from tests.reference import training


def loop(model, objective: Objective, batch: Batch, replays: int, lr: float) -> list[float]:
    """An ordinary training loop that uses a batch `replays` times."""
    losses = []
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(replays):
        loss = objective.minimize(model, objective.maximize(model, batch))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    return losses


@pytest.mark.parametrize("size", [None, 0.02])
def test_the_literal_loop(size):
    model, x, y = problem()
    twin = copy.deepcopy(model)
    attack = Free(Linf(0.1), replays=6, size=size)
    losses = loop(model, Objective(attack, AT(), Mean()), Batch(x, y), attack.replays, 0.5)
    delta, expected = training.free(twin, x, y, eps=0.1, size=size or 0.1, replays=6, lr=0.5)
    assert losses == pytest.approx(expected, rel=1e-9)
    assert torch.allclose(attack._delta, delta, atol=1e-12)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_the_perturbation_is_carried_to_the_next_batch():
    model, x, y = problem(b=16)
    attack = Free(Linf(0.1), size=0.03)
    objective = Objective(attack, AT(), Mean())
    loop(model, objective, Batch(x[:8], y[:8]), 1, 0.1)
    assert attack._delta.abs().max() == pytest.approx(0.03)
    carried = objective.maximize(model, Batch(x[8:], y[8:])).x_adv
    assert torch.allclose(carried, (x[8:] + attack._delta).clamp(0, 1))


def test_a_batch_of_another_shape_begins_at_zero():
    model, x, y = problem()
    objective = Objective(Free(Linf(0.1)), AT(), Mean())
    loop(model, objective, Batch(x, y), 1, 0.1)
    assert torch.equal(objective.maximize(model, Batch(x[:3], y[:3])).x_adv, x[:3])


def test_the_perturbation_is_part_of_the_state():
    model, x, y = problem()
    attack, again = Free(Linf(0.1)), Free(Linf(0.1))
    again.load_state_dict(attack.state_dict())
    assert again._delta is None
    loop(model, Objective(attack, AT(), Mean()), Batch(x, y), 2, 0.1)
    again.load_state_dict(attack.state_dict())
    assert torch.equal(again._delta, attack._delta)


def test_only_the_training_loss_moves_it():
    """The pass of a climb asks for gradients of the weights alone: δ waits for the step's own
    backward."""
    model, x, y = problem()
    attack = Free(Linf(0.1))
    objective = Objective(attack, AT(), Mean())
    batch = objective.maximize(model, Batch(x, y))
    with AWP().perturbed(model, lambda: objective.minimize(model, batch).total):
        assert getattr(attack, "_delta", None) is None
        objective.minimize(model, batch).total.backward()
    assert attack._delta is not None


def test_values_out_of_range():
    with pytest.raises(ValueError, match="replays = 0 is not allowed"):
        Free(Linf(0.1), replays=0)
    with pytest.raises(ValueError, match=r"size = -1\.0 is not allowed"):
        Free(Linf(0.1), size=-1.0)


def test_a_call_says_that_it_is_for_training():
    with pytest.raises(NotImplementedError, match="Free attacks in training only"):
        Free(Linf(0.1))(nn.Identity(), torch.rand(1, 2), torch.tensor([0]))
