"""Read arrays of numbers from MATLAB files of version 5. Every length is checked in Python.

scipy's reader trusts lengths in a damaged file, and may end the process.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from . import limits
from .content import shorten

START = 128  # bytes of text and version before the first element
VERSION = b"\x00\x01IM"  # 5, the lowest byte first
NAME, SIZES, FLAGS, MATRIX, PACKED = 1, 5, 6, 14, 15
KINDS = ["i1", "u1", "<i2", "<u2", "<i4", "<u4", "<f4", ".", "<f8", ".", ".", "<i8", "<u8"]
NUMBERS = {kind: name for kind, name in enumerate(KINDS, 1) if name != "."}
NUMERIC = range(6, 16)  # classes of arrays: double, single, and integers
COMPLEX = 0x0800


def read_arrays(content: bytes, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the arrays of these names, which must be real numbers.

    Raises:
        ValueError: for another format, missing bytes, an array that is missing or holds something
            else, or one of more than `limits.max_bytes()`.
    """
    if content[START - 4 : START] != VERSION:
        raise ValueError("no MATLAB file of version 5")
    arrays: dict[str, np.ndarray] = {}
    rest = memoryview(content)[START:]
    while rest and len(arrays) < len(names):
        kind, body, rest = _element(rest, padded=False)
        if kind == PACKED:
            kind, body, _ = _element(_unpack(body), padded=False)
        if kind != MATRIX:
            raise ValueError(f"an element of kind {kind}, where an array is expected")
        name, array = _matrix(body, names)
        if array is not None:
            arrays[name] = array
    if missing := [name for name in names if name not in arrays]:
        raise ValueError(f"no array {missing[0]}")
    return arrays


def _element(content: memoryview, *, padded: bool) -> tuple[int, memoryview, memoryview]:
    """Return kind and bytes of the first element, and what follows it."""
    if len(content) < 8:
        raise ValueError("it ends within an element")
    kind, size = (int(n) for n in np.frombuffer(content[:8], "<u4"))
    if kind >> 16:  # a small element: its size and bytes are in the eight
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise ValueError("a small element of more than 4 bytes")
        return kind, content[4 : 4 + size], content[8:]
    end = 8 + size
    if len(content) < end:
        raise ValueError(f"an element of {size:,} bytes, but only {len(content) - 8:,} follow")
    return kind, content[8:end], content[end + (-size % 8 if padded else 0) :]


def _unpack(packed: memoryview) -> memoryview:
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(packed, limits.max_bytes() + 1)
    limits.check_bytes("a packed element", len(content))
    if not unpacker.eof:
        raise ValueError("it ends within a packed element")
    return memoryview(content)


def _matrix(content: memoryview, names: Sequence[str]) -> tuple[str, np.ndarray | None]:
    """Return name and array of a matrix; None for the array if its name is not wanted."""
    parts = []
    for expected in (FLAGS, SIZES, NAME):
        kind, body, content = _element(content, padded=True)
        if kind != expected:
            raise ValueError(f"an element of kind {kind}, where {expected} is expected")
        parts.append(body)
    name = bytes(parts[2]).decode("latin-1")
    if name not in names:
        return name, None
    flags = int.from_bytes(parts[0][:4], "little")
    if flags & 0xFF not in NUMERIC or flags & COMPLEX:
        raise ValueError(f"{shorten(name)} holds no real numbers")
    if len(parts[1]) % 4:
        raise ValueError(f"{shorten(name)} has no sizes")
    shape = np.frombuffer(parts[1], "<i4").tolist()
    kind, body, _ = _element(content, padded=True)
    if kind not in NUMBERS or not 1 <= len(shape) <= 8 or min(shape) < 0:
        raise ValueError(f"{shorten(name)} has no array of numbers")
    if len(body) != math.prod(shape) * np.dtype(NUMBERS[kind]).itemsize:
        raise ValueError(f"{shorten(name)} of shape {tuple(shape)} has {len(body):,} bytes")
    return name, np.frombuffer(body, NUMBERS[kind]).reshape(shape, order="F")
