"""Find the pieces of a room by name, and build them from the tables of a recipe."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import attacks, data, methods, risks, threats, weights
from ..component import did_you_mean
from ..runtime.annotations import shortened
from ..runtime.importing import import_object
from .validation import Maker, Table, annotated_classes, arguments, located, named, names_function

# The keys of recipes, as `climb` and `mix`, are those of the first edition: recipes keep loading.
ROOMS = {
    "threat": (threats, threats.Threat),
    "attack": (attacks, attacks.Attack),
    "maximizer": (attacks, attacks.Maximizer),  # the attacks that can train
    "method": (methods, methods.Method),
    "risk": (risks, risks.Risk),
    "climb": (weights, weights.WeightPerturbation),
    "ema": (weights, weights.EMA),
    "augment": (data, data.Augment),
    "mix": (data, data.AddedRows),
}

LISTED = {  # the kind of `sparring list` that has the pieces of a room
    **{room: f"{room}s" for room in ("threat", "attack", "method", "risk")},
    "maximizer": "attacks",
    **dict.fromkeys(("climb", "ema"), "weights"),
    "augment": "augment",
    "mix": "mix",
}
SUPPLIED_TO_PIECES = ("self", "threat")  # of a piece's own arguments


def pieces(room: str) -> dict[str, Maker]:
    """Return the public pieces of a room by name: classes that no other inherits, and functions.

    >>> list(pieces("threat"))
    ['Bits', 'Box', 'Joint', 'L0', 'L1', 'L2', 'Linf', 'Only', 'Rounded', 'SoftLinf',
     'Transport']
    """
    module, base = ROOMS[room]
    public = {name: getattr(module, name) for name in module.__all__ if name[0].isupper()}
    classes = {n: p for n, p in public.items() if inspect.isclass(p) and issubclass(p, base)}
    leaves = {
        n: p for n, p in classes.items() if sum(issubclass(q, p) for q in classes.values()) == 1
    }
    return dict(
        sorted((leaves | {n: p for n, p in public.items() if not inspect.isclass(p)}).items())
    )


def maker(room: str, name: object, path: str, *, trust: bool = False) -> Maker:
    """Return the constructor of the piece called `name`: one of ours, or with `trust`
    "module:Class".

    Raises:
        ValueError: for a name that does not exist, or one from outside without trust.
    """
    known = pieces(room)
    if isinstance(name, str) and ":" in name:
        return import_object(name, key=f"{path}.name", trust=trust)
    if str(name) not in known:
        raise ValueError(did_you_mean(f"{path}.name", str(name), known, listed=LISTED[room]))
    return known[str(name)]


def complete(room: str, table: object, path: str, *, trust: bool = False) -> Table:
    """Check a piece's table, `"MART"` or `{name = "MART", beta = 5}`, and fill in every default.

    A room with a single piece needs no name. An argument that is itself a piece is a nested table,
    `{name = "Only", of = {name = "Linf", eps = 0.1}, classes = [1]}`, with its own dotted path.
    """
    known = list(pieces(room))
    table = {"name": table} if isinstance(table, str) else table
    if not isinstance(table, Mapping) or ("name" not in table and len(known) > 1):
        allowed = f'a table with a name, as {{name = "{known[0]}"}}; there are: {", ".join(known)}'
        raise ValueError(f"{path} = {shortened(table)} is not allowed: {path} must be {allowed}")
    table = {"name": known[0], **table}
    call = maker(room, table["name"], path, trust=trust)
    checked = named(call, table, path, without=SUPPLIED_TO_PIECES)
    return checked | _inner(call, checked, lambda r, t, p: complete(r, t, p, trust=trust), path)


def make(room: str, table: Table, path: str, *, trust: bool = False, **supplied: Any) -> Any:
    """Build the piece that a table describes; `supplied` are arguments that are built already.

    Raises:
        ValueError: for a number out of range, as the constructor reports it, with its path.
    """
    call = maker(room, table["name"], path, trust=trust)

    def make_inner(room: str, inner: Table, at: str) -> Any:
        takes = arguments(maker(room, inner["name"], at, trust=trust), without=())
        wanted = {key: value for key, value in supplied.items() if key in takes}
        return make(room, inner, at, trust=trust, **wanted)

    values = {key: value for key, value in table.items() if key != "name"}
    values |= _inner(call, values, make_inner, path)
    for key, parameter in arguments(call, without=SUPPLIED_TO_PIECES).items():
        if names_function(parameter.annotation) and isinstance(values.get(key), str):
            values[key] = import_object(values[key], key=f"{path}.{key}", trust=trust)
    with located(path):
        return call(**values, **supplied)


def _inner(
    make: Maker, values: Table, of: Callable[[str, Any, str], Any], path: str
) -> dict[str, Any]:
    """Apply `of(room, table, path)` to the arguments that are pieces, alone or in a list."""
    pieces_of = {}
    for name, parameter in arguments(make, without=SUPPLIED_TO_PIECES).items():
        room = _room(parameter.annotation)
        if room is None or name not in values:
            continue
        value, at = values[name], f"{path}.{name}"
        if isinstance(value, list) and _in_list(parameter.annotation):
            pieces_of[name] = [of(room, t, f"{at}.{k}") for k, t in enumerate(value)]
        else:
            pieces_of[name] = of(room, value, at)
    return pieces_of


def _room(annotation: Any) -> str | None:
    """Return the room whose base class an annotation names: "attack" for `Attack | None`."""
    classes = annotated_classes(annotation)
    rooms = [room for room, (_, base) in ROOMS.items() if base in classes]
    # a narrower kind, as `Ball`, is of the room of its base
    rooms += [r for r, (_, base) in ROOMS.items() if any(issubclass(k, base) for k in classes)]
    return next(iter(rooms), None)


def _in_list(annotation: Any) -> bool:
    """Return whether an annotation allows several: `Sequence[Attack]`, alone or in a union."""
    origin = typing.get_origin(annotation)
    several = inspect.isclass(origin) and issubclass(origin, Sequence)
    return several or any(_in_list(k) for k in typing.get_args(annotation))
