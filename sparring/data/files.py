"""Read the user's data by path: npz, csv, svmlight, and folders of pictures or of known files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..component import require
from . import readers
from .layouts import LAYOUTS, RawDataset

SVMLIGHT = (".svm", ".libsvm", ".svmlight")
SPELLINGS = {"test": ("test",), "val": ("val", "valid", "validation")}


def read(path: Path, label: str | None = None) -> RawDataset:
    """Read a file by its ending, or a folder by its layout.

    Raises:
        FileNotFoundError: for a missing path.
        ValueError: for an ending without a reader, or content that its reader refuses.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind == ".csv" and path.is_file():
        x, y, names, features = readers.csv(path, label)
        return RawDataset((x, y), classes=names, features=features or None)
    require(label is None, "label", label, "omitted: only a csv has a label column to name")
    if path.is_dir():
        return next((raw for read in LAYOUTS if (raw := read(path, {}))), None) or pictures(path)
    if kind == ".npz":
        return arrays(path)
    if kind in SVMLIGHT:
        x, y, names = readers.svmlight(path)
        return RawDataset((x, y), classes=names)
    ends, kind = ", ".join((".npz", ".csv", *SVMLIGHT)), kind or "no ending"
    raise ValueError(f"{path.name}: no reader for {kind}; there are {ends}, and folders")


def pictures(path: Path) -> RawDataset:
    """Read a folder of pictures per class, or `train/` (and `test/`, `val/`) of such folders."""
    split = (path / "train").is_dir()
    x, y, names = readers.folder(path / "train" if split else path)
    others = {}
    for part, spellings in SPELLINGS.items() if split else ():
        folder = next((path / s for s in spellings if (path / s).is_dir()), None)
        if folder is not None:
            x_part, y_part, part_names = readers.folder(folder)
            if part_names != names:
                differ = " and ".join(", ".join(n) for n in (part_names, names))
                raise ValueError(f"{folder} and train have different classes: {differ}")
            others[part] = (x_part, y_part)
    return RawDataset((x, y), classes=names, **others)


def arrays(path: Path) -> RawDataset:
    """Read an npz of `x_train, y_train` (perhaps `x_test, y_test`, `x_val, y_val`), or of `x, y`.

    `class_names`, `feature_names` and the mask `mutable` are read if they are there.
    """
    archive = readers.npz(path)
    ends = {"train": ("_train", ""), "test": ("_test",), "val": ("_val",)}
    splits: dict[str, Any] = {}
    for part, spellings in ends.items():
        for end in spellings:
            if part not in splits and {f"x{end}", f"y{end}"} & set(archive):
                if not {f"x{end}", f"y{end}"} <= set(archive):
                    raise ValueError(f"{path.name} has only one of x{end} and y{end}")
                splits[part] = (channels(archive[f"x{end}"]), archive[f"y{end}"])
    if "train" not in splits:
        keys = ", ".join(archive) or "nothing"
        raise ValueError(f"{path.name} holds {keys}; it needs x_train and y_train, or x and y")
    classes, features = (
        [str(n) for n in archive[key]] if key in archive else None
        for key in ("class_names", "feature_names")
    )
    mutable = archive["mutable"].reshape(-1).tolist() if "mutable" in archive else None
    return RawDataset(**splits, classes=classes, features=features, mutable=mutable)


def channels(x: np.ndarray) -> np.ndarray:
    """Return uint8 pictures `(n, h, w)` or `(n, h, w, c)` as `(n, c, h, w)`; other arrays as is."""
    if x.dtype == np.uint8 and x.ndim == 3:
        return x[:, None]
    if x.dtype == np.uint8 and x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x
