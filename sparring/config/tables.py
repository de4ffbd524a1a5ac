"""The tables of a recipe, each checked against what it will make, with every default filled in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from .. import data, models
from ..component import did_you_mean, require
from ..evaluation import SUITES
from ..objective import Objective
from ..runtime import first_edition
from ..runtime.importing import import_object
from ..training import Trainer
from ..training.optimizer import optimizer_names
from ..training.schedule import SCHEDULES
from .registry import complete, pieces
from .validation import Table, check, named

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
FROM_RUN = ("out", "recipe", "resume", "progress")
FROM_SCHEDULES = ("progress", "base")


def resolve(tables: Mapping[str, Any], *, trust: bool = False) -> dict[str, Table]:
    """The tables in order and complete, in plain values; `resolve` leaves its own result as it is.

    Raises:
        ValueError: for a wrong name, key or type; with the path, the nearest and what there is.
    """
    tables = first_edition.upgrade(tables)
    for name, table in tables.items():
        if name not in TABLES:
            raise ValueError(did_you_mean("table", name, TABLES))
        if not isinstance(table, Mapping) and name not in PIECES:
            raise ValueError(f"{name} = {table!r} is not allowed: {name} must be a table")
    given = {name: tables.get(name, {}) for name in TABLES}
    out = {"recipe": check(_recipe, given["recipe"], "recipe")}
    out["data"], out["model"] = _data(given["data"], trust), _model(given["model"], trust)
    for room in PIECES:
        if room in tables or room in ("method", "risk"):
            kind = "maximizer" if room == "attack" else room
            out[room] = complete(kind, tables.get(room, DEFAULTS.get(room, {})), room, trust=trust)
    if "attack" in out and "threat" not in out:
        raise ValueError("threat is missing: [attack] needs to know where it may go")
    out["objective"] = check(
        Objective, given["objective"], "objective", without=("attack", "method", "risk")
    )
    out["weights"] = check(_weights, given["weights"], "weights")
    for room, table in out["weights"].items():
        out["weights"][room] = complete(room, table, f"weights.{room}", trust=trust)
    out["train"] = _train(given["train"])
    out["validation"] = _validation(given["validation"], out.get("threat"), trust)
    out["evaluation"] = _evaluation(given["evaluation"], out.get("threat"), trust)
    return out


def _recipe(*, name: str, paper: str = "", seed: int = 0) -> None:
    """The keys of `[recipe]`."""


def _trained(*, augment: list[Any] = [], mix: list[Any] | None = None) -> None:
    """The keys of `[data]` that are the training's."""


def _fitted(*, shape: list[int] | None = None, classes: int | None = None) -> None:
    """The keys of `[model]` that the data decide."""


def _weights(*, climb: Any = None, ema: Any = None) -> None:
    """The keys of `[weights]`."""


def _scheduled(*, path: str) -> None:
    """The key of a schedule that is not its function's."""


def _validated(
    *, attack: Any = None, threat: Any = None, rows: int | None = None, every: int = 1
) -> None:
    """The keys of `[validation]`: what chooses the best epoch, on how many rows, how often."""


def _measured(
    *,
    suite: str = "pgd",
    threat: Any = None,
    eps: list[float] | float | None = None,
    n: int | None = None,
) -> None:
    """The keys of `[evaluation]`."""


def _data(table: Table, trust: bool) -> Table:
    """`[data]`: a source by name or path, its arguments, training's augmentations and its mix."""
    found = named(data.load, table, "data", also=(_trained,))
    for room in ("augment", "mix"):
        if room in found:
            tables = enumerate(found[room])
            found[room] = [complete(room, t, f"data.{room}.{k}", trust=trust) for k, t in tables]
    return found


def _model(table: Table, trust: bool) -> Table:
    """`[model]`: a network by name, its normalisation, own arguments, and shapes once known."""
    name = table.get("name")
    if isinstance(name, str) and ":" in name:
        import_object(name, key="model.name", trust=trust)
    elif name not in models.NETWORKS:
        raise ValueError(did_you_mean("model.name", str(name), models.NETWORKS))
    make = models.NETWORKS.get(str(name), models.build)
    return named(make, table, "model", also=(models.build, _fitted), without=("trust",))


def _train(table: Table) -> Table:
    """`[train]`, with the optimizer's and the schedules' own arguments."""
    found = check(Trainer, table, "train", without=(*FROM_TABLES, *FROM_RUN))
    found["optimizer"] = _optimizer(found["optimizer"])
    found["schedule"] = [
        _schedule(t, f"train.schedule.{k}") for k, t in enumerate(found["schedule"])
    ]
    return found


def _optimizer(table: str | Table) -> Table:
    table = {"name": table} if isinstance(table, str) else table
    name, known = str(table.get("name")), optimizer_names()
    if name not in known:
        raise ValueError(did_you_mean("train.optimizer.name", name, known))
    return named(getattr(torch.optim, name), table, "train.optimizer", without=("params",))


def _schedule(table: Table, path: str) -> Table:
    name = str(table.get("name"))
    if name not in SCHEDULES:
        raise ValueError(did_you_mean(f"{path}.name", name, SCHEDULES))
    return named(SCHEDULES[name], table, path, also=(_scheduled,), without=FROM_SCHEDULES)


def _validation(table: Table, trained: Table | None, trust: bool) -> Table:
    """`[validation]`; its threat is the one trained against when omitted."""
    found = check(_validated, table, "validation", without=())
    threat = found.pop("threat", _afresh(trained))
    if "attack" not in found:
        return found
    if threat is None:
        raise ValueError("validation.threat is missing: its attack needs to know where it may go")
    attack = complete("attack", found["attack"], "validation.attack", trust=trust)
    return found | {
        "attack": attack,
        "threat": complete("threat", threat, "validation.threat", trust=trust),
    }


def _evaluation(table: Table, trained: Table | None, trust: bool) -> Table:
    """`[evaluation]`; threat (at its largest eps) and eps are those trained against if omitted;
    no eps without a radius, or with an endless one."""
    found = check(_measured, table, "evaluation", without=())
    threat = found.pop("threat", _afresh(trained))
    radii = found.pop("eps", [])
    radii = radii if isinstance(radii, list) else [radii]
    require(all(eps >= 0 for eps in radii), "evaluation.eps", radii, "radii ≥ 0 in input units")
    if found["suite"] not in SUITES:
        raise ValueError(did_you_mean("evaluation.suite", found["suite"], SUITES))
    if threat is None:
        return found
    threat = {"name": threat} if isinstance(threat, str) else threat
    threat = _at(threat, max(radii)) if radii else threat
    threat = complete("threat", threat, "evaluation.threat", trust=trust)
    return {**found, "threat": threat, "eps": radii or _radii(threat)}


def _at(threat: Mapping[str, Any], eps: float) -> Table:
    """The threat at a radius; of a threat around another, the inner one."""
    inner = threat.get("of")
    if inner is None:
        return {**threat, "eps": eps}
    inner = {"name": inner} if isinstance(inner, str) else inner
    return {**threat, "of": _at(inner, eps) if isinstance(inner, Mapping) else inner}


def _radii(threat: Table) -> list[float]:
    """The radius of a complete threat, where it has one."""
    if isinstance(threat.get("of"), Mapping):
        return _radii(threat["of"])
    return [threat["eps"]] if math.isfinite(threat.get("eps", math.inf)) else []


def _afresh(threat: Table | None) -> Table | None:
    """The threat trained against, but searched from its usual start, and to inputs only."""
    if not isinstance(threat, Mapping):
        return threat
    if getattr(pieces("threat").get(threat["name"]), "labels", False):
        return _afresh(threat["of"])
    return {k: _afresh(v) if k == "of" else v for k, v in threat.items() if k != "init"}
