"""The user's own data by path: npz, csv, svmlight, and folders of pictures or of known files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..component import require
from . import readers
from .layouts import LAYOUTS, Raw

SVMLIGHT = (".svm", ".libsvm", ".svmlight")
SPELLINGS = {"test": ("test",), "val": ("val", "valid", "validation")}


def read(path: Path, label: str | None = None) -> Raw:
    """Whatever the path holds, by its ending.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: for an ending without a reader, or content that its reader refuses.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind == ".csv" and path.is_file():
        x, y, names, features = readers.csv(path, label)
        return Raw((x, y), classes=names, features=features or None)
    require(label is None, "label", label, "omitted: only a csv has a label column to name")
    if path.is_dir():
        return next((raw for read in LAYOUTS if (raw := read(path, {}))), None) or pictures(path)
    if kind == ".npz":
        return arrays(path)
    if kind in SVMLIGHT:
        x, y, names = readers.svmlight(path)
        return Raw((x, y), classes=names)
    ends = ", ".join((".npz", ".csv", *SVMLIGHT))
    kind = kind or "no ending"
    raise ValueError(f"{path.name}: no reader for {kind}; there are {ends}, and folders")


def pictures(path: Path) -> Raw:
    """A folder of pictures a class, or of `train/` and perhaps `test/`, `val/`, each such a one."""
    split = (path / "train").is_dir()
    x, y, names = readers.folder(path / "train" if split else path)
    others = {}
    for part, spellings in SPELLINGS.items() if split else ():
        place = next((path / s for s in spellings if (path / s).is_dir()), None)
        if place is not None:
            x_part, y_part, its = readers.folder(place)
            if its != names:
                differ = " and ".join(", ".join(n) for n in (its, names))
                raise ValueError(f"{place} and train have different classes: {differ}")
            others[part] = (x_part, y_part)
    return Raw((x, y), classes=names, **others)


def arrays(path: Path) -> Raw:
    """An npz of `x_train, y_train`, perhaps `x_test, y_test` and `x_val, y_val`, or of `x, y`; also
    `class_names`, `feature_names`, and the mask `mutable`."""
    held = readers.npz(path)
    ends = {"train": ("_train", ""), "test": ("_test",), "val": ("_val",)}
    found: dict[str, Any] = {}
    for part, spellings in ends.items():
        for end in spellings:
            if part not in found and {f"x{end}", f"y{end}"} & set(held):
                if not {f"x{end}", f"y{end}"} <= set(held):
                    raise ValueError(f"{path.name} has only one of x{end} and y{end}")
                found[part] = (channels(held[f"x{end}"]), held[f"y{end}"])
    if "train" not in found:
        there = ", ".join(held) or "nothing"
        raise ValueError(f"{path.name} holds {there}; it needs x_train and y_train, or x and y")
    words = {
        key: [str(n) for n in held[key]] for key in ("class_names", "feature_names") if key in held
    }
    mutable = held["mutable"].reshape(-1).tolist() if "mutable" in held else None
    return Raw(
        **found,
        classes=words.get("class_names"),
        features=words.get("feature_names"),
        mutable=mutable,
    )


def channels(x: np.ndarray) -> np.ndarray:
    """uint8 pictures `(n, h, w)` or `(n, h, w, c)` to `(n, c, h, w)`; anything else as it is."""
    if x.dtype == np.uint8 and x.ndim == 3:
        return x[:, None]
    if x.dtype == np.uint8 and x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x
