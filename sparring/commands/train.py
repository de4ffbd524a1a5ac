"""Train by a recipe into a run folder, and load the model of a run."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from ..config.overrides import Overrides
from ..config.recipe import Recipe, load_recipe
from ..runtime import distributed, provenance
from ..runtime.files import write
from ..runtime.interactive import shows_progress
from ..training import Trainer, parallel
from ..training.run_folder import MACHINE, locked_run, require_empty
from . import run_data
from .rehearsal import new_folder
from .subject import BEST, existing_run, network_with_weights


def train(
    recipe: str | Path | Recipe,
    *,
    out: str | Path | None = None,
    set: Overrides = (),
    resume: bool = False,
    trust: bool = False,
    device: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Train by a recipe and return the run folder; `load` gives its model.

    Arguments:
        recipe: a shipped recipe's name, a `.toml` file, or a `Recipe`.
        out: the run folder, default: `runs/NAME`; an existing run is an error unless `resume`.
        resume: continue the run in `out`, or start it.
        set, trust: as in `config.recipe.load_recipe`.
        device: default: the recipe's.
        progress: show progress; default: on a terminal and in a notebook.

    Raises:
        Locked: if another process trains in the run folder.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, set=set, trust=trust)
    run = Path("runs", recipe.name) if out is None else new_folder(out)
    if not resume:
        require_empty(run)
    source, model, objective, settings = recipe.build()
    settings |= {} if device is None else {"device": device}
    parallel.join_process_group(settings.get("device"))
    with locked_run(run):
        trainer = Trainer(
            model,
            objective,
            source,
            out=run,
            resume=resume,
            progress=shows_progress(progress),
            **settings,
        )
        if distributed.rank() == 0:
            machine = provenance.machine(trainer.device)
            about = {"device": machine, "versions": provenance.versions()}
            write(run / MACHINE, json.dumps(about | {"commit": provenance.commit()}).encode())
            run_data.record(run, recipe, source)
        for _ in trainer:
            pass
    return run


def load(run: str | Path, *, trust: bool = False) -> nn.Module:
    """Load the model of a run with its best weights, in eval mode, on the CPU.

    Loading runs no code that the run folder brings.

    Raises:
        ValueError: if its recipe names pieces from outside, unless `trust`.
        FileNotFoundError: if this is not a run folder, or has no weights yet.
    """
    return network_with_weights(load_recipe(existing_run(run), trust=trust), Path(run, BEST))
