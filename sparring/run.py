"""From a recipe to a run, from a run to a model, a result and a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import evaluation, reporting
from . import recipe as recipes
from .evaluation.result import Result
from .models import load_weights
from .part import nearest
from .recipe import Overrides, Recipe
from .schema import make
from .training import Trainer

SPLITS = ("test", "val", "train")


def train(
    recipe: str | Path | Recipe,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    set: Overrides = (),  # noqa: A002
    trust: bool = False,
    progress: bool = False,
) -> Path:
    """Train by a recipe and return the run folder; `load` gives its model.

    Arguments:
        recipe: a shipped recipe's name, a `.toml` file, or a `Recipe`.
        out: the run folder, `runs/NAME` when omitted; an existing one is an error unless `resume`.
        resume: go on where the run in `out` stands, or begin it.
        set, trust: as in `sparring.recipe.load`.
        progress: show it live.
    """
    plan = recipe if isinstance(recipe, Recipe) else recipes.load(recipe, set=set, trust=trust)
    folder = Path("runs", plan.name) if out is None else Path(out)
    if not resume and (folder / "recipe.toml").exists():
        raise FileExistsError(f"there is a run in {folder} already: go on with it by --resume, or give another --out")
    source, model, objective, more = plan.build()
    for _ in Trainer(model, objective, source, out=folder, resume=resume, progress=progress, **more):
        pass
    return folder


def load(run: str | Path, *, trust: bool = False) -> nn.Module:
    """The model of a run with its best weights, in eval mode, on the CPU. Runs no code of the folder's.

    Raises:
        ValueError: if the recipe names pieces from outside, unless `trust`.
    """
    return _network(recipes.load(_folder(run), trust=trust), Path(run, "best.safetensors"))


def evaluate(
    model: str | Path | nn.Module,
    *,
    suite: str | None = None,
    eps: Sequence[float] = (),
    n: int | None = None,
    split: str = "test",
    precision: str = "float32",
    recipe: str | Path | Recipe | None = None,
    out: str | Path | None = None,
    set: Overrides = (),  # noqa: A002
    trust: bool = False,
    device: str | None = None,
    progress: bool = False,
) -> Result:
    """Measure a model under attack on the data and threat of its recipe; a run's result is saved in its folder.

    Arguments:
        model: a run folder; or, with `recipe`, a file of weights or a model trained elsewhere.
        suite, eps, n: the recipe's `[evaluation]` where omitted.
        split: `"test"`, `"val"` or `"train"`.
        precision: inside the attacks; successes are confirmed in float32.
        out: the result's file; `RUN/results/SUITE-SPLIT.json` of a run when omitted.
    """
    if split not in SPLITS:
        raise ValueError(nearest("split", split, SPLITS))
    folder = Path(model) if not isinstance(model, nn.Module) and Path(model).is_dir() else None
    if folder is None and recipe is None:
        raise ValueError("a model that is no run folder needs its recipe: --recipe NAME says data, network and threat")
    origin = _folder(folder) if folder is not None and recipe is None else recipe
    plan = origin if isinstance(origin, Recipe) else recipes.load(origin, set=set, trust=trust)  # type: ignore[arg-type]
    source = plan.source()
    plan = plan.fitted(source)
    network = model if isinstance(model, nn.Module) else _network(plan, folder / "best.safetensors" if folder else Path(model))
    asked = plan.tables["evaluation"]
    threat = make("threat", asked["threat"], "evaluation.threat", trust=trust)
    suite = suite or asked["suite"]
    result = evaluation.evaluate(
        network,
        getattr(source, split),
        threat=threat,
        suite=suite,
        eps=list(eps) or asked.get("eps"),
        n=n or asked.get("n"),
    )
    return result
