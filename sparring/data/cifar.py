"""Read CIFAR's formats: python batches (by a restricted unpickler), binary batches, mosaics."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from .readers import Arrays, picture, verify

ROW = 3 * 32 * 32


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Encode as `_codecs.encode` does, for the one encoding that pickled arrays use."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it needs the codec {encoding}")
    return text.encode("latin1")


def _from_buffer(content: Any, dtype: np.dtype, shape: tuple[int, ...], order: Any) -> np.ndarray:
    """Rebuild an array as pickle protocol 5 does."""
    return np.frombuffer(content, dtype).reshape(shape, order=order)


class _OnlyArrays(pickle.Unpickler):
    """Unpickle containers, text, numbers and arrays; refuse all other names."""

    # numpy moved the module of this function: take it from an array of this numpy
    rebuild = staticmethod(np.empty(0).__reduce__()[0])  # type: ignore[index]
    allowed = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): rebuild,
        ("numpy._core.multiarray", "_reconstruct"): rebuild,
        ("numpy.core.numeric", "_frombuffer"): _from_buffer,
        ("numpy._core.numeric", "_frombuffer"): _from_buffer,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}; only plain arrays are read")
        return self.allowed[module, name]


def unpickle(path: Path, checksum: str | None = None) -> dict[str, Any]:
    """Read a pickled dictionary of plain data, its keys as text; nothing in it can run code.

    Raises:
        ValueError: if it is truncated, of another format or checksum, or names more than arrays.
    """
    content = path.read_bytes()
    verify(path, content, checksum)
    try:
        batch = _OnlyArrays(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"{path} is truncated or not a CIFAR batch: {error}") from None
    if not isinstance(batch, dict):
        raise ValueError(f"{path} is not a CIFAR batch: it holds a {type(batch).__name__}")
    return {k.decode() if isinstance(k, bytes) else str(k): v for k, v in batch.items()}


def python(path: Path, labels: str = "labels", checksum: str | None = None) -> Arrays:
    """Read a python batch: `data (n, 3072)` as uint8 `(n, 3, 32, 32)`, and the labels."""
    content = unpickle(path, checksum)
    if not {"data", labels} <= set(content):
        keys = ", ".join(content)
        raise ValueError(f"{path} is not a CIFAR batch: it has {keys}, not data and {labels}")
    x, y = (np.asarray(content[key]) for key in ("data", labels))
    if x.dtype != np.uint8 or x.shape != (len(y), ROW):
        raise ValueError(f"{path} is not a CIFAR batch: its data are {x.dtype} {x.shape}")
    return x.reshape(-1, 3, 32, 32), y.astype(np.int64)


def binary(path: Path, labels: int = 1) -> Arrays:
    """Read a binary batch: per row `labels` bytes (the last one counts), then 3,072 pixels."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
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
