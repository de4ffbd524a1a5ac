"""Arguments of `evaluate` that are bad by type, range or name are refused in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sparring import data, evaluate
from tests.fuzz.harness import fault

NAN = float("nan")
BAD: dict[str, list[Any]] = {
    "n": [True, -1, 0, 2.5, "x", NAN, [1]],
    "eps": [True, "x", -1, NAN, [], [True], None],
    "suite": [3, "", "x" * 5000, ["quick"]],
    "split": [3, "x"],
    "device": ["", 3, "tpu"],
    "seed": [True, 1.5, "x", 10**30],
    "certify": [3, "x", ["x"]],
    "probes": [3, "x", ["x"]],
    "seconds": [-1, True, "x", NAN, 0],
    "queries": [-1, True, 1.5],
    "first": [3, "x"],
    "batch_size": [0, -1, True, 2.5],
    "out": ["x", 3, "", "a\0.json", "\x1b[2J.json", "x" * 5000 + ".json", " "],
    "name": [3, "", "x" * 5000],
}


@pytest.fixture(scope="module")
def source() -> data.Source:
    return data.load("digits")


@pytest.mark.parametrize("key", BAD)
def test_a_bad_argument_of_evaluate_is_refused(key, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.requires_grad_(False)
    good = {"eps": 0.1, "suite": "quick", "n": 3, "progress": False}
    for bad in BAD[key]:
        with torch.random.fork_rng():
            wrong = fault(lambda value=bad: evaluate(model, source, "Linf", **good | {key: value}))
        assert wrong is None, f"{key} = {str(bad)[:80]!r}: {wrong}"
    assert not [*tmp_path.iterdir()]
