"""The forms of CIFAR: python batches by a restricted unpickler, binary batches, packed mosaics."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from .readers import Arrays, picture, verify

ROW = 3 * 32 * 32


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """`_codecs.encode` for the one encoding that pickled arrays use."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it wants the codec {encoding}")
    return text.encode("latin1")


def _from_buffer(content: Any, dtype: np.dtype, shape: tuple[int, ...], order: Any) -> np.ndarray:
    """How protocol 5 rebuilds an array."""
    return np.frombuffer(content, dtype).reshape(shape, order=order)


class _OnlyArrays(pickle.Unpickler):
    """Builds containers, text, numbers and arrays; whatever else a pickle names is refused."""

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


def unpickled(path: Path, checksum: str | None = None) -> dict[str, Any]:
    """A pickled dictionary of plain data, its keys as text; nothing in it can run code.

    Raises:
        ValueError: if it is truncated, another format, names anything but arrays, or has another
            checksum.
    """
    content = path.read_bytes()
    if checksum:
        verify(path, content, checksum)
    try:
        held = _OnlyArrays(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"{path} is truncated or no CIFAR batch: {error}") from None
    if not isinstance(held, dict):
        raise ValueError(f"{path} is no CIFAR batch: it holds a {type(held).__name__}")
    return {k.decode() if isinstance(k, bytes) else str(k): v for k, v in held.items()}


def python(path: Path, labels: str = "labels", checksum: str | None = None) -> Arrays:
    """A python batch: its `data (n, 3072)` as uint8 `(n, 3, 32, 32)`, and a list of labels."""
    held = unpickled(path, checksum)
    if not {"data", labels} <= set(held):
        there = ", ".join(held)
        raise ValueError(f"{path} is no CIFAR batch: it has {there}, not data and {labels}")
    x, y = np.asarray(held["data"]), np.asarray(held[labels])
    if x.dtype != np.uint8 or x.shape != (len(y), ROW):
        raise ValueError(f"{path} is no CIFAR batch: its data are {x.dtype} {x.shape}")
    return x.reshape(-1, 3, 32, 32), y.astype(np.int64)


def binary(path: Path, labels: int = 1) -> Arrays:
    """A binary batch: `labels` bytes (the last one counts), then 3,072 pixels a row."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    if not len(content) or len(content) % (labels + ROW):
        raise ValueError(
            f"{path} is truncated: {len(content):,} bytes are no whole rows of {labels + ROW:,}"
        )
    rows = content.reshape(-1, labels + ROW)
    return rows[:, labels:].reshape(-1, 3, 32, 32).copy(), rows[:, labels - 1].astype(np.int64)


def mosaic(path: Path, size: int = 32) -> np.ndarray:
    """A lossless picture of tiles, row by row, to uint8 `(tiles, 3, size, size)`."""
    a = picture(path, "RGB")
    down, right = a.shape[1] // size, a.shape[2] // size
    if a.shape != (3, down * size, right * size):
        raise ValueError(f"{path} is {a.shape[1]} × {a.shape[2]}, no mosaic of {size} × {size}")
    tiles = a.reshape(3, down, size, right, size).transpose(1, 3, 0, 2, 4)
    return np.ascontiguousarray(tiles.reshape(down * right, 3, size, size))
