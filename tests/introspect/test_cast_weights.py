"""Weights cast once: the passes of autocast bit for bit, and no module that computes otherwise."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils._python_dispatch import TorchDispatchMode

from sparring import models
from sparring.introspect import freeze


class Casts(TorchDispatchMode):
    """Counts casts of tensors of two or more dimensions to bfloat16, but for the input."""

    def __init__(self, x):
        super().__init__()
        self.shape, self.count = x.shape, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and args[0].shape != self.shape:
            self.count += (kwargs or {}).get("dtype") == torch.bfloat16 and args[0].ndim > 1
        return func(*args, **(kwargs or {}))


class Cosine(nn.Linear):
    """A subclass of its own formula."""

    def forward(self, x):
        return x @ nn.functional.normalize(self.weight, dim=1).T


class Reads(nn.Module):
    """Reads the weight of a layer beside running it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x) / self.layer.weight.norm()


def convolutions(**more) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, **more), nn.ReLU(), nn.Conv2d(4, 2, 3))


IMAGE, ROW = (3, 1, 6, 6), (3, 4)
NETS = {
    "convolutions": (convolutions, IMAGE, 2),
    "groups, stride": (lambda: nn.Conv2d(2, 4, 3, stride=2, groups=2), (3, 2, 6, 6), 1),
    "sequences": (lambda: nn.Conv1d(2, 3, 2, bias=False), (3, 2, 5), 1),
    "reflected padding": (lambda: convolutions(padding_mode="reflect"), IMAGE, 1),
    "linear": (lambda: nn.Linear(4, 3), ROW, 1),
    "a weight that is read": (Reads, ROW, 1),
    "a subclass": (lambda: Cosine(4, 3), ROW, 0),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(4, 3)), ROW, 0),
    "old spectral norm": (lambda: nn.utils.spectral_norm(nn.Linear(4, 3)), ROW, 0),
    "pruned": (lambda: prune.random_unstructured(nn.Linear(4, 3), "weight", 0.3), ROW, 0),
}


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_logits_and_input_gradients_are_the_same_bit_for_bit(kind, channels_last):
    torch.manual_seed(0)
    make, shape, taken = NETS[kind]
    model, x = make(), torch.randn(shape, requires_grad=True)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    view = freeze.ModelView(model, amp="bfloat16", channels_last=channels_last)
    results = []
    with freeze.frozen(view):
        view(x)  # the first call looks for writes
        for once in (False, True):
            with view.cast_once() if once else freeze.frozen_bn(model):
                patched = sum("forward" in vars(m) for m in model.modules())
                z = view(x)
                results.append((z, *torch.autograd.grad(z.sin().sum(), x)))
            assert patched == (taken if once else 0)
    assert all(map(torch.equal, *results))
    assert not any("forward" in vars(m) for m in model.modules())


def test_passes_cast_no_weight_again():
    model, x = (
        models.build("cifar-net", shape=(3, 8, 8), classes=10, width=4),
        torch.rand(2, 3, 8, 8),
    )
    view = freeze.ModelView(model, amp="bfloat16")
    with freeze.frozen(view):
        view(x)
        with Casts(x) as usual:
            for _ in range(3):
                view(x)
        with Casts(x) as once, view.cast_once():
            for _ in range(3):
                view(x)
    assert 0 < 3 * once.count == usual.count


def test_a_weight_to_be_trained_has_its_gradient_and_float32_passes_are_float32():
    model, x = nn.Linear(4, 3), torch.rand(2, 4)
    view = freeze.ModelView(model, amp="bfloat16")
    with view.cast_once():
        view(x).sum().backward()
        assert model.weight.grad is not None
        assert model(x).dtype == torch.float32
    with freeze.ModelView(model).cast_once():
        assert "forward" not in vars(model)
    with freeze.ModelView(torch.sin, amp="bfloat16").cast_once():
        pass


def test_an_error_inside_restores_too():
    model = nn.Linear(2, 2)
    with pytest.raises(KeyError), freeze.ModelView(model, amp="bfloat16").cast_once():
        raise KeyError
    assert "forward" not in vars(model)
