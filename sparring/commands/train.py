"""From a recipe to a run, from a run to its model."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from ..config.overrides import Overrides
from ..config.recipe import Recipe, load_recipe
from ..runtime import distributed, provenance
from ..runtime.files import write
from ..training import Trainer
from ..training import run_folder as files
from .subject import BEST, MACHINE, existing_run, network_with_weights


def train(
    recipe: str | Path | Recipe,
    *,
    out: str | Path | None = None,
    set: Overrides = (),
    resume: bool = False,
    trust: bool = False,
    device: str | None = None,
    progress: bool = False,
) -> Path:
    """Train by a recipe and return the run folder; `load` gives its model.

    Arguments:
        recipe: a shipped recipe's name, a `.toml` file, or a `Recipe`.
        out: the run folder, `runs/NAME` when omitted; an existing run is an error unless `resume`.
        resume: go on where the run in `out` stands, or begin it.
        set, trust: as in `config.recipe.load_recipe`.
        device: instead of the recipe's.
        progress: show it live.
    """
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, set=set, trust=trust)
    place = Path("runs", plan.name) if out is None else Path(out)
    if not resume:
        files.require_empty(place)
    source, model, objective, more = plan.build()
    more |= {} if device is None else {"device": device}
    trainer = Trainer(model, objective, source, out=place, resume=resume, progress=progress, **more)
    if distributed.rank() == 0:
        about = {"device": provenance.machine(trainer.device), "versions": provenance.versions()}
        write(place / MACHINE, json.dumps(about | {"commit": provenance.commit()}).encode())
    for _ in trainer:
        pass
    return place


def load(run: str | Path, *, trust: bool = False) -> nn.Module:
    """The model of a run with its best weights, in eval mode, on the CPU; runs no code of its.

    Raises:
        ValueError: if its recipe names pieces from outside, unless `trust`.
        FileNotFoundError: if this is no run folder, or one without weights yet.
    """
    return network_with_weights(load_recipe(existing_run(run), trust=trust), Path(run, BEST))
