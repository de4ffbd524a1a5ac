"""Lay one recipe over another, and change single values by their dotted path."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from ..component import require
from ..runtime.annotations import shortened
from .validation import DEPTH, Table, plain

PATH_LIMIT = 1000  # letters of a dotted path
Overrides = Iterable[str] | Mapping[str, Any]


def overlaid(tables: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `tables` over `base`; a table with another name replaces the whole table below.

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
    """Split `"train.epochs=3"` into a path and a value; a value that is not TOML is a string.

    >>> override("method=MART"), override("evaluation.eps=[0.1, 0.2]")
    (('method', 'MART'), ('evaluation.eps', [0.1, 0.2]))
    """
    path, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not path:
        raise ValueError(
            f"set = {shortened(text)} is not allowed: it must be key=value, as train.epochs=3"
        )
    try:
        tables = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return path, value
    except ValueError as error:  # an integer of thousands of digits
        raise ValueError(f"set = {shortened(text)} is not allowed: {error}") from error
    # A value with a line break could be more keys than one.
    return path, tables["value"] if len(tables) == 1 else value


def as_toml(value: Any) -> str:
    """Return a plain value as text in one line, which `override` reads back.

    >>> as_toml({"name": "PGD", "steps": 3}), as_toml([True, "a"])
    ('{"name" = "PGD", "steps" = 3}', '[true, "a"]')
    """
    if isinstance(value, Mapping):
        pairs = (f"{as_toml(str(key))} = {as_toml(inner)}" for key, inner in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    # letters as they are: TOML has no pair of escapes for a letter beyond the first 65,536
    return json.dumps(value, ensure_ascii=False)


def set_value(tables: dict[str, Table], path: str, value: Any) -> None:
    """Set the value at a dotted path; a number is an index in a list, `attack.threat` is
    `[threat]`.

    >>> tables = {"data": {"augment": [{"name": "Shift"}]}}
    >>> set_value(tables, "data.augment.0.pixels", 1)
    >>> tables
    {'data': {'augment': [{'name': 'Shift', 'pixels': 1}]}}
    """
    keys = in_tables(path).split(".")
    short = len(keys) <= DEPTH and len(path) <= PATH_LIMIT
    require(all(keys) and short, "set", path, f"names with dots between, at most {DEPTH}")
    value = plain(value, path)
    table: Any = tables
    for key in keys[:-1]:
        index = _index(table, key, path)
        below = table.setdefault(index, {}) if isinstance(table, dict) else table[index]
        table[index] = {"name": below} if isinstance(below, str) else below
        table = table[index]
    table[_index(table, keys[-1], path)] = value


def in_tables(path: str) -> str:
    """Return a dotted path as it stands in the tables, where the threat of the attack is a table.

    >>> in_tables("attack.threat.eps"), in_tables("attack.steps")
    ('threat.eps', 'attack.steps')
    """
    return path.removeprefix("attack.") if path.startswith("attack.threat") else path


def innermost(threat: Table, path: str = "threat") -> tuple[Table, str]:
    """Return the innermost table of nested threats, and its path.

    >>> innermost({"name": "Only", "of": {"name": "Bits"}, "classes": [1]})
    ({'name': 'Bits'}, 'threat.of')
    """
    while isinstance(threat.get("of"), dict):
        threat, path = threat["of"], f"{path}.of"
    return threat, path


def _index(table: Any, key: str, path: str) -> Any:
    """Return the key of a table, or the index in a list.

    Raises:
        ValueError: if there is no such index.
    """
    if isinstance(table, dict) and not key.isdecimal():
        return key
    if isinstance(table, list) and key.isdecimal() and int(key) < len(table):
        return int(key)
    raise ValueError(
        f"set = {shortened(path)} is not allowed: {shortened(key)} is no key or index there"
    )
