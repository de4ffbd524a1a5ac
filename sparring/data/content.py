"""Bytes of foreign files: bounded, unpacked, verified; and the packages that some formats need."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np

from . import limits

Arrays = tuple[np.ndarray, np.ndarray]
GZIP = b"\x1f\x8b"
SHOWN = 60  # letters of a foreign name or cell that a message shows
REASON = 200  # and of a library's own message


def require_package(module: str, package: str) -> Any:
    """Import and return a third-party module that only some data need.

    Raises:
        ImportError: if it is missing; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"this kind of data needs {package}: pip install {package} ({error})"
        raise ImportError(message) from None


def verify(path: Path, content: bytes, checksum: str | None) -> None:
    """Raise `ValueError` unless the content has the checksum, `"md5:…"`, `"sha256:…"` or None."""
    if checksum is None:
        return
    kind, expected = checksum.split(":")
    if (actual := hashlib.new(kind, content).hexdigest()) != expected:
        what = f"its {kind} is {actual}, expected {expected}"
        raise ValueError(f"{path} is damaged or another file: {what}; delete it and get it again")


def read_bytes(path: Path) -> bytes:
    """Read the bytes of a regular file, unpacked if it is gzip.

    Raises:
        ValueError: if the archive is truncated or damaged, or has more than `limits.max_bytes()`.
        OSError: if it cannot be read.
    """
    content = limits.read(path)
    return limits.gunzip(path, content) if content[:2] == GZIP else content


def shorten(value: object) -> str:
    """Return the `repr` of a foreign value, short enough for a message.

    >>> shorten("a"), len(shorten("a" * 1000))
    ("'a'", 61)
    """
    text = repr(value[: SHOWN + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= SHOWN + 2 else text[:SHOWN] + "…"


def reason(error: BaseException) -> str:
    """Return what a library says of a foreign file, in one short line.

    >>> reason(ValueError("a\\nb")), len(reason(ValueError("a" * 1000)))
    ('a', 201)
    """
    text = (str(error).splitlines() or [""])[0] or type(error).__name__
    return text if len(text) <= REASON else text[:REASON] + "…"
