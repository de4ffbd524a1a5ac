"""Turn the arguments of a classifier into the tables of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import nn

from ..component import require
from ..config.recipe import Recipe, load_recipe
from ..config.registry import maker
from ..config.validation import arguments
from ..runtime.fractions import parse_number

DATA = "classifier-rows.npz"  # of the test rows in a saved run
SCHEDULE = {"path": "lr", "name": "one-cycle"}
STEP = 2.5  # steps times their length, in radii: enough to cross the ball and turn at its wall
VALIDATION_STEPS = 5


def plain_value(value: Any) -> Any:
    """Return NumPy's numbers and arrays as Python's, inside lists and tables too."""
    if isinstance(value, Mapping):
        return {str(key): plain_value(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(v) for v in value]
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def table_of(key: str, value: Any) -> dict[str, Any]:
    """Return a piece's table, of its name or a table with a name.

    Raises:
        ValueError: for anything else.
    """
    table = {"name": value} if isinstance(value, str) else value
    ok = isinstance(table, Mapping) and isinstance(table.get("name"), str)
    require(ok, key, value, "a name, or a table with a name")
    return plain_value(table)


def radius(eps: Any) -> float | None:
    """Return a radius ≥ 0, given as a number or as "8/255"; None is none."""
    if eps is None:
        return None
    number = parse_number(eps) if isinstance(eps, str) else float(eps)
    require(0 <= number < np.inf, "eps", eps, "a radius ≥ 0, or None for a threat without")
    return number


def threat_table(threat: Any, eps: float | None, bounds: tuple[float, float]) -> dict[str, Any]:
    """Return the table of a threat with this radius and box, where it takes them."""
    table = table_of("threat", threat)
    require("eps" not in table, "threat.eps", table.get("eps"), "left out: eps gives the radius")
    if isinstance(table.get("of"), str | Mapping):
        return table | {"of": threat_table(table["of"], eps, bounds)}
    known = arguments(maker("threat", table["name"], "threat"))
    more = {} if eps is None else {"eps": eps}
    more |= {key: bound for key, bound in zip(("low", "high"), bounds, strict=True) if key in known}
    return {**more, **table}


def judged_threat(threat: dict[str, Any]) -> dict[str, Any]:
    """Return the threat of a table as it is evaluated: without a move of labels, as `Joint`'s."""
    moves_labels = getattr(maker("threat", threat["name"], "threat"), "labels", False)
    return judged_threat(threat["of"]) if moves_labels else threat


def recipe_of(
    given: Mapping[str, Any],
    *,
    name: str,
    bounds: tuple[float, float],
    shape: tuple[int, ...],
    classes: int,
    seed: int,
) -> Recipe:
    """Return the recipe of a training by a classifier's arguments `given`.

    Raises:
        ValueError: for an argument that is not allowed; it names the recipe's path.
    """
    eps = radius(given["eps"])
    threat = threat_table(given["threat"], eps, bounds)
    table = {
        "recipe": {"name": name, "seed": seed},
        "data": {"name": DATA, "bounds": list(bounds)},
        "model": _model(given, shape, classes),
        "method": table_of("method", given["method"]),
        "train": {
            "epochs": given["epochs"],
            "batch_size": given["batch_size"],
            "optimizer": {"name": "AdamW", "lr": given["lr"]},
            "schedule": [SCHEDULE],
        },
        "evaluation": {"threat": judged_threat(threat)},
    }
    if given["device"] is not None:
        table["train"]["device"] = given["device"]
    # a radius of 0 leaves the adversary nothing to do, and its steps no length
    if eps != 0 and given["steps"] != 0:
        table |= {
            "threat": threat,
            "attack": _attack(given, eps, given["steps"], "training_attack"),
        }
        validation = _attack(given, eps, VALIDATION_STEPS, "training_attack")
        table["validation"] = {"attack": validation, "threat": judged_threat(threat)}
    # without rows to choose by, the last epoch counts: it alone is validated
    every = 1 if given["validation_fraction"] else given["epochs"]
    table.setdefault("validation", {})["every"] = every
    return load_recipe(plain_value(table))


def _model(given: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    network, hidden = given["network"], given["hidden"]
    made = "a name, a table, or a function that makes a network of shape and classes"
    require(not isinstance(network, nn.Module), "network", network, made)
    if network is None or isinstance(network, Callable):
        require(np.ndim(hidden) == 1, "hidden", hidden, "widths of layers, as (64, 64)")
        table: dict[str, Any] = {"name": "mlp", "hidden": list(hidden)}
    else:
        table = table_of("network", network)
    return {**table, "shape": list(shape), "classes": classes}


def _attack(given: Mapping[str, Any], eps: float | None, steps: int, key: str) -> dict[str, Any]:
    if given[key] is not None:
        return table_of(key, given[key])
    table: dict[str, Any] = {"name": "PGD", "steps": steps}
    return table if not eps else table | {"size": STEP * eps / max(1, steps)}
