"""Limits on what foreign data may make of memory; a variable of the environment raises each."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from ..runtime import files

BYTES, CLASSES = "SPARRING_MAX_BYTES", "SPARRING_MAX_CLASSES"
FEATURES, PIXELS = "SPARRING_MAX_FEATURES", "SPARRING_MAX_PIXELS"
CACHE = "SPARRING_CACHE_BYTES"
DEFAULTS = {BYTES: 8 * 2**30, CLASSES: 100_000, FEATURES: 1_000_000, PIXELS: 100_000_000}
DEFAULTS |= {CACHE: 16 * 2**30}


def max_bytes() -> int:
    """Return how many bytes one file, archive member, download or array may have: 8 GiB.

    `SPARRING_MAX_BYTES` in the environment sets another number.
    """
    return _limit(BYTES)


def max_classes() -> int:
    """Return how many classes labels may have: 100,000.

    `SPARRING_MAX_CLASSES` in the environment sets another number.
    """
    return _limit(CLASSES)


def max_cache_bytes() -> int:
    """Return how many bytes the cache of fitted pictures may take: 16 GiB.

    `SPARRING_CACHE_BYTES` in the environment sets another number.
    """
    return _limit(CACHE)


def check_bytes(what: str, size: int) -> None:
    """Raise `ValueError` if `what` has more than `max_bytes()`.

    >>> check_bytes("d.npz", 2**40)
    Traceback (most recent call last):
    ValueError: d.npz has 1,099,511,627,776 bytes: at most 8,589,934,592 are read; ...
    """
    if size > (limit := max_bytes()):
        count = f"{size:,}" if size < 10**30 else "more than 10^30"
        raise ValueError(f"{what} has {count} bytes: at most {limit:,} are read; {how(BYTES)}")


def check_shape(what: str, shape: Sequence[int], itemsize: int) -> int:
    """Return the bytes of an array of this shape.

    Raises:
        ValueError: for a size that is negative or no integer, or more than `max_bytes()`.

    >>> check_shape("x", (2, 3), 4)
    24
    """
    size = itemsize
    for n in shape:
        if type(n) is not int or n < 0:
            raise ValueError(
                f"{what} has a shape that no array has: its sizes must be integers ≥ 0"
            )
        size *= n
        # at each factor, since a product of many long ones would take minutes; a later 0 is refused
        check_bytes(what, size)
    return size


def check_classes(what: str, count: int) -> None:
    """Raise `ValueError` if labels make more than `max_classes()` classes.

    >>> check_classes("d.npz train", 2**62)
    Traceback (most recent call last):
    ValueError: d.npz train has labels up to 4611686018427387903, ... at most 100,000 ...
    """
    if count > (limit := max_classes()):
        classes = f"so {count:,} classes: at most {limit:,} are allowed"
        raise ValueError(f"{what} has labels up to {count - 1}, {classes}; {how(CLASSES)}")


def check_features(what: str, count: int) -> None:
    """Raise `ValueError` if a table is wider than a million; `SPARRING_MAX_FEATURES` sets another.

    >>> check_features("d.svm", 10**9)
    Traceback (most recent call last):
    ValueError: d.svm has 1,000,000,000 features: at most 1,000,000 are read; ...
    """
    if count > (limit := _limit(FEATURES)):
        raise ValueError(
            f"{what} has {count:,} features: at most {limit:,} are read; {how(FEATURES)}"
        )


def check_pixels(what: str, width: int, height: int) -> None:
    """Raise `ValueError` if a picture has over 100 million; `SPARRING_MAX_PIXELS` sets another.

    >>> check_pixels("a.png", 50_000, 50_000)
    Traceback (most recent call last):
    ValueError: a.png is 50000 × 50000 pixels: at most 100,000,000 are read; ...
    """
    if width * height > (limit := _limit(PIXELS)):
        size = f"{height} × {width} pixels"
        raise ValueError(f"{what} is {size}: at most {limit:,} are read; {how(PIXELS)}")


def read(path: str | Path) -> bytes:
    """Return the bytes of a regular file of at most `max_bytes()`.

    Raises:
        ValueError: for a larger file, or a pipe, device or socket.
        OSError: if it cannot be read.
    """
    return files.read(path, limit=max_bytes(), key=BYTES)


def gunzip(path: str | Path, content: bytes) -> bytes:
    """Return unpacked gzip of at most `max_bytes()`; `path` is for messages.

    Raises:
        ValueError: for a truncated or damaged archive, or one that unpacks to more.
    """
    limit = max_bytes()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            parts, size = [], 0
            while size <= limit and (part := file.read(2**20)):  # a larger part is taken at once
                parts.append(part)
                size += len(part)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}); get it again") from None
    if size > limit:
        more = f"unpacks to more than {limit:,} bytes, the most that is read"
        raise ValueError(f"{path} {more}; {how(BYTES)}")
    return b"".join(parts)


def how(variable: str) -> str:
    """Return the words that say how to raise a limit."""
    return f"{variable} in the environment raises the limit"


def _limit(variable: str) -> int:
    value = os.environ.get(variable, "").strip()
    if not value:
        return DEFAULTS[variable]
    try:
        limit = int(float(value)) if not value.isdecimal() else int(value)
    except (ValueError, OverflowError):
        limit = 0
    if limit < 1:
        short = value if len(value) <= 40 else value[:40] + "…"
        raise ValueError(f"{variable} = {short!r} is not allowed: it must be a number ≥ 1")
    return limit
