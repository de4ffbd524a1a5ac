"""Translate what sparring 0.1 wrote: names of pieces and of their arguments that changed since.

Recipes, run folders and checkpoints of the first edition keep loading: tables pass through
`upgrade`, flat settings through `upgrade_settings`. Both give back today's tables as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

PIECES: dict[str | tuple[str, str], str] = {
    # old name of a piece: new name. A name that several rooms had stands with the table or list
    # that it is in: `Noise` is an augmentation here, and an attack elsewhere.
    ("augment", "Noise"): "GaussianNoise",
    ("mix", "Rows"): "DatasetRows",
}
BOUNDED = {"floor": "min_multiplier", "initial": "initial_multiplier"}
ARGUMENTS: dict[str, dict[str, str]] = {  # of a piece or a table: old argument: new argument
    **{risk: {"price": "multiplier"} for risk in ("Mean", "CVaR")},
    **dict.fromkeys(("KL", "Alpha", "Renyi"), BOUNDED),
    "train": {"batch": "batch_size"},
    "": {"batch": "batch_size"},  # of a training without a recipe: the trainer's arguments
}
FIXED: dict[str, dict[str, Any]] = {  # of a piece: an argument it lost: the value it always has
    "UAD": {
        "statistics": "batch",
        "refine": "step",
        "match": "kl",
        "backprop": "adv",
        "draws": 4,
        "natural": 0.0,
        "transport": 0.0,
        "inverse": 4 / 255,
        "refresh": None,
        **dict.fromkeys(("masked", "ref_grad", "detach_spread", "clamp"), True),
        "detach_stats": False,
    },
}
ADDED: dict[str, dict[str, Any]] = {  # of a piece: an argument it got since: what it did before
    "OTJR": {"unit": "logit"},
    "Alpha": {"solve_rho": True, "initial_rho": 1.0},
    "SoftLinf": {"follows": "distance", "lag": False},
    "UAD": {"refined": "all", "scale": 1.0},
}
PATHS = {  # of schedules, and of tensors in a checkpoint
    "risk.price": "risk.multiplier",
    "risk.floor": "risk.min_multiplier",
    "risk.of.price": "risk.of.multiplier",
    "risk.of.floor": "risk.of.min_multiplier",
    "attack.threat.pull": "attack.threat.current_multiplier",
    "attack.threat.of.pull": "attack.threat.of.current_multiplier",
    "attack.threat.of.of.pull": "attack.threat.of.of.current_multiplier",
}


def upgrade(tables: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Return a recipe's tables with the names of this edition; nested pieces too.

    Arguments:
        name: of the table itself, where it has no `name` of its own, as `train`.

    Raises:
        ValueError: for an argument that this edition no longer has, at a value it does not offer.

    >>> upgrade({"risk": {"name": "Mean", "price": 2.0}})
    {'risk': {'name': 'Mean', 'multiplier': 2.0}}
    """
    piece = str(tables.get("name", name))
    renamed, fixed = ARGUMENTS.get(piece, {}), FIXED.get(piece, {})
    out: dict[str, Any] = {}
    for key, value in tables.items():
        if key in fixed:
            _require_fixed(piece, key, value, fixed[key])
            out = ADDED.get(piece, {}) | out
        elif key == "name":
            out[key] = _piece(value, name)
        elif key == "path" and isinstance(value, str):
            out[key] = PATHS.get(value, value)
        else:
            out[renamed.get(key, key)] = _upgraded(value, key)
    return _with_loggers(out) if name == "train" else out


def _with_loggers(train: dict[str, Any]) -> dict[str, Any]:
    """Return `[train]` with `tensorboard = true` as the logger of that name.

    >>> _with_loggers({"epochs": 3, "tensorboard": True})
    {'epochs': 3, 'log': ['tensorboard']}
    """
    wanted = train.pop("tensorboard", False)
    if wanted is True and isinstance(log := train.get("log", []), list):
        train["log"] = [*log, *(["tensorboard"] if "tensorboard" not in log else [])]
    return train


def _piece(value: Any, key: str) -> Any:
    known = isinstance(value, str)
    return PIECES.get((key, value), PIECES.get(value, value)) if known else value


def _upgraded(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        return upgrade(value, key)
    return [_upgraded(v, key) for v in value] if isinstance(value, list) else value


def _require_fixed(piece: str, key: str, value: Any, kept: Any) -> None:
    if value != kept:
        raise ValueError(
            f"{piece}.{key} = {value!r} was written by sparring 0.1, and this version has only "
            f"{kept!r}: install sparring 0.1 to go on with it, or leave the key out"
        )


def upgrade_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat settings of a checkpoint with today's names.

    >>> upgrade_settings({"risk.name": "Mean", "risk.price": 2.0, "data": "3f…"})
    {'risk.name': 'Mean', 'risk.multiplier': 2.0, 'data': '3f…'}
    """
    out: dict[str, Any] = {}
    for path, value in settings.items():
        table, _, key = path.rpartition(".")
        piece = str(settings.get(f"{table}.name", table.rpartition(".")[2]))
        if key in FIXED.get(piece, {}):
            _require_fixed(piece, key, value, FIXED[piece][key])
            continue
        key = ARGUMENTS.get(piece, {}).get(key, key)
        value = _piece(value, table.rpartition(".")[2]) if key == "name" else _upgraded(value, key)
        out[f"{table}.{key}" if table else key] = value
    for path, piece in list(out.items()):
        table, _, key = path.rpartition(".")
        for added, value in ADDED.get(str(piece), {}).items() if key == "name" else ():
            out.setdefault(f"{table}.{added}", value)
    return out


def upgrade_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return an objective's state dict with today's names of its buffers."""
    return {PATHS.get(key, key): value for key, value in state.items()}


def renamed_keywords(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return keywords with old names replaced; warn of each (`DeprecationWarning`)."""
    for old, new in ((old, new) for old, new in names.items() if old in given):
        warnings.warn(f"{old} is {new} since 0.2", DeprecationWarning, stacklevel=4)
    return {names.get(key, key): value for key, value in given.items()}
