"""Read files into arrays: IDX, npz, csv, svmlight, MATLAB, pictures. No file can run code."""

from __future__ import annotations

import csv as text_csv
import gzip
import hashlib
import importlib
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


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
    """Read the bytes of a file, unpacked if it is gzip.

    Raises:
        ValueError: if the archive is truncated or damaged.
    """
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}); get it again") from None


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
    size = int(np.prod(shape, dtype=np.float64))  # a damaged header would overflow int64
    if len(content) != start + size:
        what = f"{len(content):,} bytes, its header says {start + size:,}"
        raise ValueError(f"{path} is truncated or damaged: {what}")
    verify(path, content, checksum)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def npz(path: Path) -> dict[str, np.ndarray]:
    """Read every array of an npz archive; refuse pickled objects."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, AttributeError) as error:
        raise ValueError(f"{path} is truncated, or not an npz of plain arrays ({error})") from None


def _numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _class_order(name: str) -> tuple[bool, float, str]:
    return (False, float(name), name) if _numeric(name) else (True, 0.0, name)


def encode(labels: list[str]) -> tuple[np.ndarray, list[str]]:
    """Map labels as text to 0..k-1; return them and the class names: numbers in order, then words.

    >>> encode(["10", "9", "10"])
    (array([1, 0, 1]), ['9', '10'])
    """
    names = sorted(set(labels), key=_class_order)
    number = {name: k for k, name in enumerate(names)}
    return np.array([number[label] for label in labels], dtype=np.int64), names


def csv(
    path: Path, label: str | None = None
) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Read a csv or csv.gz; return features float32 `(n, d)`, labels, class and feature names.

    Arguments:
        label: the column of labels by its name in the header; default: the last one. A first row of
            numbers only is data, not a header.

    Raises:
        ValueError: for no rows, a row of another length, an unknown column, a cell of no number.
    """
    lines = [s for s in read_bytes(path).decode("utf-8-sig", "replace").splitlines() if s.strip()]
    first = next(text_csv.reader(lines[:1]), [])
    header = [] if all(map(_numeric, first)) else [name.strip() for name in first]
    if label is not None and label not in header:
        has = ", ".join(header[:12]) + (", …" if len(header) > 12 else "") or "no header"
        raise ValueError(f"label = {label!r} is not a column of {path.name}; it has {has}")
    rows = lines[bool(header) :]
    if not rows or len(first) < 2:
        raise ValueError(f"{path.name} has no rows of features and a label")
    column = header.index(label) if label is not None else len(first) - 1
    labels = []
    for k, row in enumerate(text_csv.reader(rows), start=1 + bool(header)):
        if len(row) != len(first):
            raise ValueError(f"{path.name}, row {k}: {len(row)} cells, the first has {len(first)}")
        labels.append(row[column].strip())
    features = [k for k in range(len(first)) if k != column]
    try:
        x = np.loadtxt(
            rows, np.float32, delimiter=",", usecols=features, quotechar='"', comments=None, ndmin=2
        )
    except ValueError as error:
        message = f"{path.name}, below its header: a feature is not a number: {error}"
        raise ValueError(message) from None
    return x, *encode(labels), [header[k] for k in features] if header else []


def svmlight(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read a svmlight or libsvm file, also gzipped: float32 features, labels, class names."""
    read = require_package("sklearn.datasets", "scikit-learn").load_svmlight_file
    try:
        x, y = read(io.BytesIO(read_bytes(path)), dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"{path} is truncated, or not a svmlight file: {error}") from None
    return x.toarray(), *encode([f"{v:g}" for v in y])


def mat(path: Path, checksum: str | None = None) -> Arrays:
    """Read SVHN's cropped digits: `X (32, 32, 3, n)` and `y (n, 1)`, where 10 is the digit 0."""
    content = path.read_bytes()
    verify(path, content, checksum)
    try:
        arrays = require_package("scipy.io", "scipy").loadmat(io.BytesIO(content))
        x, y = arrays["X"].transpose(3, 2, 0, 1), arrays["y"][:, 0].astype(np.int64) % 10
    except (ValueError, TypeError, KeyError, IndexError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is truncated, or not SVHN's format ({error})") from None
    return np.ascontiguousarray(x), y


def picture(path: Path, mode: str | None = None) -> np.ndarray:
    """Read a picture as uint8 `(1, h, w)` or `(3, h, w)`; default `mode`: the file's."""
    pillow = require_package("PIL.Image", "pillow")
    try:
        with pillow.open(path) as opened:
            if opened.mode.startswith(("I", "F")):
                raise ValueError(f"its pixels are {opened.mode}, more than 8 bits")
            grey = opened.mode in ("1", "L", "LA")
            a = np.asarray(opened.convert(mode or ("L" if grey else "RGB")))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is truncated or not a picture of 8 bits ({error})") from None
    return a[None] if a.ndim == 2 else a.transpose(2, 0, 1)


def folder(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read a folder of pictures per class; return uint8 `(n, c, h, w)`, labels and class names.

    All pictures must have one size; all are read in colour if one is.
    """
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and p.name[0] not in "._")
    if not names:
        wanted = "folder of pictures per class, nor another format that can be read"
        raise ValueError(f"{path} has no {wanted}")
    pictures, labels = [], []
    for k, name in enumerate(names):
        files = sorted(f for f in (path / name).iterdir() if f.suffix.lower() in PICTURES)
        if not files:
            raise ValueError(f"{path / name} has no picture ({' '.join(PICTURES)})")
        for file in files:
            pictures.append(picture(file))
            labels.append(k)
            if pictures[-1].shape[1:] != pictures[0].shape[1:]:
                size, others = ("{1} × {2}".format(*p.shape) for p in (pictures[-1], pictures[0]))
                raise ValueError(f"{file} is {size}, the pictures before it {others}")
    shape = (max(len(p) for p in pictures), *pictures[0].shape[1:])
    x = np.stack([np.broadcast_to(p, shape) for p in pictures])  # a grey one over the colours
    return x, np.array(labels, dtype=np.int64), names
