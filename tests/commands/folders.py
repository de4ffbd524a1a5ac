"""Run folders made by hand: recipe, log and empty checkpoints, without a training."""

from __future__ import annotations

import functools
import json
import platform
from pathlib import Path

from safetensors.torch import save_file

import sparring
from sparring.config.recipe import load_recipe

SECRET = "/home/zoelle/secret"


@functools.cache
def recipe_text(recipe: str, changes: tuple[str, ...]) -> str:
    """The resolved form of a recipe."""
    return load_recipe(recipe, set=changes).toml()


def fake_run(path: Path, recipe: str = "digits-mart", *, done: int = 0, changes=()) -> Path:
    """A run folder of a recipe with changes, whose log has `done` epochs, the first the best."""
    path.mkdir(parents=True)
    (path / "recipe.toml").write_text(recipe_text(recipe, tuple(changes)), encoding="utf-8")
    rows = [
        {"epoch": k, "clean": 0.9, "robust": 0.5, "ema_robust": 0.625, "best": k == 1}
        for k in range(1, done + 1)
    ]
    (path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if done:
        (path / "last.pt").touch()
        (path / "best.safetensors").touch()
    return path


def evaluated_run(path: Path) -> Path:
    """A run whose weights are initial ones, evaluated on a few samples; its log names paths."""
    changes = ("model.name=mlp", "evaluation.eps=[0.05,0.1]")
    run = fake_run(path, done=2, changes=changes)
    recipe = load_recipe(run)
    source = recipe.source()
    complete = recipe.with_data(source)
    (run / "recipe.toml").write_text(complete.toml())
    network = complete.network()
    save_file(network.state_dict(), run / "best.safetensors")
    machine = {"device": platform.node(), "versions": {}, "commit": f"{SECRET}/.git"}
    (run / "machine.json").write_text(json.dumps(machine))
    about = {"name": "digits", "sha256": source.sha256, "path": f"../..{SECRET}/digits.npz"}
    (run / "data.json").write_text(json.dumps(about))
    sparring.evaluate(run, suite="quick", n=20, progress=False)
    return run
