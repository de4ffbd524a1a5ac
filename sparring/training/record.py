"""Record what a training from Python was made of, as a recipe, and which data it saw."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..component import Component
from ..data import Source, named
from ..data.split import fingerprint
from ..models import table_of
from ..objective import Objective
from ..runtime import files

RECORD = "data.json"  # in the run folder
TRAIN = (
    *(
        "epochs",
        "seconds",
        "passes",
        "batch_size",
        "optimizer",
        "schedule",
        "clip",
        "amp",
        "channels_last",
        "compile",
    ),
    *("decay_norm", "start_without", "freeze", "save_every", "save_seconds"),
)
Table = dict[str, Any]


class _NoText(ValueError):
    """Report a value that no recipe can hold."""


def recorded(
    run: Path,
    recipe: Mapping[str, Any] | None,
    *,
    model: nn.Module,
    source: Source,
    arguments: Mapping[str, Any],
) -> Mapping[str, Any] | None:
    """Return the recipe of a run: the one given, or what `recorded_recipe` makes of arguments."""
    return recorded_recipe(run.name, model, source, arguments) if recipe is None else recipe


def recorded_recipe(
    name: str, model: nn.Module, source: Source, arguments: Mapping[str, Any]
) -> Table | None:
    """Return the recipe of a training from Python; None if a piece has values that no recipe holds.

    `[model]` and `[data]` are there if `models.build` and `data.load` made them.

    Arguments:
        name: of the run folder.
        arguments: of `Trainer`, by name.
    """
    objective: Objective = arguments["objective"]
    try:
        tables = {
            "recipe": {"name": re.sub(r"[^\w-]", "-", name)[:99].lstrip("-") or "run"},
            **_objective(objective),
            "weights": {k: _plain(arguments.get(k)) for k in ("climb", "ema")},
            "train": {k: _plain(arguments.get(k)) for k in TRAIN},
            "validation": _validation(arguments),
        }
    except _NoText:
        return None
    tables["recipe"]["seed"] = int(arguments.get("seed", 0))
    with contextlib.suppress(_NoText):
        if (table := table_of(model)) is not None:
            tables["model"] = _plain(table)
    with contextlib.suppress(_NoText):
        if source.origin:
            rows = {k: [_plain(p) for p in arguments.get(k) or ()] for k in ("augment", "mix")}
            tables["data"] = _plain(source.origin) | {k: v for k, v in rows.items() if v}
    return {key: _without_none(table) for key, table in tables.items()}


def record_data(run: Path, name: str, source: Source) -> None:
    """Write what the run was trained on: the data's name, their path from the run, and sha256 of
    the content and of the rows held out."""
    about = {"name": name, "sha256": source.sha256}
    about |= {part: fingerprint(getattr(source, part).index) for part in ("val", "test")}
    path = Path(name).expanduser()
    if named.find(name) is None and path.exists():
        with contextlib.suppress(ValueError):  # on another drive there is no such path
            # from the run, so that it holds for a run that is moved together with its data
            about["path"] = Path(os.path.relpath(path.resolve(), run.resolve())).as_posix()
    files.write(run / RECORD, json.dumps(about).encode())


def _objective(objective: Objective) -> Table:
    """Return the tables of an objective's pieces."""
    numbers = {"natural": objective.natural, "smoothing": objective.smoothing}
    tables = {k: _plain(getattr(objective, k)) for k in ("method", "risk")}
    return {**_attack(objective.attack), **tables, "objective": numbers}


def _attack(attack: Any) -> Table:
    """Return the tables of an attack and its threat."""
    if attack is None:
        return {}
    table = _plain(attack)
    threat = table.pop("threat", None)
    return {"attack": table} if threat is None else {"threat": threat, "attack": table}


def _validation(arguments: Mapping[str, Any]) -> Table:
    return {"rows": arguments.get("rows"), "every": arguments.get("every", 1)} | _attack(
        arguments.get("validation")
    )


def _plain(value: Any) -> Any:
    """Return a value as a recipe holds it: pieces as tables, tuples as lists.

    Raises:
        _NoText: for anything else, as a network or a function.
    """
    if isinstance(value, Component):
        kind = type(value)
        ours = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
        name = kind.__name__ if ours else f"{kind.__module__}:{kind.__qualname__}"
        config = {key: _plain(v) for key, v in value.config().items()}
        return {"name": name, **_without_none(config)}
    if isinstance(value, Mapping):
        return _without_none({str(key): _plain(v) for key, v in value.items()})
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise _NoText(type(value).__name__)


def _without_none(table: Table) -> Table:
    return {key: value for key, value in table.items() if value is not None}
