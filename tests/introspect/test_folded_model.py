"""A folded network in place of its model: equal logits and gradients, and when the model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparring.attacks.base import ActiveSet
from sparring.attacks.goal import Goal
from sparring.evaluation import Guard, evaluate, session
from sparring.evaluation.diagnose import ScaledLogits
from sparring.introspect import freeze
from sparring.introspect.folded_model import FoldedModel, folded_model
from sparring.runtime.exact_float32 import exact_float32
from sparring.threats.rounded import RoundedInputs
from tests.introspect.test_local import NETS, WHOLE, X, drawn, net


def gradient(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of one logit less another, without weights in the graph."""
    with freeze.frozen(model, "eval"):
        x = x.clone().requires_grad_()
        logits = model(x)
        return logits.detach(), torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), x)[0]


@pytest.mark.parametrize("name", NETS)
def test_logits_and_gradients_are_the_models(name):
    model = drawn(NETS[name])
    folded = folded_model(model, X)
    assert isinstance(folded, FoldedModel)
    for ours, theirs in zip(gradient(folded, X), gradient(model, X), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 2)},
        {"kernel_size": 3, "stride": 2, "dilation": 2, "bias": False},
    ],
    ids=["same", "uneven", "dilated"],
)
def test_the_gradient_to_an_image_of_one_channel(options):
    torch.manual_seed(0)
    x = torch.rand(3, 1, 9, 8)
    layers = nn.Conv2d(1, 6, **options), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
    model = nn.Sequential(*layers)
    model(x)
    model.eval()
    for ours, theirs in zip(gradient(folded_model(model, x), x), gradient(model, x), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    views = [freeze.ModelView(m, amp="bfloat16") for m in (folded_model(model, x), model)]
    for ours, theirs in zip(*(gradient(view, x) for view in views), strict=True):
        assert torch.allclose(ours, theirs, atol=0.02 * float(theirs.abs().max()))


def test_bfloat16_is_that_of_autocast():
    model = drawn(net(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 3)))
    views = [freeze.ModelView(m, amp="bfloat16") for m in (folded_model(model, X), model)]
    for ours, theirs in zip(*(gradient(view, X) for view in views), strict=True):
        assert ours.dtype == torch.float32
        assert torch.allclose(ours, theirs, atol=0.02 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", WHOLE)
def test_other_models_stay(name):
    model, x = WHOLE[name]
    model = model.eval() if isinstance(model, nn.Module) else model
    assert folded_model(model, x) is model


def test_a_model_with_a_hook_stays():
    model = drawn(net(nn.Conv2d(2, 3, 3), nn.ReLU()))
    model[0].register_forward_hook(lambda m, args, out: 2 * out)
    assert folded_model(model, X) is model


def calls(model: nn.Module) -> list[int]:
    """Numbers of rows that pass through the model itself from now on."""
    rows: list[int] = []
    model.register_forward_hook(lambda m, args, out: rows.append(len(args[0])))
    return rows


def test_the_model_itself_runs_where_it_must():
    model = drawn(net(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)))
    folded = FoldedModel(model, X)
    rows = calls(model)
    folded(X)
    assert rows == []
    with exact_float32(torch.device("cpu")):
        folded(X[:1])
    with torch.autocast("cpu", torch.float16):
        folded(X[:2])
    model[1].train()
    folded(X[:3])
    model[1].eval()
    folded(X[:0])
    assert rows == [1, 2, 3, 0]
    assert model[1].num_batches_tracked == 1


def test_modes_come_back():
    model = drawn(net(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))).train()
    assert isinstance(folded_model(model, X), FoldedModel)
    assert all(m.training for m in model.modules())


def test_an_evaluation_has_the_verdicts_of_the_model(monkeypatch):
    torch.manual_seed(0)
    model = drawn(net(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()))
    x = torch.rand(40, 2, 9, 8)
    y = model(x).argmax(1)
    known: Any = {"eps": [0.02, 0.05], "seed": 1, "progress": False}
    seen: list[object] = []
    plain = session.folded_model

    def noted(model: nn.Module, x: Tensor) -> Any:
        seen.append(plain(model, x))
        return seen[-1]

    results = []
    for choose in (noted, lambda model, x: model):
        monkeypatch.setattr(session, "folded_model", choose)
        results.append(evaluate(model, (x, y), "Linf", "quick", **known))
    assert isinstance(seen[0], FoldedModel)
    one, other = results
    assert 0 < one.robust.accuracy < 1
    for key in ("correct_0.02", "correct_0.05"):
        assert np.array_equal(one.arrays[key], other.arrays[key])


def test_a_guard_says_that_it_approximates():
    model = drawn(NETS["plain"])
    assert Guard(folded_model(model, X)).approximates
    assert not Guard(model).approximates


@pytest.mark.parametrize(
    "wrap",
    [RoundedInputs, lambda m: Goal(m, 0), lambda m: ScaledLogits(m, torch.tensor(2.0))],
    ids=["RoundedInputs", "Goal", "ScaledLogits"],
)
def test_so_does_a_wrapper_around_it(wrap):
    """A success of the folded network alone is none of the model, whatever lies around it."""
    model, y = drawn(NETS["plain"]), torch.zeros(len(X), dtype=torch.long)
    assert ActiveSet(wrap(Guard(folded_model(model, X))), X, y).lower_precision
    assert not ActiveSet(wrap(Guard(model)), X, y).lower_precision
