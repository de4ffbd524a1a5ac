"""RobustBench's `benchmark`: two accuracies, an entry of the leaderboard, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from enum import Enum
from pathlib import Path

import pytest
import torch

from sparring.compat.robustbench import benchmark, samples
from sparring.data import Source, fetch, named
from tests.data.test_named import four, put
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


@pytest.mark.parametrize("where", ["given", "machine"])
def test_a_folder_without_the_set_does_not_hide_that_of_the_machine(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetch, "cache_folder", lambda: tmp_path / "cache")
    files, top = four(), {"given": tmp_path / "data", "machine": tmp_path / "all"}[where]
    sums = {
        name: "sha256:" + hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    monkeypatch.setitem(named.FROM_FILES, "mnist", replace(named.MNIST, checks=sums))
    put(top / "mnist", files)
    (tmp_path / "data").mkdir(exist_ok=True)  # RobustBench's default, and many another's
    (tmp_path / "all").mkdir(exist_ok=True)
    monkeypatch.setenv("SPARRING_DATA", str(tmp_path / "all"))
    source = samples("MNIST", Path("./data"))
    assert isinstance(source, Source)
    assert source.shape == (1, 5, 5)


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
