"""What `import sparring` gives: rooms on demand, one evaluate, short reprs."""

from __future__ import annotations

import inspect
import sys
import typing
from dataclasses import fields

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sparring
from sparring import data, evaluation
from sparring.attacks import FGSM
from sparring.config.recipe import load_recipe
from sparring.evaluation import Suite
from sparring.evaluation.protocol import EvaluationOptions, EvaluationProtocol
from sparring.runtime.interactive import shows_progress

ROOMS = ("attacks", "data", "evaluation", "methods", "metrics", "models", "results", "risks")
ROOMS += ("certification", "threats", "training", "weights")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_completes_to_what_it_exports(room):
    module = sparring.__getattr__(room)  # as where nothing has imported it yet
    assert dir(module) == sorted(module.__all__)
    for name in dir(module):
        member = getattr(module, name)
        foreign = getattr(member, "__module__", "sparring").split(".")[0]
        assert foreign in ("sparring", "builtins", "collections"), name
    assert room in dir(sparring)


def test_both_evaluates_have_one_signature():
    public, lower = (
        inspect.signature(call, eval_str=True).parameters
        for call in (sparring.evaluate, evaluation.evaluate)
    )
    shared = [name for name in public if name in lower]
    assert list(lower)[:4] == list(public)[:4] == ["model", "data", "threat", "protocol"]
    for name in shared:
        assert public[name].kind == lower[name].kind, name
        assert name == "data" or public[name].default == lower[name].default, name
    assert public["options"].annotation == lower["options"].annotation


def test_the_options_are_the_fields_of_the_protocol():
    hints = typing.get_type_hints(EvaluationOptions, include_extras=True)
    defaults = {name: typing.get_args(hint)[1] for name, hint in hints.items()}
    assert defaults == {field.name: field.default for field in fields(EvaluationProtocol)}


def test_one_call_takes_tensors_and_loaders():
    torch.manual_seed(0)
    model, x = nn.Linear(4, 2), torch.rand(30, 4)
    y = model(x).argmax(1)
    suite = Suite("one", 1, (("FGSM", FGSM),))
    loader = DataLoader(TensorDataset(x, y), batch_size=7, shuffle=True)
    first, second = (
        call(model, rows, "Linf", suite, eps=0.1, n=20, name="mine", seed=2)
        for call, rows in ((sparring.evaluate, loader), (evaluation.evaluate, (x, y)))
    )
    assert (first.name, first.n, first.seed) == ("mine", 20, 2)
    for key in ("index", "y", "adv_pred"):
        assert (first.arrays[key] == second.arrays[key]).all(), key


def test_progress_is_shown_to_those_who_watch(monkeypatch):
    assert shows_progress(True)
    assert not shows_progress(None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert shows_progress(None)
    assert not shows_progress(False)


def test_sources_splits_and_recipes_print_in_one_line():
    digits = data.load("digits")
    sizes = "1,375 train, 152 val, 270 test, shape (1, 8, 8), 10 classes"
    assert repr(digits) == f"Source('digits': {sizes})"
    assert repr(digits.test) == "Split(270 samples of shape (1, 8, 8), float32)"
    assert repr(load_recipe("digits-mart")).startswith(
        "Recipe('digits-mart': MART, Linf 0.1, digits"
    )
