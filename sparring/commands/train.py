"""Train by a recipe into a run folder, and load the model of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ..config.overrides import Overrides
from ..config.recipe import BuiltRecipe, Recipe, load_recipe
from ..config.shipped import names
from ..data import Source
from ..runtime import distributed, provenance
from ..runtime.files import write
from ..runtime.interactive import shows_progress
from ..runtime.output import write_line
from ..runtime.text import printable
from ..training import Epoch, Trainer, parallel, record
from ..training.run_folder import (
    LAST,
    MACHINE,
    RECIPE,
    RunExistsError,
    locked_run,
    refuse_links,
    require_empty,
)
from .rehearsal import new_folder
from .subject import BEST, existing_run, network_with_weights, with_weights


class TrainingInterrupted(KeyboardInterrupt):
    """Report that Ctrl-C ended a training.

    Arguments:
        run: the folder, which `resume` continues.
    """

    def __init__(self, run: Path) -> None:
        super().__init__(str(run))
        self.run = run


class PlannedRun(NamedTuple):
    """Hold what a training is to do: its recipe, and its run folder."""

    recipe: Recipe
    run: Path


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
        recipe: a shipped recipe's name, a `.toml` file, or a `Recipe`; with `resume` also the
            run folder itself.
        out: the run folder, default: `runs/NAME`; an existing run is an error unless `resume`.
        resume: continue the run in `out`, by the recipe in its folder, or start it.
        set, trust: as in `config.recipe.load_recipe`.
        device: default: the recipe's.
        progress: show progress; default: on a terminal and in a notebook.

    Raises:
        Locked: if another process trains in the run folder.
        TrainingInterrupted: on Ctrl-C, with the run folder.
    """
    recipe, run = plan(recipe, out=out, set=set, resume=resume, trust=trust)
    try:
        watched = shows_progress(progress)
        _train(recipe, run, resume=resume, device=device, progress=watched)
    except KeyboardInterrupt as error:
        raise TrainingInterrupted(run) from error
    return run


def plan(
    recipe: str | Path | Recipe,
    *,
    out: str | Path | None = None,
    set: Overrides = (),
    resume: bool = False,
    trust: bool = False,
) -> PlannedRun:
    """Return the recipe and the run folder of a training; the arguments are those of `train`.

    A run that goes on keeps the recipe in its folder, whatever changes made it: without `set`, or
    with changes that are in it already.

    Raises:
        RunExistsError: for a folder with a run, unless `resume`.
        ValueError: for a recipe that is wrong, or not that of the run to resume.
    """
    if isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, set=set, trust=trust)
        run = Path("runs", recipe.name) if out is None else new_folder(out)
        if not resume:
            require_empty(run)
        return PlannedRun(recipe, run)
    if out is None and is_run(Path(recipe)):
        if not resume:
            raise RunExistsError(
                f"{printable(recipe)} is a run: continue it with resume (--resume), or train its "
                "recipe again into another folder (--out)"
            )
        out = recipe
    loaded = load_recipe(recipe, set=set, trust=trust)
    run = Path("runs", loaded.name) if out is None else new_folder(out)
    if not resume:
        require_empty(run)
    elif (run / LAST).is_file() and is_run(run):
        refuse_links(run)
        loaded = _recipe_of_run(run, loaded, recipe, set=set, trust=trust)
    return PlannedRun(loaded, run)


def is_run(path: Path) -> bool:
    """Return whether a folder has the recipe of a run."""
    try:
        return (path / RECIPE).is_file()
    except OSError:  # a name that the system does not take
        return False


def _recipe_of_run(
    run: Path, named: Recipe, origin: str | Path, *, set: Overrides, trust: bool
) -> Recipe:
    """Return the recipe in a run's folder, with changes that the trainer compares with its own.

    Raises:
        ValueError: if the run is one of another recipe than `named`.
    """
    inside = load_recipe(run, set=set, trust=trust)
    if inside.name != named.name:
        raise ValueError(
            f"the run in {printable(run)} is of recipe {printable(inside.name)}, not of "
            f"{printable(named.name)}: train {printable(run)} with resume (--resume), or choose "
            "another folder (--out)"
        )
    # A shipped recipe stays as it is; a file may have been edited since, which must not go unseen.
    is_shipped = str(origin) in names()
    return inside if is_shipped or Path(origin) == run else named


def _train(recipe: Recipe, run: Path, *, resume: bool, device: str | None, progress: bool) -> None:
    for _ in epochs(recipe, run, recipe.build(), resume=resume, device=device, progress=progress):
        pass


def epochs(
    recipe: Recipe,
    run: Path,
    built: BuiltRecipe,
    *,
    resume: bool,
    device: str | None = None,
    progress: bool = False,
    recorded: Source | None = None,
) -> Iterator[Epoch]:
    """Yield the epochs of a training; its run folder is locked until the last, or `close`.

    Arguments:
        built: what the recipe builds.
        recorded: the source that the folder names as its data; default: the one it trains on.
    """
    source, model, objective, trainer_settings = built
    settings: dict[str, Any] = {
        **trainer_settings,
        **({} if device is None else {"device": device}),
    }
    parallel.join_process_group(settings.get("device"))
    with locked_run(run):
        trainer = Trainer(
            model,
            objective,
            source,
            out=run,
            resume=resume,
            progress=progress,
            **settings,
        )
        if distributed.rank() == 0:
            machine = provenance.machine(trainer.device)
            about = {"device": machine, "versions": provenance.versions()}
            # how many steps fit into a time is of this machine, on this day
            about |= {} if trainer.seconds is None else {"repeatable": False}
            write(run / MACHINE, json.dumps(about | {"commit": provenance.commit()}).encode())
            name = str(recipe.tables["data"]["name"])
            record.record_data(run, name, source if recorded is None else recorded)
            if progress and trainer.is_over:
                write_line(_finished(trainer))
        yield from trainer


def _finished(trainer: Trainer) -> str:
    """Return the line about a run that has all its epochs."""
    done, best = trainer.position.epoch, trainer.position.best.get("epoch")
    epochs = trainer.length.expected(trainer.position)
    return f"finished already: {done} of {epochs} epochs, best {best}"


def load(run: str | Path, *, model: nn.Module | None = None, trust: bool = False) -> nn.Module:
    """Load the model of a run with its best weights, in eval mode, on the CPU.

    Loading runs no code that the run folder brings.

    Arguments:
        model: a network to load the weights into, for a run from Python whose recipe names none;
            it is returned.

    Raises:
        ValueError: if its recipe names pieces from outside, unless `trust`; if the weights do not
            fit `model`.
        FileNotFoundError: if this is not a run folder, or has no weights yet.
    """
    path = existing_run(run, with_recipe=model is None)
    if model is not None:
        return with_weights(model, path / BEST)
    return network_with_weights(load_recipe(path, trust=trust), path / BEST)
