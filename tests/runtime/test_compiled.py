"""A compiled model runs any batch in a few fixed sizes, and says what the model says."""

import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed

from sparring import models
from sparring.evaluation import evaluate
from sparring.introspect import freeze
from sparring.runtime.compiled import CompiledModel, _CopyGradient, compile_sizes


@pytest.fixture
def plain(monkeypatch):
    """`torch.compile` that compiles nothing, and notes the shapes it was called with."""
    seen = []

    def compile(model, **how):
        def run(x):
            seen.append(tuple(x.shape))
            return model(x)

        return run

    monkeypatch.setattr(torch, "compile", compile)
    return seen


def net(**kw):
    torch.manual_seed(0)
    return models.build("mnist-net", shape=(1, 28, 28), classes=10, **kw).eval()


@pytest.mark.parametrize(
    ("rows", "chunks", "bare"),
    [(1, [], 1), (4, [], 4), (5, [8], 0), (8, [8], 0), (9, [8], 1), (16, [8, 8], 0), (0, [], 0)],
)
def test_a_batch_is_cut_and_padded(plain, rows, chunks, bare):
    model = nn.Linear(3, 2)
    static, x = CompiledModel(model.eval(), [8]), torch.randn(rows, 3)
    assert static.chunks(rows) == chunks
    logits = static(x)
    assert plain == [(8, 3)] * len(chunks)
    assert logits.shape == (rows, 2)
    torch.testing.assert_close(logits, model(x))


def test_the_least_size_that_holds_the_rest(plain):
    static = CompiledModel(nn.Linear(1, 1), [32, 250, 125, 63])
    assert [static.chunks(n) for n in (250, 130, 60, 33, 20, 10, 600)] == [
        [250],
        [250],
        [63],
        [63],
        [32],
        [],
        [250, 250, 125],
    ]


def test_gradients_are_the_models_own(plain):
    model = net().double()
    x = torch.rand(11, 1, 28, 28, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(CompiledModel(model, [4])(x).square().sum(), x)
    (expected,) = torch.autograd.grad(model(x).square().sum(), x)
    torch.testing.assert_close(ours, expected)
    assert plain == [(4, 1, 28, 28)] * 3


def test_padding_stays_out_of_batch_statistics(plain):
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
    static, x = CompiledModel(model, [8]), torch.randn(6, 3)
    with freeze.frozen(static, "train"):
        logits = static(x)
    with freeze.frozen(model, "train"):
        torch.testing.assert_close(logits, model(x))
    assert plain == []


def test_a_copied_gradient_survives_its_source():
    source = torch.ones(3)

    class Reused(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return source

    x = torch.zeros(3, requires_grad=True)
    (grad,) = torch.autograd.grad(Reused.apply(_CopyGradient.apply(x)).sum(), x)
    source.fill_(7)
    assert grad.tolist() == [1, 1, 1]


def test_an_evaluation_finds_the_same(plain):
    torch.manual_seed(0)
    model, x = models.build("mlp", shape=(5,), classes=3, hidden=[8]).eval(), torch.rand(30, 5)
    y = model(x).argmax(1)
    how = {"suite": "pgd", "eps": [0.02, 0.1], "batch_size": 16, "progress": False}
    eager, ours = evaluate(model, (x, y), **how), evaluate(model, (x, y), compile=True, **how)
    assert {shape[0] for shape in plain} == {16}
    assert (eager.compiled, ours.compiled) == (False, True)
    assert 0 < eager.robust.accuracy < 1
    assert [row.count for row in ours.by_eps] == [row.count for row in eager.by_eps]
    np.testing.assert_array_equal(ours.arrays["adv_pred"], eager.arrays["adv_pred"])
    assert [(a.forwards, a.backwards) for a in ours.attacks] == [
        (a.forwards, a.backwards) for a in eager.attacks
    ]


@pytest.mark.parametrize(
    ("amp", "channels_last"),
    [
        ("float32", True),
        pytest.param("float32", False, marks=pytest.mark.slow),
        pytest.param("bfloat16", True, marks=pytest.mark.slow),
        pytest.param("bfloat16", False, marks=pytest.mark.slow),
    ],
)
def test_compiled_in_earnest(amp, channels_last):
    model = net().requires_grad_(False)
    static, x = CompiledModel(model, [16]), torch.rand(27, 1, 28, 28)
    with freeze.channels_last(model, channels_last):
        grads, logits = [], []
        for one in (model, static):
            view = freeze.ModelView(one, amp=amp, channels_last=channels_last)
            z = x.clone().requires_grad_()
            logits.append(view(z))
            grads += torch.autograd.grad(logits[-1].square().sum(), z)
            with torch.no_grad():
                torch.testing.assert_close(view(x), logits[-1].detach())
    loose = {"rtol": 2e-2, "atol": 2e-3} if amp == "bfloat16" else {}
    torch.testing.assert_close(logits[1], logits[0], **loose)
    error = (grads[1] - grads[0]).norm() / grads[0].norm()
    assert error < (2e-2 if amp == "bfloat16" else 1e-5)


def test_what_cannot_be_compiled_is_said(monkeypatch):
    def broken(model, **how):
        def run(x):
            raise BackendCompilerFailed(lambda: 0, OSError("no g++"), None)

        return run

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(RuntimeError, match=r"cannot be compiled here .*compile = false"):
        CompiledModel(nn.Linear(2, 2).eval(), [1])(torch.zeros(1, 2))


def test_only_modules_and_sizes():
    with pytest.raises(ValueError, match="a function cannot be compiled: compile = true"):
        CompiledModel(lambda x: x, [4])
    with pytest.raises(ValueError, match="sizes"):
        CompiledModel(nn.Linear(1, 1), [])
    x, y = torch.rand(2, 3), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="a function cannot be compiled"):
        evaluate(lambda x: x, (x, y), eps=0.1, compile=True, progress=False)


def test_sizes():
    assert compile_sizes(40, torch.device("cpu")) == [40]
    assert compile_sizes(4, torch.device("cuda")) == [4, 2, 1]


@pytest.mark.parametrize("module", ["torch._dynamo.exc", "torch._dynamo"])
def test_without_the_private_names_a_model_still_compiles(plain, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    model, x = nn.Linear(3, 2).eval(), torch.randn(8, 3)
    torch.testing.assert_close(CompiledModel(model, [8])(x), model(x))
    assert plain == [(8, 3)]
