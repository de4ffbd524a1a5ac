"""The battery of every method."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf
from tests.contract.pieces import drawn_notes, every, make
from tests.oracles import Net, problem


def filled(model: nn.Module, x: torch.Tensor, y: torch.Tensor, spread: float = 0.05) -> Batch:
    """A batch as an adversary leaves it."""
    draw = torch.Generator().manual_seed(9)
    delta = spread * (2 * torch.rand(x.shape, generator=draw, dtype=x.dtype) - 1)
    zeros = torch.zeros(len(x), dtype=x.dtype)
    return Batch(x, y, x_adv=(x + delta).clamp(0, 1), y_adv=y, cost=zeros)


@every("method")
def test_per_sample_finite_and_not_negative(name):
    model, x, y = problem()
    loss = make("method", name).loss(model, filled(model, x, y))
    assert loss.per_sample.shape == y.shape
    assert loss.per_sample.isfinite().all()
    assert (loss.per_sample >= 0).all()
    assert all(part.ndim == 0 and not part.requires_grad for part in loss.terms.values())


@every("method")
def test_a_penalty_is_one_number_of_the_precision_of_the_inputs(name):
    for dtype in (torch.float32, torch.float64):
        model, x, y = problem(dtype=dtype)
        penalty = make("method", name).loss(model, filled(model, x, y)).penalty
        if isinstance(penalty, torch.Tensor):
            assert penalty.shape == ()
            assert penalty.dtype == dtype
            assert penalty >= 0
            (grad,) = torch.autograd.grad(penalty, model[0].weight)
            assert grad.isfinite().all()
            assert grad.abs().sum() > 0


@every("method")
def test_rows_are_independent(name):
    model, x, y = problem()
    method, notes = make("method", name), drawn_notes(name, x)
    batch = replace(filled(model, x, y), extra=notes)
    whole = method.loss(model, batch).per_sample
    for i in range(len(batch)):
        row = slice(i, i + 1)
        one = Batch(x[row], y[row], x_adv=batch.x_adv[row], y_adv=y[row], cost=batch.cost[row])
        one = replace(one, extra={note: value[row] for note, value in notes.items()})
        assert torch.allclose(method.loss(model, one).per_sample[0], whole[i])


@every("method")
def test_the_gradient_reaches_every_weight(name):
    model, x, y = problem()
    make("method", name).loss(model, filled(model, x, y)).per_sample.sum().backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in model.parameters())


@every("method")
def test_the_gain_has_a_gradient_in_every_row(name):
    model, x, y = problem()
    batch = filled(model, x, y)
    x_adv = batch.x_adv.clone().requires_grad_()
    value = make("method", name).gain(model, batch)(x_adv, y)
    assert value.shape == y.shape
    (grad,) = torch.autograd.grad(value.sum(), x_adv)
    assert grad.isfinite().all()
    assert (grad.flatten(1).norm(dim=1) > 0).all()


@every("method")
def test_unlabeled_rows_have_no_label_loss(name):
    model, x, y = problem()
    batch = filled(model, x, y.clone().index_fill_(0, torch.tensor([1, 4]), -1))
    notes = {note: 0 * value for note, value in drawn_notes(name, x).items()}
    still = replace(batch, x_adv=x, extra=notes)  # with nothing perturbed only the label is left
    per_sample = make("method", name).loss(model, still).per_sample
    assert torch.equal(per_sample == 0, batch.y == -1)


@every("method")
def test_two_epochs_lower_it(name):
    _, x, y = problem(b=32, dtype=torch.float32)
    model, method = Net(seed=3), make("method", name)
    objective = Objective(PGD(Linf(0.03), steps=2), method, Mean())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    totals = []
    for _ in range(2):
        epoch = []
        for rows in torch.arange(32).split(8):
            batch = objective.maximize(model, Batch(x[rows], y[rows]))
            total = objective.minimize(model, batch).total
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            objective.update(model, batch)
            epoch.append(total.item())
        totals.append(sum(epoch))
    assert totals[1] < totals[0]


@every("method")
def test_state_and_configuration_make_a_round_trip(name):
    method = make("method", name)
    again = type(method)(**method.config())
    again.load_state_dict(method.state_dict())
    model, x, y = problem()
    batch = replace(filled(model, x, y), extra=drawn_notes(name, x))
    assert torch.equal(again.loss(model, batch).per_sample, method.loss(model, batch).per_sample)


@every("method")
@pytest.mark.parametrize("b", [0, 1])
def test_batches_of_zero_and_one(name, b):
    model, x, y = problem()
    loss = make("method", name).loss(model, filled(model, x[:b], y[:b]))
    assert loss.per_sample.shape == (b,)
    assert loss.per_sample.isfinite().all()
    assert torch.as_tensor(loss.penalty).isfinite()


@every("method")
def test_finite_at_a_logit_scale_of_200_in_float32(name):
    model, x, y = problem(b=32, dtype=torch.float32)
    with torch.no_grad():
        model[2].weight.mul_(200)
    loss = make("method", name).loss(model, filled(model, x, y, 0.3))
    total = loss.per_sample.sum() + loss.penalty
    total.backward()
    assert total.isfinite()
    assert all(w.grad.isfinite().all() for w in model.parameters())
