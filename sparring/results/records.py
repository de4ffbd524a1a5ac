"""Read and write records, nested dataclasses, as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydantic

from ..runtime import files
from ..runtime.text import printable
from .ranges import check_numbers
from .verdicts import current_verdicts

SCHEMA = 2
READ = (1, 2)  # files of schema 1 have other words for the verdict, and no reason beside it
LIMIT_KEY = "SPARRING_RESULT_LIMIT"  # an environment variable: bytes of a result that are read
JSON_LIMIT = 64 << 20
SHOWN = 80  # letters of a wrong value
# Fields that files of the first edition have and no report reads.
GONE = {"survivors"}
T = TypeVar("T")
_adapter = functools.cache(pydantic.TypeAdapter)


def to_json(record: Any, *, compact: bool = False, first: str = "") -> str:
    """Return a record as JSON text: dataclasses are tables, NaN and infinities null.

    Arguments:
        compact: on one line, without spaces, without fields that equal their default, and without
            attacks that are those of the last radius.
        first: the key to begin with.
    """
    table = _jsonable(record, not compact)
    if compact and "attacks" in table and table["attacks"] == _last_attacks(table):
        del table["attacks"]
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    table = {first: table[first], **table} if first else table
    return json.dumps(table, ensure_ascii=False, allow_nan=False, **layout)


def from_json(kind: type[T], path: Path, *, noun: str, redo: str) -> T:
    """Read a record of a dataclass from a JSON file; runs no code of the file's.

    Types and names are strict, so that a file of something else is not taken for a record.

    Arguments:
        noun, redo: the name of the record, and what a user does to get a new one.

    Raises:
        ValueError: if the file is truncated, too large, of another schema or not a record, or if a
            number is out of its range; it says which version wrote it.
    """
    content = files.read(path, limit=size_limit(JSON_LIMIT), key=LIMIT_KEY)
    name = printable(path)
    try:
        data = json.loads(content, object_pairs_hook=_table, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        what = f"byte {error.start} is not of a text in UTF-8"
        raise ValueError(f"{name} is no complete JSON: {what}. {redo} to replace it") from None
    except (ValueError, RecursionError) as error:
        reason = printable(error)
        raise ValueError(f"{name} is no complete JSON: {reason}. {redo} to replace it") from None
    if not isinstance(data, dict) or "schema" not in data:
        raise ValueError(f"{name} is not a {noun}: it has no schema number")
    if type(data["schema"]) is not int or data["schema"] not in READ:
        schema, known = printable(repr(data["schema"]), SHOWN), " and ".join(map(str, READ))
        raise ValueError(
            f"{name} has schema {schema}, this version reads schema {known}; "
            f"{_writer(data)}. Read it with that version, or {redo.lower()}"
        )
    data["schema"] = getattr(kind, "schema")  # noqa: B009  a field's default is the class's too
    current_verdicts(data)
    if data.get("stripped") is True and _last_attacks(data) is not None:
        data.setdefault("attacks", _last_attacks(data))
    for table in (data, *_tables(data.get("by_eps"))):
        for row in _tables(table.get("attacks")):
            for key in GONE & row.keys():
                del row[key]
    try:
        # Through text, because strict validation takes tables for dataclasses from JSON only.
        record: T = _adapter(kind).validate_json(json.dumps(data, allow_nan=False))
    except pydantic.ValidationError as error:
        raise ValueError(_message(name, noun, error, data) + f". {redo} to replace it") from None
    except (ValueError, RecursionError) as error:  # 1e999, or tables in tables in tables
        reason = printable(error)
        raise ValueError(f"{name} is not a {noun}: {reason}. {redo} to replace it") from None
    with checked(path, noun, redo):
        check_numbers(record)
    return record


@contextlib.contextmanager
def checked(path: Path, noun: str, redo: str) -> Iterator[None]:
    """Name the file, and what to do, in a `ValueError` that is raised inside."""
    try:
        yield
    except ValueError as error:
        name = printable(path)
        raise ValueError(f"{name} is not a {noun}: {error}. {redo} to replace it") from None


def is_record(path: Path, key: str) -> bool:
    """Return whether a JSON file has a key, as far as a search in its text shows."""
    return f'"{key}"'.encode() in files.read(path, limit=size_limit(JSON_LIMIT), key=LIMIT_KEY)


def size_limit(default: int) -> int:
    """Return how many bytes of a file are read: `default`, or the value of SPARRING_RESULT_LIMIT.

    >>> size_limit(100)
    100
    """
    text = os.environ.get(LIMIT_KEY, "")
    if text and not text.isdecimal():
        raise ValueError(f"{LIMIT_KEY} = {text!r} is not allowed: it must be a number of bytes")
    return int(text) if text else default


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} is in one table twice")
    return table


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _tables(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _last_attacks(table: dict[str, Any]) -> Any:
    """Return the rows of the attacks at the last radius of a result's table; None without one."""
    rows = _tables(table.get("by_eps"))
    return rows[-1].get("attacks") if rows else None


def _message(name: str, noun: str, error: pydantic.ValidationError, data: dict[str, Any]) -> str:
    first, writer = error.errors(include_url=False)[0], _writer(data)
    path = first["loc"] or ("content",)
    keys = [f"[{k}]" if isinstance(k, int) else f": {printable(k, SHOWN)}" for k in path]
    where, last, key = f"{name}{''.join(keys[:-1])}", keys[-1], printable(path[-1], SHOWN)
    if first["type"] in ("missing", "missing_argument"):
        return f"{where} is not a {noun}: it lacks {key}; {writer}"
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{where} is not a {noun}: '{key}' is unknown; {writer}"
    must = first["msg"].replace("Input", "it", 1).removeprefix("Value error, ")
    value = printable(repr(first["input"]), SHOWN)
    return f"{where}{last} = {value} is not allowed: {printable(must)}; {writer}"


def _writer(data: dict[str, Any]) -> str:
    versions = data.get("versions")
    version = versions.get("sparring") if isinstance(versions, dict) else None
    known = f"sparring {printable(version, SHOWN)} wrote it"
    return known if version else "its writer is unknown"


def _jsonable(value: Any, defaults: bool) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f for f in dataclasses.fields(value) if f.name != "arrays"]
        pairs = [(f, getattr(value, f.name)) for f in fields]
        return {f.name: _jsonable(v, defaults) for f, v in pairs if defaults or not _default(f, v)}
    if isinstance(value, dict):
        return {str(k): _jsonable(v, defaults) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v, defaults) for v in value]
    if isinstance(value, np.generic):
        return _jsonable(value.item(), defaults)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _default(field: dataclasses.Field[Any], value: Any) -> bool:
    """Return whether a field has its default; the schema number is written always."""
    make = field.default_factory
    default = field.default if make is dataclasses.MISSING else make()
    return field.name != "schema" and value == default
