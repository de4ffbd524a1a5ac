"""Read CIFAR's formats: python batches (pickles of plain data), binary batches, mosaics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..runtime import pickles
from . import limits
from .readers import Arrays, picture, verify

ROW = 3 * 32 * 32


def unpickle(path: Path, checksum: str | None = None) -> dict[str, Any]:
    """Read a pickled dictionary of plain data, its keys as text; nothing in it runs.

    Raises:
        ValueError: if it is truncated, of another format or checksum, or names more than arrays.
    """
    content = limits.read(path)
    verify(path, content, checksum)
    try:
        batch = pickles.load(content)
    except pickles.PickleError as error:
        raise ValueError(f"{path} is truncated or not a CIFAR batch: {error}") from None
    if not isinstance(batch, dict):
        raise ValueError(f"{path} is not a CIFAR batch: it holds a {type(batch).__name__}")
    return {k.decode("latin-1") if isinstance(k, bytes) else str(k): v for k, v in batch.items()}


def python(path: Path, labels: str = "labels", checksum: str | None = None) -> Arrays:
    """Read a python batch: `data (n, 3072)` as uint8 `(n, 3, 32, 32)`, and the labels."""
    content = unpickle(path, checksum)
    if not {"data", labels} <= set(content):
        keys = ", ".join(pickles.shown(k, 40) for k in list(content)[:12]) or "nothing"
        raise ValueError(f"{path} is not a CIFAR batch: it has {keys}, not data and {labels}")
    x, y = content["data"], _integers(path, labels, content[labels])
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.shape != (len(y), ROW):
        data = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
        raise ValueError(f"{path} is not a CIFAR batch: its data are {data}, labels are {len(y)}")
    return x.reshape(-1, 3, 32, 32).copy(), y  # the pickle's memory can't be written to


def _integers(path: Path, key: str, value: Any) -> np.ndarray:
    """Return labels, a flat list or an array `(n,)` of integers, as int64."""
    if isinstance(value, list | tuple) and all(type(v) is int for v in value):
        limits.check_classes(str(path), 1 + max(value, default=-1))
        value = np.array([max(v, -(2**62)) for v in value], np.int64)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu" or value.ndim != 1:
        shown = value.dtype if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise ValueError(f"{path}: {key} must be integers, one per row, not {shown}")
    limits.check_classes(str(path), 1 + int(value.max(initial=0)))
    return value.astype(np.int64)


def class_names(path: Path, key: str, checksum: str | None = None) -> list[str]:
    """Read the names of the classes in a file like CIFAR-100's `meta`; none if it has no `key`.

    Raises:
        ValueError: as `unpickle`, and unless they are a list of texts.
    """
    names = unpickle(path, checksum).get(key, [])
    if not isinstance(names, list) or not all(isinstance(n, str | bytes) for n in names):
        raise ValueError(f"{path}: {key} must be a list of texts, the names of the classes")
    return [n.decode("utf-8", "replace") if isinstance(n, bytes) else n for n in names]


def binary(path: Path, labels: int = 1) -> Arrays:
    """Read a binary batch: per row `labels` bytes (the last one counts), then 3,072 pixels."""
    content = np.frombuffer(limits.read(path), np.uint8)
    n, row = len(content), labels + ROW
    if not n or n % row:
        raise ValueError(f"{path} is truncated: {n:,} bytes are not whole rows of {row:,}")
    rows = content.reshape(-1, row)
    return rows[:, labels:].reshape(-1, 3, 32, 32).copy(), rows[:, labels - 1].astype(np.int64)


def mosaic(path: Path, size: int = 32) -> np.ndarray:
    """Read a lossless picture of tiles, row by row, as uint8 `(tiles, 3, size, size)`."""
    a = picture(path, "RGB")
    down, right = a.shape[1] // size, a.shape[2] // size
    if a.shape != (3, down * size, right * size):
        raise ValueError(f"{path} is {a.shape[1]} × {a.shape[2]}, not tiles of {size} × {size}")
    tiles = a.reshape(3, down, size, right, size).transpose(1, 3, 0, 2, 4)
    return np.ascontiguousarray(tiles.reshape(down * right, 3, size, size))
