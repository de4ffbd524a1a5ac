"""Read TOML of a stranger: bounded, in any editor's form, and wrong only by a `ValueError`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from ..runtime import files
from ..runtime.text import printable
from .validation import plain

# The parser takes minutes for a key of thousands of parts.
DEEP_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){100}""")
FILE_LIMIT = 2**26  # bytes; a mask of a million features, in three tables, has nine million


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the tables of a TOML file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: for a file that is not TOML, holds what no recipe can, or is too large.
        OSError: if it cannot be read.
    """
    try:
        text = files.read(path, limit=FILE_LIMIT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{printable(path)} is not TOML: it is not in UTF-8") from error
    return parse_toml(text, printable(path))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises:
        ValueError: for text that is not TOML, or holds what no recipe can, as a date.
    """
    try:
        if DEEP_KEY.search(text):
            raise RecursionError
        tables = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(
            f"{source} is not read: its lists or tables are nested too deep"
        ) from error
    except ValueError as error:  # an integer of thousands of digits too
        raise ValueError(f"{source} is not TOML: {printable(error)}") from error
    try:
        return plain(tables, "")
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
