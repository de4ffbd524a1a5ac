"""Read files into arrays: IDX, npz, csv, svmlight, MATLAB, pictures. No file can run code."""

from __future__ import annotations

import io
import math
import zlib
from pathlib import Path

import numpy as np

from . import limits, matlab
from .archives import npz
from .content import Arrays, read_bytes, reason, require_package, shorten, verify
from .csv_table import csv, encode
from .pictures import PICTURES, folder, picture

__all__ = ["PICTURES", "Arrays", "csv", "encode", "folder", "idx", "mat", "npz", "picture"]
__all__ += ["read_bytes", "require_package", "svmlight", "verify"]


def idx(path: Path, checksum: str | None = None) -> np.ndarray:
    """Read an IDX array of unsigned bytes (MNIST's format), plain or gzipped.

    Arguments:
        checksum: of the unpacked bytes, so that it applies to both.

    Raises:
        ValueError: for another format, missing bytes or another checksum.
    """
    content = read_bytes(path)
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or not content[3]:
        raise ValueError(f"{path} is not an IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start].ljust(start - 4, b"\0"), ">u4").tolist())
    size = math.prod(shape)
    if len(content) != start + size or len(shape) > 8:
        claim = f"{start + size:,}" if size < 10**30 else "more than 10^30"
        what = f"{len(content):,} bytes, its header says {claim} in {len(shape)} dimensions"
        raise ValueError(f"{path} is truncated or damaged: {what}")
    verify(path, content, checksum)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def svmlight(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read a svmlight or libsvm file, also gzipped: float32 features, labels, class names.

    Indices count from 1, or from 0 if one is 0.

    Raises:
        ValueError: for another format, a value or label that is no finite number, an empty file, or
            more features than the limits allow.
    """
    read = require_package("sklearn.datasets", "scikit-learn").load_svmlight_file
    content = read_bytes(path)
    try:
        x, y = read(io.BytesIO(content), dtype=np.float32)
    except (ValueError, OverflowError, TypeError, IndexError) as error:
        why = _wrong_token(content) or reason(error)
        raise ValueError(f"{path} is truncated, or not a svmlight file: {why}") from None
    rows, width = x.shape
    if not rows or not width or not len(x.data):
        raise ValueError(f"{path} has no rows of features and a label")
    limits.check_features(f"{path}, by its largest index,", width)
    limits.check_shape(f"{path} as a table of {rows:,} × {width:,}", x.shape, 4)
    if not np.isfinite(x.data).all():
        k = int(np.flatnonzero(~np.isfinite(x.data))[0])
        row = int(np.searchsorted(x.indptr, k, side="right"))
        raise ValueError(f"{path}, row {row}: a feature is {x.data[k]}, no finite number")
    if not np.isfinite(y).all():
        row = int(np.flatnonzero(~np.isfinite(y))[0])
        raise ValueError(f"{path}, row {row + 1}: the label is {y[row]}, no finite number")
    labels, names = encode([str(int(v)) if v.is_integer() else repr(v) for v in y.tolist()])
    limits.check_classes(str(path), len(names))
    return x.toarray(), labels, names


def _wrong_token(content: bytes) -> str:
    """Return a sentence about the first token that is no label and no INDEX:VALUE; "" if none."""
    for row, line in enumerate(content.split(b"\n"), 1):
        label, *features = line.partition(b"#")[0].split() or [b"0"]
        if not _is(float, label):
            return f"row {row}: the label {shorten(label.decode('latin-1'))} is no number"
        for token in features:
            index, colon, value = token.partition(b":")
            if not (colon and (index == b"qid" or _is(int, index)) and _is(float, value)):
                what = shorten(token.decode("latin-1"))
                return f"row {row}: {what} is not INDEX:VALUE, an integer and a number"
    return ""


def _is(kind: type[int] | type[float], text: bytes) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def mat(path: Path, checksum: str | None = None) -> Arrays:
    """Read SVHN's cropped digits: `X (32, 32, 3, n)` and `y (n, 1)`, where 10 is the digit 0.

    Raises:
        ValueError: for another format, missing bytes or another checksum.
    """
    content = limits.read(path)
    verify(path, content, checksum)
    try:
        arrays = matlab.read_arrays(content, ("X", "y"))
        x, y = arrays["X"], arrays["y"]
        if x.dtype != np.uint8 or x.shape[:3] != (32, 32, 3) or y.shape != (*x.shape[3:], 1):
            raise ValueError(f"X is {x.dtype} {x.shape}, y {y.shape}")
        if not ((y == np.floor(y)) & (abs(y) < 2**31)).all():
            raise ValueError("y holds more than whole numbers")
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{path} is truncated, or not SVHN's format ({error})") from None
    return np.ascontiguousarray(x.transpose(3, 2, 0, 1)), y[:, 0].astype(np.int64) % 10
