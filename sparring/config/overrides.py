"""Lay one recipe over another, and change single values by their dotted path."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from .validation import Table

Overrides = Iterable[str] | Mapping[str, Any]


def overlaid(tables: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """`tables` over `base`; a table with another name replaces all that was there.

    >>> base = {"attack": {"name": "PGD", "steps": 4}, "train": {"epochs": 3, "batch_size": 100}}
    >>> overlaid({"attack": {"name": "FGSM"}, "train": {"epochs": 1}}, base)
    {'attack': {'name': 'FGSM'}, 'train': {'epochs': 1, 'batch_size': 100}}
    """
    out = dict(base)
    for key, value in tables.items():
        below = out.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            same = value.get("name", below.get("name")) == below.get("name")
            out[key] = overlaid(value, below) if same else value
        else:
            out[key] = value
    return out


def override(text: str) -> tuple[str, Any]:
    """`"train.epochs=3"` as a path and a value; what is no TOML value is a string.

    >>> override("method=MART"), override("evaluation.eps=[0.1, 0.2]")
    (('method', 'MART'), ('evaluation.eps', [0.1, 0.2]))
    """
    path, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not path:
        raise ValueError(f"set = {text!r} is not allowed: it must be key=value, as train.epochs=3")
    try:
        return path, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return path, value


def put(tables: dict[str, Table], path: str, value: Any) -> None:
    """Set the value at a dotted path; numbers are places in a list, `attack.threat` is `[threat]`.

    >>> tables = {"data": {"augment": [{"name": "Shift"}]}}
    >>> put(tables, "data.augment.0.pixels", 1)
    >>> tables
    {'data': {'augment': [{'name': 'Shift', 'pixels': 1}]}}
    """
    bare = path.removeprefix("attack.") if path.startswith("attack.threat") else path
    keys = bare.split(".")
    here: Any = tables
    for key in keys[:-1]:
        spot = _inside(here, key, path)
        below = here.setdefault(spot, {}) if isinstance(here, dict) else here[spot]
        here[spot] = {"name": below} if isinstance(below, str) else below
        here = here[spot]
    here[_inside(here, keys[-1], path)] = value


def innermost(threat: Table, path: str = "threat") -> tuple[Table, str]:
    """The table of the threat that others stand around, and its path.

    >>> innermost({"name": "Only", "of": {"name": "Bits"}, "classes": [1]})
    ({'name': 'Bits'}, 'threat.of')
    """
    while isinstance(threat.get("of"), dict):
        threat, path = threat["of"], f"{path}.of"
    return threat, path


def _inside(here: Any, key: str, path: str) -> Any:
    """The key as it is used in a table, or the place in a list.

    Raises:
        ValueError: if there is no such place.
    """
    if isinstance(here, dict) and not key.isdecimal():
        return key
    if isinstance(here, list) and key.isdecimal() and int(key) < len(here):
        return int(key)
    raise ValueError(f"set = {path!r} is not allowed: there is nothing at {key!r}")
