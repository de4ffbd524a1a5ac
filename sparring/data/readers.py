"""Files to arrays: IDX, CIFAR (pickle, binary, packed), npz, csv, svmlight, folders of images. None runs code."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


def raw(path: Path) -> bytes:
    """The bytes of a file, gunzipped if it is gzip.

    Raises:
        ValueError: if the archive is truncated or damaged.
    """
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, ValueError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise ValueError(f"{path.name} is truncated or damaged ({error}): delete it and get it again") from None


def idx(path: Path) -> np.ndarray:
    """An IDX array of unsigned bytes (MNIST's format), plain or gzipped.

    Raises:
        ValueError: for another format, or if bytes are missing.
    """
    content = raw(path)
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path.name} is not an IDX file of unsigned bytes")
    dims = content[3]
    shape = tuple(np.frombuffer(content, ">i4", dims, 4).tolist()) if len(content) >= 4 + 4 * dims else ()
    size = int(np.prod(shape)) if shape else -1
    if size != len(content) - 4 - 4 * dims:
        raise ValueError(f"{path.name} is truncated: {len(content)} bytes do not hold {shape}")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape(shape).copy()


class _OnlyArrays(pickle.Unpickler):
    """Builds numpy arrays and builtins of plain data; anything else a pickle names is refused."""

    allowed = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise ValueError(f"this pickle wants to load {module}.{name}: refused, only plain arrays are read")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def cifar_pickle(path: Path) -> dict[str, Any]:
    """A python batch of CIFAR: keys as text, `data` uint8 `(n, 3072)`. Read by a restricted unpickler."""
    try:
        content = _OnlyArrays(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError) as error:
        raise ValueError(f"{path.name} is truncated or no CIFAR batch ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is no CIFAR batch: it holds a {type(content).__name__}")
    return {k.decode() if isinstance(k, bytes) else str(k): v for k, v in content.items()}


def cifar_binary(path: Path, labels: int = 1) -> Arrays:
    """A binary batch of CIFAR: `labels` bytes (the last counts), then 3,072 pixels a row."""
    rows = np.frombuffer(path.read_bytes(), np.uint8)
    if len(rows) % (3072 + labels):
        raise ValueError(f"{path.name} is truncated: {len(rows)} bytes are no multiple of {3072 + labels}")
    rows = rows.reshape(-1, 3072 + labels)
    return rows[:, labels:].reshape(-1, 3, 32, 32).copy(), rows[:, labels - 1].astype(np.int64)


def mosaic(path: Path, size: int = 32, across: int = 100) -> np.ndarray:
    """A lossless picture of `across`² tiles, row by row: uint8 `(across², 3, size, size)`."""
    a = image(path, "RGB")
    if a.shape != (across * size, across * size, 3):
        raise ValueError(f"{path.name} is {a.shape}, not a mosaic of {across} × {across} tiles of {size} × {size}")
    tiles = a.reshape(across, size, across, size, 3).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(tiles.reshape(across * across, 3, size, size))


def image(path: Path, mode: str | None = None) -> np.ndarray:
    """One picture, uint8 `(h, w)` or `(h, w, 3)`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert(mode or ("L" if picture.mode in ("1", "L", "I;16") else "RGB")))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path.name} is truncated or no picture ({error})") from None


def npz(path: Path) -> dict[str, np.ndarray]:
    """Every array of an npz archive; objects are refused."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {k: archive[k] for k in archive.files}
    except (zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
        raise ValueError(f"{path.name} is truncated or no plain npz ({error})") from None


def csv(path: Path, label: str | None = None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A csv (or csv.gz) with a header: features float32, the label column (the last by default) as text, class names."""
    lines = raw(path).decode("utf-8", errors="replace").splitlines()
    if len(lines) < 2:
        raise ValueError(f"{path.name} has no rows below its header")
    header = [h.strip().strip('"') for h in lines[0].split(",")]
    if label is not None and label not in header:
        raise ValueError(f"label = {label!r} is no column of {path.name}; it has {', '.join(header[:10])} …")
    column = header.index(label) if label else len(header) - 1
    rows = [line.split(",") for line in lines[1:] if line.strip()]
    bad = next((k for k, row in enumerate(rows) if len(row) != len(header)), None)
    if bad is not None:
        raise ValueError(f"{path.name}, line {bad + 2}: {len(rows[bad])} cells, the header has {len(header)}")
    text = [row.pop(column).strip().strip('"') for row in rows]
    try:
        x = np.array(rows, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"{path.name} has a cell that is no number: {error}") from None
    names = sorted(set(text), key=lambda t: (not t.lstrip("-").isdigit(), int(t) if t.lstrip("-").isdigit() else 0, t))
    return x, np.array([names.index(t) for t in text], dtype=np.int64), names


def svmlight(path: Path) -> Arrays:
    """A svmlight/libsvm file: dense float32 features and integer labels 0..k-1."""
    from sklearn.datasets import load_svmlight_file

    try:
        x, y = load_svmlight_file(str(path))[:2]
    except ValueError as error:
        raise ValueError(f"{path.name} is no svmlight file: {error}") from None
    return np.asarray(x.todense(), dtype=np.float32), np.unique(y, return_inverse=True)[1].astype(np.int64)


def folder(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A folder of pictures a class, all of one size: uint8 `(n, c, h, w)`."""
    names = sorted(p.name for p in path.iterdir() if p.is_dir())
    if not names:
        raise ValueError(f"{path} has no folder a class in it")
    pictures, labels = [], []
    for k, name in enumerate(names):
        for file in sorted(f for f in (path / name).iterdir() if f.suffix.lower() in IMAGES):
            pictures.append(image(file))
            labels.append(k)
            if pictures[-1].shape != pictures[0].shape:
                raise ValueError(f"{name}/{file.name} is {pictures[-1].shape}, the others {pictures[0].shape}")
    if not pictures:
        raise ValueError(f"{path} has no pictures ({', '.join(sorted(IMAGES))}) in its class folders")
    x = np.stack(pictures)
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x), np.array(labels, dtype=np.int64), names


SVMLIGHT = (".svm", ".libsvm", ".svmlight")
