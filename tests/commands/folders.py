"""Run folders made by hand: recipe, log and empty checkpoints, without a training."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from sparring.config.recipe import load_recipe


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
