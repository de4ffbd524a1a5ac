"""The battery of every climb: weights move uphill while the loss is computed, then back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sparring.functional.losses import cross_entropy
from tests.contract.pieces import every, make
from tests.oracles import NormedNet, problem


def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor):
    return lambda: cross_entropy(model(x), y).mean()


def size_of(name: str) -> str:
    """The argument that says how far it moves."""
    (size,) = make("climb", name).config()
    return size


@every("climb")
def test_inside_the_loss_is_higher_and_afterwards_the_weights_are_back(name):
    model, x, y = problem()
    closure, before = loss_of(model, x, y), copy.deepcopy(model.state_dict())
    rest = closure().item()
    with make("climb", name).perturbed(model, closure):
        assert closure().item() > rest
        assert any(not torch.equal(v, before[k]) for k, v in model.state_dict().items())
    for k, v in model.state_dict().items():
        assert torch.allclose(v, before[k], rtol=0, atol=1e-15)
    assert all(w.grad is None for w in model.parameters())


@every("climb")
def test_a_step_taken_inside_stays(name):
    model, x, y = problem()
    before = copy.deepcopy(model.state_dict())
    with make("climb", name).perturbed(model, loss_of(model, x, y)), torch.no_grad():
        for w in model.parameters():
            w += 1.0
    for k, v in model.state_dict().items():
        assert torch.allclose(v, before[k] + 1, rtol=0, atol=1e-12)


@every("climb")
def test_an_error_inside_takes_the_move_back_too(name):
    model, x, y = problem()
    before = copy.deepcopy(model.state_dict())
    with (
        pytest.raises(RuntimeError, match="stop"),
        make("climb", name).perturbed(model, loss_of(model, x, y)),
    ):
        raise RuntimeError("stop")
    for k, v in model.state_dict().items():
        assert torch.allclose(v, before[k], rtol=0, atol=1e-15)


@every("climb")
def test_size_zero_is_off(name):
    model, _, _ = problem()
    before = copy.deepcopy(model.state_dict())

    def never() -> torch.Tensor:
        raise AssertionError("size 0 needs no pass")

    with make("climb", name, **{size_of(name): 0.0}).perturbed(model, never):
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(ValueError, match=rf"{size_of(name)} = -1 is not allowed"):
        make("climb", name, **{size_of(name): -1})


@every("climb")
def test_batch_norm_statistics_gradients_and_frozen_weights_stay(name):
    model = NormedNet()
    model[0].weight.requires_grad_(False)
    model[5].weight.grad = torch.ones_like(model[5].weight)
    x, y = torch.rand(6, 1, 4, 4), torch.arange(6) % 3
    before = copy.deepcopy(model.state_dict())
    with make("climb", name).perturbed(model, loss_of(model, x, y)):
        assert torch.equal(model[0].weight, before["0.weight"])
        for key in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
            assert torch.equal(model.state_dict()[key], before[key])
    assert model[5].weight.grad.eq(1).all()
    assert model[0].weight.grad is None


@every("climb")
def test_a_loss_that_a_weight_does_not_touch(name):
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "idle": nn.Linear(3, 2)})
    before = copy.deepcopy(model.state_dict())
    with make("climb", name).perturbed(
        model, lambda: model["used"](torch.ones(1, 3)).square().sum()
    ):
        assert torch.equal(model["idle"].weight, before["idle.weight"])
        assert all(w.isfinite().all() for w in model.parameters())
