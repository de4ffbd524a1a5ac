"""Take paths and the name of the machine out of records that leave it."""

from __future__ import annotations

import platform
import re
from typing import Any

# A path from the root, the home folder or a drive: not the slash of "8/255" or "and/or".
PATH = re.compile(r"(?<![\w.\])/\\])(?:~|[A-Za-z]:)?(?:[/\\][^/\\\s'\",;:()<>|]+)+")
UP = re.compile(r"(?<![\w.])(?:\.\.?[/\\])+(?:[^/\\\s'\",;:()<>|]+[/\\])*")
# A folder's name may have a space: the text is one path, or a path is in quotation marks.
ROOT = r"(?:~|[A-Za-z]:|\.\.?)?[/\\]"
WHOLE = re.compile(rf"(?!.*\s{ROOT}){ROOT}[^'\"\n]*")
QUOTED = re.compile(rf"(?<=['\"]){ROOT}[^'\"\n]*(?=['\"])")
LEAST_HOST = 4  # letters: a shorter name of a machine may be a word


def without_paths(text: str) -> str:
    """Return text in which a path is its last name, and the machine's name is "host".

    >>> without_paths("mine.npz was read from '/home/ada/data/mine.npz', eps 8/255")
    "mine.npz was read from 'mine.npz', eps 8/255"
    >>> without_paths("../secret/mine.npz and C:\\\\Users\\\\ada\\\\net.pt")
    'mine.npz and net.pt'
    """
    text = _last_name(text) if WHOLE.fullmatch(text) else text
    for pattern in (QUOTED, PATH):
        text = pattern.sub(lambda match: _last_name(match[0]), text)
    text = UP.sub("", text)
    host = platform.node()
    return text.replace(host, "host") if len(host) >= LEAST_HOST else text


def _last_name(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


def anonymous(value: Any) -> Any:
    """Return nested tables and lists with the texts in them as `without_paths` gives them."""
    if isinstance(value, dict):
        return {anonymous(key): anonymous(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [anonymous(inner) for inner in value]
    return without_paths(value) if isinstance(value, str) else value
