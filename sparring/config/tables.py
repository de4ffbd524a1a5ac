"""The tables of a recipe, each checked against what it will make, with every default filled in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from .. import data, models
from ..component import did_you_mean, require
from ..evaluation import EvaluationProtocol
from ..models import hubs
from ..objective import Objective
from ..runtime import first_edition
from ..runtime.annotations import shortened
from ..runtime.files import plain_name
from ..runtime.importing import import_object
from ..training import Trainer
from ..training.loggers import LOGGERS
from ..training.optimizer import optimizer_names
from ..training.schedule import SCHEDULES
from .overrides import innermost
from .registry import complete, make, pieces
from .validation import Table, check, located, named

DEFAULTS = {"risk": "Mean"}
PIECES = ("threat", "attack", "method", "risk")
TABLES = (
    "recipe",
    "data",
    "model",
    *PIECES,
    "objective",
    "weights",
    "train",
    "validation",
    "evaluation",
)
FROM_TABLES = (
    "model",
    "objective",
    "source",
    "augment",
    "mix",
    "climb",
    "ema",
    "validation",
    "rows",
    "every",
    "seed",
)
FROM_RUN = ("out", "recipe", "resume", "progress", "tensorboard")
EXAMPLE = '{name = "Linf", eps = 0.3}'
LOGGER = 'a name, as "mlflow", or a table {name = "mlflow", …}'
FROM_SCHEDULES = ("progress", "base")


def resolve(tables: Mapping[str, Any], *, trust: bool = False) -> dict[str, Table]:
    """Check a recipe's tables and fill in every default; resolving twice changes nothing.

    Raises:
        ValueError: for a wrong name, key or type: its path, the nearest, what is allowed.
    """
    tables = first_edition.upgrade(tables)
    for name, table in tables.items():
        if name not in TABLES:
            raise ValueError(did_you_mean("table", name, TABLES))
        if not isinstance(table, Mapping) and name not in PIECES:
            raise ValueError(f"{name} = {shortened(table)} is not allowed: {name} must be a table")
    every = {name: tables.get(name, {}) for name in TABLES}
    out = {"recipe": check(_recipe_keys, every["recipe"], "recipe")}
    plain_name(out["recipe"]["name"], "recipe.name")
    out["data"], out["model"] = _data(every["data"], trust), _model(every["model"], trust)
    for room in PIECES:
        if room in tables or room in ("method", "risk"):
            kind = "maximizer" if room == "attack" else room
            out[room] = complete(kind, tables.get(room, DEFAULTS.get(room, {})), room, trust=trust)
    if "attack" in out and "threat" not in out:
        raise ValueError(f"threat is missing: a recipe with [attack] needs it, such as {EXAMPLE}")
    out["objective"] = check(
        Objective, every["objective"], "objective", without=("attack", "method", "risk")
    )
    out["weights"] = check(_weights_keys, every["weights"], "weights")
    for room, table in out["weights"].items():
        out["weights"][room] = complete(room, table, f"weights.{room}", trust=trust)
    out["train"] = _train(every["train"], trust)
    out["validation"] = _validation(every["validation"], out.get("threat"), trust)
    out["evaluation"] = _evaluation(every["evaluation"], out.get("threat"), trust)
    return out


# The keys of each table beside those of what it builds, as signatures that `check` reads.
def _recipe_keys(*, name: str, paper: str = "", seed: int = 0) -> None: ...


def _training_data_keys(*, augment: list[Any] = [], mix: list[Any] | None = None) -> None: ...


def _shape_keys(*, shape: list[int] | None = None, classes: int | None = None) -> None: ...


def _hub_keys(
    *, pretrained: bool = False, config: dict[str, Any] | None = None, **options: Any
) -> None:
    """Declare the keys of a hub's network: its published weights, and its configuration."""


def _weights_keys(*, climb: Any = None, ema: Any = None) -> None: ...


def _start_keys(*, start: str | None = None) -> None:
    """Declare `train.start`: a recipe names a file or a run folder."""


def _groups_key(*, groups: list[dict[str, Any]] | None = None) -> None: ...


def _group_keys(*, modules: list[str], lr_scale: float | None = None) -> None: ...


def _schedule_keys(*, path: str) -> None: ...


def _validation_keys(
    *, attack: Any = None, threat: Any = None, rows: int | None = None, every: int = 1
) -> None:
    """Declare the keys of `[validation]`: the attack that chooses the best epoch, rows,
    frequency."""


def _evaluation_keys(*, suite: str = "pgd", threat: Any = None) -> None:
    """Declare the keys of `[evaluation]` beside `EvaluationProtocol`, whose default suite
    differs."""


def _data(table: Table, trust: bool) -> Table:
    """Check `[data]`: a source by name or path, its arguments, augmentations and mix."""
    checked = named(data.load, table, "data", also=(_training_data_keys,))
    for room in ("augment", "mix"):
        if room in checked:
            tables = enumerate(checked[room])
            checked[room] = [complete(room, t, f"data.{room}.{k}", trust=trust) for k, t in tables]
    return checked


def _model(table: Table, trust: bool) -> Table:
    """Check `[model]`: a network by name, its normalisation, arguments, and shapes once known."""
    name = table.get("name")
    if hubs.is_hub_name(name):
        # Mean and std stay open: the hub knows them, and a run's recipe keeps what it says.
        return named(
            models.build, table, "model", also=(_hub_keys, _shape_keys), without=("trust",)
        )
    table = {"mean": 0.0, "std": 1.0, **table}
    if isinstance(name, str) and ":" in name:
        import_object(name, key="model.name", trust=trust)
    elif str(name) not in models.NETWORKS:
        raise ValueError(did_you_mean("model.name", str(name), models.NETWORKS, listed="models"))
    make = models.NETWORKS.get(str(name), models.build)
    return named(make, table, "model", also=(models.build, _shape_keys), without=("trust",))


def _train(table: Table, trust: bool) -> Table:
    """Check `[train]`, with the arguments of the optimizer and of the schedules."""
    checked = check(Trainer, table, "train", also=(_start_keys,), without=(*FROM_TABLES, *FROM_RUN))
    checked["optimizer"] = _optimizer(checked["optimizer"])
    checked["schedule"] = [
        _schedule(t, f"train.schedule.{k}") for k, t in enumerate(checked["schedule"])
    ]
    if "log" in checked:
        entries = enumerate(checked["log"])
        checked["log"] = [_logger(entry, f"train.log.{k}", trust) for k, entry in entries]
    return checked


def _logger(entry: Any, path: str, trust: bool) -> Table:
    """Check a logger, "mlflow" or `{name = "mlflow", …}`; the package is not imported."""
    table = {"name": entry} if isinstance(entry, str) else entry
    require(isinstance(table, Mapping) and "name" in table, path, entry, LOGGER)
    name = str(table["name"])
    if name not in LOGGERS and ":" not in name:
        raise ValueError(did_you_mean(f"{path}.name", name, LOGGERS))
    make = LOGGERS.get(name) or import_object(name, key=f"{path}.name", trust=trust)
    return named(make, table, path)


def _optimizer(table: str | Table) -> Table:
    table = {"name": table} if isinstance(table, str) else table
    name, known = str(table.get("name")), optimizer_names()
    if name not in known:
        raise ValueError(did_you_mean("train.optimizer.name", name, known))
    kind, path = getattr(torch.optim, name), "train.optimizer"
    checked = named(kind, table, path, also=(_groups_key,), without=("params",))
    if "groups" in checked:
        tables = enumerate(checked["groups"])
        checked["groups"] = [_group(kind, t, f"{path}.groups.{k}") for k, t in tables]
    return checked


def _group(kind: type, table: Table, path: str) -> Table:
    """Check a group of weights: only the keywords that it sets, since the others are the
    optimizer's."""
    checked = check(kind, table, path, also=(_group_keys,), without=("params",))
    return {key: value for key, value in checked.items() if key in table}


def _schedule(table: Table, path: str) -> Table:
    name = str(table.get("name"))
    if name not in SCHEDULES:
        raise ValueError(did_you_mean(f"{path}.name", name, SCHEDULES))
    return named(SCHEDULES[name], table, path, also=(_schedule_keys,), without=FROM_SCHEDULES)


def _validation(table: Table, training_threat: Table | None, trust: bool) -> Table:
    """Check `[validation]`; default of its threat: the training threat."""
    checked = check(_validation_keys, table, "validation", without=())
    threat = checked.pop("threat", _without_start(training_threat))
    if "attack" not in checked:
        return checked
    if threat is None:
        raise ValueError(f"validation.threat is missing: its attack needs one, such as {EXAMPLE}")
    attack = complete("attack", checked["attack"], "validation.attack", trust=trust)
    return checked | {
        "attack": attack,
        "threat": complete("threat", threat, "validation.threat", trust=trust),
    }


def _evaluation(table: Table, training_threat: Table | None, trust: bool) -> Table:
    """Check `[evaluation]`; defaults: the training threat and its eps.

    The threat gets the largest eps. There is no eps for a threat without radius, or an infinite
    one.
    """
    checked = check(EvaluationProtocol, table, "evaluation", also=(_evaluation_keys,), without=())
    # Only the options that the recipe sets: the defaults of the others are the protocol's, and a
    # new option must not change resolved recipes.
    options = {key: value for key, value in checked.items() if key in table or key == "suite"}
    threat = options.pop("threat", _without_start(training_threat))
    eps = options.pop("eps", [])
    eps = eps if isinstance(eps, list) else [eps]
    require(all(e >= 0 for e in eps), "evaluation.eps", eps, "radii ≥ 0 in input units")
    with located("evaluation"):
        EvaluationProtocol(**options)
    if threat is None:
        return options
    threat = {"name": threat} if isinstance(threat, str) else threat
    if not isinstance(threat, Mapping) or (
        "threat" in table and "eps" in innermost(dict(threat))[0]
    ):
        # Also the eps that the radii replace.
        first = complete("threat", threat, "evaluation.threat", trust=trust)
        make("threat", first, "evaluation.threat", trust=trust)
    threat = _at_eps(threat, max(eps)) if eps else threat
    threat = complete("threat", threat, "evaluation.threat", trust=trust)
    return {**options, "threat": threat, "eps": eps or _finite_eps(threat)}


def _at_eps(threat: Mapping[str, Any], eps: float) -> Table:
    """Return a threat's table with this eps; of a threat around another, the inner one's."""
    inner = threat.get("of")
    if inner is None:
        return {**threat, "eps": eps}
    inner = {"name": inner} if isinstance(inner, str) else inner
    return {**threat, "of": _at_eps(inner, eps) if isinstance(inner, Mapping) else inner}


def _finite_eps(threat: Table) -> list[float]:
    """Return the eps of a complete threat as a list, empty if it has none or an infinite one."""
    if isinstance(threat.get("of"), Mapping):
        return _finite_eps(threat["of"])
    return [threat["eps"]] if math.isfinite(threat.get("eps", math.inf)) else []


def _without_start(threat: Table | None) -> Table | None:
    """Return the training threat for evaluation: without its `init` and without label
    perturbation."""
    if not isinstance(threat, Mapping):
        return threat
    if getattr(pieces("threat").get(threat["name"]), "labels", False):
        return _without_start(threat["of"])
    return {k: _without_start(v) if k == "of" else v for k, v in threat.items() if k != "init"}
