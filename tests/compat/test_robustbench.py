"""RobustBench's `benchmark`: two accuracies, an entry of the leaderboard, and what it refuses."""

from __future__ import annotations

import json
from enum import Enum

import pytest
import torch

from sparring.compat.robustbench import benchmark
from tests.oracles import Net, problem


class ThreatModel(Enum):
    """As in their package."""

    Linf = "Linf"


def test_accuracies_and_an_entry(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model, x, y = problem(b=12, dtype=torch.float32)
    run = {"dataset": (x, y), "eps": 0.05, "to_disk": True, "model_name": "Mine"}
    clean, robust = benchmark(model, 8, threat_model=ThreatModel.Linf, **run)
    assert clean == (model(x[:8]).argmax(1) == y[:8]).double().mean().item()
    assert robust <= clean
    (file,) = tmp_path.rglob("Mine.json")
    assert json.loads(file.read_text())["clean_acc"] == f"{100 * clean:.2f}"
    assert f"Adversarial accuracy: {robust:.2%}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({}, "eps = None"),
        ({"eps": 0.1, "threat_model": "corruptions"}, "no counterpart"),
        ({"eps": 0.1, "threat_model": "L7"}, "threat_model = 'L7'"),
        ({"eps": 0.1, "to_disk": True}, "model_name = None"),
        ({"eps": 0.1, "dataset": "imagenet"}, "pass dataset="),
        ({"eps": 0.1, "preprocessing": "Res256Crop224"}, "pass dataset="),
        ({"eps": 0.1, "dataset": "cifar-ten"}, "did you mean"),
    ],
)
def test_what_has_no_counterpart_is_refused(kw, message):
    with pytest.raises(ValueError, match=message):
        benchmark(Net(), **kw)
