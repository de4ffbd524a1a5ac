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
_adapter = functools.cache(pydantic.TypeAdapter)


def to_json(record: Any, *, compact: bool = False, first: str = "") -> str:
    """Return a record as JSON text: dataclasses are tables, NaN and infinities null.

    Arguments:
        compact: on one line, without spaces and without fields that equal their default.
        first: the key to begin with.
    """
    table = _jsonable(record, not compact)
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    table = {first: table[first], **table} if first else table
    return json.dumps(table, ensure_ascii=False, allow_nan=False, **layout)


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
    for table in (data, *_tables(data.get("by_eps"))):
        for row in _tables(table.get("attacks")):
            for key in GONE & row.keys():
                del row[key]
    try:
        # Through text, because strict validation takes tables for dataclasses from JSON only.
        return _adapter(kind).validate_json(json.dumps(data))
    except pydantic.ValidationError as error:
        raise ValueError(_message(path, noun, error, data) + f". {redo} to replace it") from None


def _tables(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _message(path: Path, noun: str, error: pydantic.ValidationError, data: dict[str, Any]) -> str:
    first, writer = error.errors()[0], _writer(data)
    *above, last = [f"[{k}]" if isinstance(k, int) else f": {k}" for k in first["loc"]]
    where, key = f"{path}{''.join(above)}", first["loc"][-1]
    if first["type"] in ("missing", "missing_argument"):
        return f"{where} is not a {noun}: it lacks {key}; {writer}"
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{where} is not a {noun}: {key!r} is unknown; {writer}"
    must = first["msg"].replace("Input", "it", 1)
    return f"{where}{last} = {first['input']!r} is not allowed: {must}; {writer}"


def _writer(data: dict[str, Any]) -> str:
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
    make = field.default_factory
    default = field.default if make is dataclasses.MISSING else make()
    return field.name != "schema" and value == default
