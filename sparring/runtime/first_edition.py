"""Translate what sparring 0.1 wrote: names of pieces and of their arguments that changed since.

Recipes, run folders and checkpoints of the first edition keep loading: their tables pass through
`upgrade`, their flat settings through `upgrade_settings`. Without a change both give back an equal
table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PIECES: dict[str, str] = {}  # old name of a piece: new name
ARGUMENTS: dict[str, dict[str, str]] = {  # of a piece or a table: old argument: new argument
    "Mean": {"price": "multiplier"},
    "CVaR": {"price": "multiplier"},
    "train": {"batch": "batch_size"},
    "": {"batch": "batch_size"},  # of a training without a recipe: the trainer's arguments
}
FIXED: dict[str, dict[str, Any]] = {}  # of a piece: an argument it lost: the value it always has
PATHS = {"risk.price": "risk.multiplier"}  # of schedules, and of tensors in a checkpoint


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
        elif key == "name":
            out[key] = PIECES.get(value, value) if isinstance(value, str) else value
        elif key == "path" and isinstance(value, str):
            out[key] = PATHS.get(value, value)
        else:
            out[renamed.get(key, key)] = _upgraded(value, key)
    return out


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
        value = PIECES.get(value, value) if key == "name" and isinstance(value, str) else value
        out[f"{table}.{key}" if table else key] = value
    return out


def upgrade_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return an objective's state dict with today's names of its buffers."""
    return {PATHS.get(key, key): value for key, value in state.items()}
