"""Hashes of models: equal for the same function, different for every other."""

import functools
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from sparring.runtime.identity import model_hash, modules_of, unhashable_part

NUMBERS = {"factor": 1.0}
SCALE = 1.0


def double(z):
    return z * SCALE


def through_a_global(z):
    return double(z) + NUMBERS["factor"]


def closure(value):
    return lambda z: z * value


def default(value):
    def model(z, value=value):
        return z * value

    return model


def nested(value):
    inner = closure(value)
    return lambda z: [inner(row) for row in z]


class Scaled(nn.Module):
    """A module whose number is neither a buffer nor in its repr."""

    def __init__(self, value):
        super().__init__()
        self.value, self.layer = value, nn.Linear(2, 2)
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, z):
        return self.layer(z) * self.value


class Called:
    """An object that is called."""

    def __init__(self, value):
        self.value = value

    def __call__(self, z):
        return z * self.value

    def method(self, z):
        return z * self.value


def hooked(value):
    layer = Scaled(1)
    layer.register_forward_hook(closure(value))
    return layer


def buffered(value):
    layer = Scaled(1)
    layer.register_buffer("shift", torch.tensor(float(value)), persistent=False)
    return layer


MAKERS = {
    "closure": closure,
    "default": default,
    "nested": nested,
    "partial": lambda v: functools.partial(torch.mul, other=v),
    "attribute": Scaled,
    "object": Called,
    "method": lambda v: Called(v).method,
    "tensor": lambda v: closure(torch.tensor([1.0, v])),
    "array": lambda v: closure(np.array([1.0, v])),
    "module": lambda v: closure(Scaled(v)),
    "in a list": lambda v: closure([{"a": (1, Scaled(v))}]),
    "hook": hooked,
    "buffer": buffered,
    "dictionary": lambda v: closure({"v": v}),
    "set": lambda v: closure({"a", "b", v}),
    "bytecode": lambda v: [lambda z: z + 1, lambda z: z - 1, lambda z: z * z][v],
    "constant": lambda v: [lambda z: z + 0.5, lambda z: z + 0.25, lambda z: z + 0][v],
    "function": lambda v: [torch.sin, torch.cos, torch.exp][v],
}


@pytest.mark.parametrize("kind", MAKERS)
def test_two_models_of_one_name_differ_and_one_is_itself(kind):
    first, second = MAKERS[kind](0), MAKERS[kind](1)
    assert model_hash(first) == model_hash(first) == model_hash(MAKERS[kind](0))
    assert model_hash(first) != model_hash(second)
    assert unhashable_part(first) == ""


def test_globals_that_a_function_reads_count(monkeypatch):
    before = model_hash(through_a_global)
    monkeypatch.setitem(NUMBERS, "factor", 2.0)
    assert model_hash(through_a_global) != before
    monkeypatch.setitem(NUMBERS, "factor", 1.0)
    assert model_hash(through_a_global) == before
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 2.0)  # read by a function that it calls
    assert model_hash(through_a_global) != before


@pytest.mark.parametrize("part", [threading.Lock(), (i for i in "ab"), sys.stdout])
def test_a_part_that_cannot_be_hashed_is_named_and_never_equal(part):
    model = closure(part)
    assert unhashable_part(model) == "value"
    assert model_hash(model) != model_hash(model)


def test_parts_that_hold_each_other_end():
    first, second = Called(1), Called(2)
    first.value, second.value = second, first
    deep = []
    for _ in range(500):
        deep = [deep]
    assert unhashable_part(first) == ""
    assert unhashable_part(closure(deep))


def test_modes_and_gradients_do_not_count():
    model = Scaled(1)
    before = model_hash(model)
    model.eval()(torch.ones(1, 2)).sum().backward()
    assert model_hash(model) == before
    assert modules_of(closure([model])) == [model]


def test_another_process_gives_the_same_hash():
    script = "import sys, tests.runtime.test_identity as t; from sparring.runtime.identity import *"
    line = "print(*(model_hash(make(1)) for make in t.MAKERS.values()))"
    out = subprocess.run(
        [sys.executable, "-c", f"{script}; {line}"], capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == [model_hash(make(1)) for make in MAKERS.values()]


def test_a_fitted_classifier_counts_by_its_fit():
    from sklearn.linear_model import LogisticRegression

    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    a, b = (LogisticRegression().fit(x, y) for y in ([0, 0, 1, 1], [0, 1, 1, 1]))
    assert model_hash(closure(a)) == model_hash(closure(pickle.loads(pickle.dumps(a))))
    assert model_hash(closure(a)) != model_hash(closure(b))
