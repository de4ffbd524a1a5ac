"""Pack the arrays of a result into an `.npz`, whole or stripped of pictures."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from ..component import require
from ..runtime.npz import read_npz
from ..runtime.text import printable
from . import points
from .detection import Roc, roc, score_versions
from .records import LIMIT_KEY, size_limit

Arrays = dict[str, np.ndarray]
SURFACE = ("surface", "surface_at")
UNPACKED_LIMIT = 8 << 30  # bytes
SCORES = ("clean_score", "adv_score")


def pack(arrays: Arrays) -> bytes:
    """Return arrays as the content of an `.npz`, compressed."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def unpack(path: Path, packed: bytes, digest: str) -> Arrays:
    """Return the arrays in the content of an `.npz` whose SHA-256 is `digest`.

    Raises:
        ValueError: if it is damaged, too large, or belongs to another result.
    """
    if hashlib.sha256(packed).hexdigest() != digest:
        raise ValueError(
            f"{printable(path)} does not belong to the result beside it, or is damaged: evaluate "
            "again"
        )
    return read_npz(packed, path, limit=size_limit(UNPACKED_LIMIT), key=LIMIT_KEY)


def without_pictures(arrays: Arrays) -> Arrays:
    """Return arrays without sample pictures and loss surface, and with ROC curves for scores."""
    left_out = (*SURFACE, *points.ARRAYS)
    kept = {k: v for k, v in arrays.items() if not k.startswith("show_") and k not in left_out}
    if curves := roc_curves(arrays):
        y, kept = arrays["y"], {k: v for k, v in kept.items() if k not in SCORES}
        sizes = np.array([[(y == 0).sum()], [(y == 1).sum()]])
        for k, curve in enumerate(curves):
            kept[f"roc_{k}"] = np.rint(np.stack(curve[:2]) * sizes).astype(np.int64)
    return kept


def roc_curves(arrays: Arrays) -> list[Roc]:
    """Return the corners of the ROC curves clean, with positives attacked, and all attacked.

    They come from scores, or from a stripped result's counts, which have no thresholds. Without
    either, or of a single class, the list is empty.
    """
    y = arrays.get("y")
    if y is None or len(np.unique(y)) < 2:
        return []
    if set(SCORES) <= arrays.keys():
        return [roc(s, y, corners=True) for s in score_versions(y, *(arrays[k] for k in SCORES))]
    counts = [arrays[f"roc_{k}"] for k in range(3) if f"roc_{k}" in arrays]
    negatives, positives = (y == 0).sum(), (y == 1).sum()
    return [Roc(fp / negatives, tp / positives, np.full(len(fp), np.nan)) for fp, tp in counts]


def shrink(arrays: Arrays) -> Arrays:
    """Encode arrays for a stripped file: differences, in the smallest integer type.

    Rising rows of a data set differ by little, and most predictions equal the label: so `index`
    is saved as `index_step`, `clean_pred` as `clean_change` and `adv_pred` as `adv_change`.

    >>> shrink({"index": np.array([5, 6, 7])})
    {'index_step': array([5, 1, 1], dtype=int8)}
    """
    small = dict(arrays)
    if "index" in small:
        small["index_step"] = np.diff(small.pop("index"), prepend=0)
    if {"y", "clean_pred", "adv_pred"} <= small.keys():
        clean = small.pop("clean_pred")
        small["adv_change"] = small.pop("adv_pred") - clean
        small["clean_change"] = clean - small["y"]
    return {name: _narrow(values) for name, values in small.items()}


def grow(arrays: Arrays) -> Arrays:
    """Undo `shrink`: integers are int64 again, and differences are summed.

    Raises:
        ValueError: for differences without what they differ from.
    """
    large = {k: v.astype(np.int64) if v.dtype.kind in "iu" else v for k, v in arrays.items()}
    if "index_step" in large:
        large["index"] = np.cumsum(large.pop("index_step"))
    changes = {"y", "clean_change", "adv_change"}
    some, whole = (changes - {"y"}) & large.keys(), changes <= large.keys()
    require(whole or not some, "arrays", sorted(some), f"with {', '.join(sorted(changes))}")
    if "clean_change" in large:
        large["clean_pred"] = large["y"] + large.pop("clean_change")
        large["adv_pred"] = large["clean_pred"] + large.pop("adv_change")
    return large


def _narrow(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "iu" or not values.size:
        return values
    low, high = int(values.min()), int(values.max())
    wide_enough = [t for t in (np.int8, np.int16, np.int32) if np.iinfo(t).min <= low]
    return values.astype(next((t for t in wide_enough if high <= np.iinfo(t).max), np.int64))
