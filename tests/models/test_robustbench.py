"""Networks of RobustBench's zoo, from a package that is not at hand: a stand-in has its calls."""

from __future__ import annotations

import os
import sys
import types

import pytest
import torch
from torch import nn

import sparring
from sparring.commands.subject import loaded_model
from sparring.models.robustbench import UNSAFE_LOAD, load


class Utils(types.ModuleType):
    """What the package's module has."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str | None, ...]] = []
        self.load_model: object = None
        self.all_models: dict[str, object] = {}


@pytest.fixture
def zoo(monkeypatch):
    """A module `robustbench.utils` with one network a threat."""
    package, utils = types.ModuleType("robustbench"), Utils("robustbench.utils")

    def load_model(name, model_dir="./models", dataset="cifar10", threat_model="Linf"):
        utils.calls.append((name, dataset, threat_model, os.environ.get(UNSAFE_LOAD)))
        if name == "Broken":
            raise OSError("no network")
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 10))

    utils.load_model = load_model
    utils.all_models = {"cifar10": {"Linf": {"Carmon2019Unlabeled": {}, "Broken": {}}}}
    monkeypatch.setitem(sys.modules, "robustbench", package)
    monkeypatch.setitem(sys.modules, "robustbench.utils", utils)
    return utils


def test_a_network_is_loaded_by_name_with_trust(zoo):
    model = loaded_model("robustbench:Carmon2019Unlabeled", trust=True)
    assert not model.training
    loaded_model("robustbench:cifar100/L2/Other", trust=True)
    assert zoo.calls == [
        ("Carmon2019Unlabeled", "cifar10", "Linf", "1"),
        ("Other", "cifar100", "L2", "1"),
    ]
    assert UNSAFE_LOAD not in os.environ
    with pytest.raises(ValueError, match="pass --trust"):
        loaded_model("robustbench:Carmon2019Unlabeled")


def test_it_can_be_evaluated(zoo):
    x, y = torch.rand(6, 3, 2, 2), torch.arange(6)
    run = {"data": (x, y), "eps": 0.1, "trust": True, "progress": False, "device": "cpu"}
    result = sparring.evaluate("robustbench:Carmon2019Unlabeled", **run)
    assert result.n == 6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Carmon2019", "did you mean 'Carmon2019Unlabeled'"),
        ("Broken", "can't be loaded: OSError: no network"),
        ("cifar11/Linf/Carmon2019Unlabeled", "dataset = 'cifar11'"),
        ("cifar10/L3/Carmon2019Unlabeled", "threat = 'L3'"),
        ("a/b/c/d", "it must be robustbench:NAME"),
        ("", "it must be robustbench:NAME"),
    ],
)
def test_wrong_names_are_refused(zoo, name, message):
    with pytest.raises(ValueError, match=message):
        load(name)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "robustbench", None)
    monkeypatch.delitem(sys.modules, "robustbench.utils", raising=False)
    with pytest.raises(ValueError, match=r"needs the package robustbench.*pip install"):
        load("Standard")
