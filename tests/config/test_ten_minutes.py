"""The recipes for ten minutes of a GPU: alike but for the method, and they train on a CPU too."""

from __future__ import annotations

import pytest
import torch

from sparring.config import recipe
from sparring.data import Source, Split
from sparring.training import Trainer

TEN_MINUTES = [name for name in recipe.names() if name.endswith("-10min")]


def test_the_recipes_of_ten_minutes_differ_by_their_method():
    tables = {name: recipe.load_recipe(name).tables for name in TEN_MINUTES}
    assert len(tables) == 5
    shared = [
        {
            **{key: t[key] for key in ("data", "model", "attack", "weights", "objective")},
            **{key: v for key, v in t["train"].items() if key not in ("compile", "schedule")},
            "schedule": t["train"]["schedule"][:2],
            "validation": {k: v for k, v in t["validation"].items() if k != "threat"},
            "evaluation": t["evaluation"],
        }
        for t in tables.values()
    ]
    assert all(one == shared[0] for one in shared)
    assert 49_000 % shared[0]["batch_size"] == 0  # a short last batch would be compiled again
    compiled = {name.split("-")[2]: t["train"]["compile"] for name, t in tables.items()}
    assert compiled == {"pgd": "all", "trades": "all", "mart": "all", "otjr": True, "uad": True}


@pytest.mark.slow
@pytest.mark.parametrize("name", TEN_MINUTES)
def test_the_recipes_of_ten_minutes_take_twenty_steps_on_a_cpu(name, tmp_path, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(160, 3, 32, 32, generator=draw), torch.arange(160) % 10
    part = Split(x[:16], y[:16])
    source = Source("cifar10", Split(x, y), part, part, [str(k) for k in range(10)])
    changes = {"train.batch_size": 8, "train.device": "cpu", "train.compile": False}
    changes |= {"model.width": 8, "train.epochs": 1}
    tables = recipe.load_recipe(name, set=changes).tables
    del tables["train"]["seconds"]  # the steps are counted, not timed
    _, model, objective, more = recipe.load_recipe(tables).build(source)
    run = Trainer(model, objective, source, out=tmp_path / "run", **more)
    gammas, step = [], run.stepper.step

    def watched(*args, **keywords):
        gammas.append(run.stepper.climb.gamma)
        return step(*args, **keywords)

    monkeypatch.setattr(run.stepper, "step", watched)
    (epoch,) = run
    assert epoch.step == 20
    assert gammas == [0.0] * 8 + [0.005] * 12
    assert 0 < epoch.loss < 1e3
    assert epoch.robust is not None
    assert epoch.ema_robust is not None
