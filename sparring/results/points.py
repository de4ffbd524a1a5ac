"""Store the worst point of every sample, in 1, 2 or 4 bytes a number, and give them back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..component import require
from ..runtime import files

SHOWN_ONLY = "shown"
KEEP = (SHOWN_ONLY, "all", "uint8", "float16", "float32")
ARRAYS = ("x_adv", "x_adv_norm")
TYPES = ("uint8", "float16", "float32")
ROUNDING = 1e-6  # x + 8/255 in float32 is a rounding off k/255
SUFFIXES = (".pt", ".npy")


def encode(x_adv: np.ndarray, x: np.ndarray, kind: str) -> np.ndarray:
    """Return points `(n, *d)` as `"uint8"` (levels of 255), `"float16"` or `"float32"`.

    A number is rounded to the nearest, unless that is further from x than the point itself: then
    towards x, so that a point of a ball stays in it.

    >>> encode(np.array([[0.5, 1.0]], np.float32), np.zeros((1, 2), np.float32), "uint8")
    array([[127, 255]], dtype=uint8)
    """
    if kind == "float32":
        return x_adv.astype(np.float32)
    levels = np.float32(255 if kind == "uint8" else 1)
    scaled = levels * x_adv
    if kind == "uint8":
        nearest, back = np.rint(scaled), np.where(x_adv > x, np.floor(scaled), np.ceil(scaled))
    else:
        nearest = x_adv.astype(np.float16)
        back = np.nextafter(nearest, x.astype(np.float16))
    moved = np.abs(nearest.astype(np.float32) / levels - x)
    out = np.where(moved > np.abs(x_adv - x) + ROUNDING, back, nearest)
    return out.clip(0, 255).astype(np.uint8) if kind == "uint8" else out


def decode(stored: np.ndarray) -> np.ndarray:
    """Return stored points as float32 `(n, *d)`; levels become multiples of 1/255."""
    points = stored.astype(np.float32)
    return points / np.float32(255) if stored.dtype == np.uint8 else points


def is_on_grid(x_adv: np.ndarray) -> bool:
    """Return whether all points are multiples of 1/255 in [0, 1], up to rounding."""
    return bool((np.abs(decode(encode(x_adv, x_adv, "uint8")) - x_adv) <= ROUNDING).all())


def of_arrays(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the points among the arrays of a result, as `decode` does.

    Raises:
        ValueError: if the result has none.
    """
    if ARRAYS[0] not in arrays:
        raise ValueError(
            "the result has the points of the shown samples only: evaluate with keep='all' "
            "(--keep all) for those of all samples"
        )
    return decode(arrays[ARRAYS[0]])


def check_file(path: str | Path) -> Path:
    """Return the path of a file of points; raise `ValueError` for another suffix."""
    path = Path(path)
    require(path.suffix in SUFFIXES, "points", str(path), "the name of a .pt or .npy file")
    return path


def write(points: np.ndarray, path: str | Path) -> Path:
    """Write points `(n, *d)` as one float32 tensor (`.pt`) or array (`.npy`), whole or not at all.

    `torch.load(path, weights_only=True)` and `np.load(path)` read them.
    """
    path, file = check_file(path), io.BytesIO()
    if path.suffix == ".pt":
        import torch

        torch.save(torch.from_numpy(np.ascontiguousarray(points)), file)
    else:
        np.save(file, points)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, file.getvalue())
    return path
