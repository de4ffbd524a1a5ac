"""The saliency attack: against its literal twin, and the best locations of a linear model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sparring.attacks import JSMA
from sparring.evaluation.judge import feasible
from sparring.functional.losses import margin
from sparring.threats import L0, Linf
from tests.oracles import Linear, NormedNet, problem
from tests.reference import search, sparse


def inputs(*shape: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (1.4 * torch.rand(*shape, generator=draw, dtype=torch.float64) - 0.2).clamp(0, 1)


def weights(d: int, seed: int = 1) -> Tensor:
    return torch.randn(d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 3, 6, 9])
def test_it_is_its_twin(k):
    model, x, _ = problem(b=12)
    with torch.no_grad():
        model[2].bias[0] += 50.0  # class 0 everywhere: none leaves
    y = torch.zeros(12, dtype=torch.long)
    x_adv = JSMA(L0(k))(model, x, y)
    points = []
    for i in range(12):
        loss = lambda z: margin(model(z), y[:1])  # noqa: E731
        slope = lambda z, loss=loss: search.slope(loss, torch.tensor(z, dtype=x.dtype))[1]  # noqa: E731
        end = torch.tensor(sparse.jsma(slope, x[i].tolist(), k=k), dtype=x.dtype)
        on_the_way = [sparse.jsma(slope, x[i].tolist(), k=j) for j in range(k)]
        ways = [*(torch.tensor(z, dtype=x.dtype) for z in on_the_way), end]
        points.append(max(ways, key=lambda z: loss(z[None]).item()))
    assert torch.allclose(x_adv, torch.stack(points), rtol=0, atol=1e-12)


@pytest.mark.parametrize("at_once", [1, 2, 5])
@pytest.mark.parametrize(("shape", "k"), [((9,), 4), ((1, 3, 3), 2), ((3, 2, 3), 3), ((2, 4), 9)])
def test_it_finds_the_best_locations_of_a_linear_model(shape, k, at_once):
    x, w = inputs(5, *shape), weights(math.prod(shape))
    y, threat = torch.zeros(5, dtype=torch.long), L0(k)
    x_adv = JSMA(threat, at_once=at_once)(Linear(w), x, y)
    gain = w.view(shape).abs() * torch.where(w.view(shape) > 0, 1 - x, x)
    gain = gain.sum(1).flatten(1) if x.ndim == 4 else gain.flatten(1)
    most = gain.topk(min(k, gain.shape[1])).values.sum(1)
    assert torch.allclose((x_adv - x).flatten(1) @ w, most, atol=1e-9)
    assert feasible(threat, x_adv, x, y).all()


@pytest.mark.parametrize(("k", "at_once", "passes"), [(4, 1, 6), (5, 2, 5), (0, 1, 1), (40, 3, 5)])
def test_its_number_of_passes(k, at_once, passes):
    model, x, seen = Linear(weights(9)), inputs(3, 9), []
    model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    JSMA(L0(k), at_once=at_once)(model, x, torch.zeros(3, dtype=torch.long))
    assert seen == [3] * passes


def test_a_broken_sample_leaves_and_rows_are_independent():
    model, x, y = problem(b=20)
    seen: list[int] = []
    with torch.no_grad():
        y = model(x).argmax(1)
    hook = model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    x_adv = JSMA(L0(4))(model, x, y)
    hook.remove()
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] < 20
    for i in range(20):
        alone = JSMA(L0(4))(model, x[i : i + 1], y[i : i + 1])
        assert torch.allclose(alone[0], x_adv[i], rtol=0, atol=1e-12)


def test_a_gradient_that_is_no_number_harms_no_other():
    # targeted: no class is not the target, so that the row stays and its gradients go on
    linear, x, y = Linear(weights(6)), inputs(4, 6), torch.ones(4, dtype=torch.long)
    bad = torch.zeros(4, 2, dtype=torch.bool)
    bad[1, 0] = True
    rows, attack = torch.tensor([0, 2, 3]), JSMA(L0(2), targeted=True)
    x_adv = attack(lambda z: linear(z) * torch.where(bad, torch.nan, 1.0), x, y)
    assert torch.equal(x_adv[rows], attack(linear, x, y)[rows])
    assert (x_adv[rows] != x[rows]).any(1).all()
    assert feasible(L0(2), x_adv, x, y).all()


def test_targeted_and_images():
    model, x, _ = problem(b=40)
    with torch.no_grad():
        y = (model(x).argmax(1) + 1) % 4
        x_adv = JSMA(L0(3), targeted=True)(model, x, y)
        assert (model(x_adv).argmax(1) == y).sum() >= 10
    net = NormedNet().double().eval()
    x = inputs(8, 1, 4, 4)
    y = net(x).argmax(1)
    x_adv = JSMA(L0(5))(net, x, y)
    assert feasible(L0(5), x_adv, x, y).all()
    assert (margin(net(x_adv), y) >= margin(net(x), y)).all()
    assert (net(x_adv).argmax(1) != y).any()


def test_refusals():
    with pytest.raises(ValueError, match="at_once = 0 is not allowed"):
        JSMA(L0(1), at_once=0)
    with pytest.raises(ValueError, match="a ball of L0 for JSMA"):
        JSMA(Linf(0.1))
