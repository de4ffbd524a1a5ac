"""Read and write records, nested dataclasses, as JSON."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydantic

SCHEMA = 1
# Fields that files of the first edition have and no report reads.
GONE = {"survivors"}
T = TypeVar("T")


def to_json(record: Any, *, indent: int | None = 1, defaults: bool = True, first: str = "") -> str:
    """Return a record as JSON text: dataclasses are tables, NaN and infinities null.

    Arguments:
        indent: None: on one line, without spaces.
        defaults: write fields that equal their default too.
        first: the key to begin with.
    """
    table = _jsonable(record, defaults)
    return json.dumps(
        {first: table[first], **table} if first else table,
        indent=indent,
        separators=None if indent else (",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )


def from_json(kind: type[T], path: Path, *, noun: str, redo: str) -> T:
    """Read a record of a dataclass from a JSON file; runs no code of the file's.

    Types and names are strict, so that a file of something else is not taken for a record.

    Arguments:
        noun, redo: the name of the record, and what a user does to get a new one.

    Raises:
        ValueError: if the file is truncated, of another schema or not a record; it says which
            version wrote it.
    """
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no complete JSON: {error}. {redo} to replace it") from None
    if not isinstance(data, dict) or "schema" not in data:
        raise ValueError(f"{path} is not a {noun}: it has no schema number")
    if data["schema"] != SCHEMA:
        raise ValueError(
            f"{path} has schema {data['schema']!r}, this version reads schema {SCHEMA}; "
            f"{_writer(data)}. Read it with that version, or {redo.lower()}"
        )
    _drop_gone(data)
    try:
        # Through text, because strict validation takes tables for dataclasses from JSON only.
        return _adapter(kind).validate_json(json.dumps(data))
    except pydantic.ValidationError as error:
        raise ValueError(_message(path, noun, error, data) + f". {redo} to replace it") from None


@functools.cache
def _adapter(kind: type[T]) -> pydantic.TypeAdapter[T]:
    return pydantic.TypeAdapter(kind)


def _drop_gone(data: Any) -> None:
    """Remove fields of the first edition that no longer exist."""
    for rows in (data.get("attacks"), *(row.get("attacks") for row in _tables(data.get("by_eps")))):
        for row in _tables(rows):
            for key in GONE & row.keys():
                del row[key]


def _tables(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _message(path: Path, noun: str, error: pydantic.ValidationError, data: dict[str, Any]) -> str:
    """Return the first thing that is wrong with a record, and where it is."""
    first = error.errors()[0]
    *parents, key = first["loc"]
    where = f"{path}{_where(tuple(parents))}"
    if first["type"] in ("missing", "missing_argument"):
        return f"{where} is not a {noun}: it lacks {key}; {_writer(data)}"
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{where} is not a {noun}: {key!r} is unknown; {_writer(data)}"
    return (
        f"{path}{_where(first['loc'])} = {first['input']!r} is not allowed: "
        f"{first['msg'].replace('Input', 'it', 1)}; {_writer(data)}"
    )


def _where(keys: tuple[int | str, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f": {key}" for key in keys)


def _writer(data: dict[str, Any]) -> str:
    """Return which version wrote a file, in words."""
    versions = data.get("versions")
    version = versions.get("sparring") if isinstance(versions, dict) else None
    return f"sparring {version} wrote it" if version else "its writer is unknown"


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
    if field.name == "schema":
        return False
    if field.default_factory is not dataclasses.MISSING:
        return value == field.default_factory()
    return field.default is not dataclasses.MISSING and value == field.default
