"""Read the user's data by path: npz, csv, svmlight, and folders of pictures or of known files."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..component import require
from ..runtime.warning import SparringWarning
from . import readers
from .content import SHOWN, shorten
from .layouts import LAYOUTS, RawDataset
from .picture_folder import FolderReader

TEXT = (".csv", ".tsv")
SVMLIGHT = (".svm", ".libsvm", ".svmlight")
SPELLINGS = {"test": ("test",), "val": ("val", "valid", "validation")}


def read(
    path: Path,
    label: str | None = None,
    *,
    drop: str | Sequence[str] | None = None,
    time: str | None = None,
    folder: FolderReader | None = None,
) -> RawDataset:
    """Read a file by its ending, or a folder by its layout; `label`, `drop` and `time` are columns
    of a csv, and `folder` reads pictures of any size.

    Raises:
        FileNotFoundError: for a missing path.
        ValueError: for an ending without a reader, or content that its reader refuses.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    if folder is not None:
        require(path.is_dir(), "size", folder.how.size, "omitted: only folders of pictures have it")
        return pictures(path, folder)
    kind = ending(path)
    if is_csv(path):
        x, y, names, features, notes, moments = readers.csv(path, label, drop=drop, time=time)
        facts = {"classes": names, "features": features or None, "notes": notes, "time": moments}
        return RawDataset((x, y), **facts)
    refuse_csv_options(label, drop, time)
    if path.is_dir():
        return next((raw for read in LAYOUTS if (raw := read(path, {}))), None) or pictures(path)
    if kind == ".npz":
        return arrays(path)
    if kind in SVMLIGHT:
        x, y, names = readers.svmlight(path)
        return RawDataset((x, y), classes=names)
    ends, kind = ", ".join((".npz", *TEXT, *SVMLIGHT)), kind[:SHOWN] or "no ending"
    raise ValueError(f"{path.name}: no reader for {kind}; there are {ends}, and folders")


def ending(path: Path) -> str:
    """Return the ending that tells a file's reader, in small letters and without `.gz`."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def is_csv(path: Path) -> bool:
    """Return whether `read` takes a path for a csv."""
    return ending(path) in TEXT and not path.is_dir()


def refuse_csv_options(
    label: str | None, drop: str | Sequence[str] | None, time: str | None
) -> None:
    """Raise `ValueError` for columns named of data that are no csv."""
    require(label is None, "label", label, "omitted: only a csv has a label column to name")
    require(not drop, "drop", drop, "omitted: only a csv has columns to drop")
    require(time is None, "time", time, "omitted: only a csv has a column of times")


def pictures(path: Path, read: FolderReader | None = None) -> RawDataset:
    """Read a folder of pictures per class, or `train/` (and `test/`, `val/`) of such folders.

    Arguments:
        read: of pictures of any size; default: all have one.
    """
    read_folder = readers.folder if read is None else read
    split = (path / "train").is_dir()
    x, y, names = read_folder(path / "train" if split else path)
    others: dict[str, Any] = {}
    for part, spellings in SPELLINGS.items() if split else ():
        folder = next((path / s for s in spellings if (path / s).is_dir()), None)
        if folder is not None:
            x_part, y_part, part_names = read_folder(folder)
            if part_names != names:
                differ = " and ".join(", ".join(n) for n in (part_names, names))
                raise ValueError(f"{folder} and train have different classes: {differ}")
            others[part] = (x_part, y_part)
    unread = sorted(entry.name for entry in os.scandir(path) if split and _is_unread(entry))
    if unread:
        parts = ", ".join(s for spellings in SPELLINGS.values() for s in spellings)
        what = f"{path / unread[0]} is not read: beside train, only {parts} are splits"
        warnings.warn(what, SparringWarning, stacklevel=2)
    if read is None:
        return RawDataset((x, y), classes=names, **others)
    channels = max(len(part[0]) for part in (x, *(x for x, _ in others.values())) if len(part))
    x, *rest = (_in_colour(part, channels) for part in (x, *(x for x, _ in others.values())))
    others = {part: (x, y) for (part, (_, y)), x in zip(others.items(), rest, strict=True)}
    return RawDataset((x, y), classes=names, notes=tuple(read.notes), **others)


def _in_colour(x: np.ndarray, channels: int) -> np.ndarray:
    """Return pictures `(n, c, h, w)` with as many channels as those of the other splits."""
    return x if x.shape[1] == channels else np.repeat(x, channels, axis=1)


def _is_unread(entry: os.DirEntry[str]) -> bool:
    splits = {"train", *(s for spellings in SPELLINGS.values() for s in spellings)}
    return entry.is_dir() and entry.name[0] not in "._" and entry.name not in splits


def arrays(path: Path, archive: Mapping[str, np.ndarray] | None = None) -> RawDataset:
    """Read an npz of `x_train, y_train` (perhaps `x_test, y_test`, `x_val, y_val`), or of `x, y`.

    `class_names`, `feature_names` and the mask `mutable` are read if they are there. With `x_test,
    y_test` alone, train has no rows.

    Arguments:
        archive: what is in the file, if it has been unpacked.

    Raises:
        ValueError: for one array of a pair without the other, a name close to one of these, or
            names that are no text `(k,)`.
    """
    archive = readers.npz(path) if archive is None else archive
    ends = {"train": ("_train", ""), "test": ("_test",), "val": ("_val",)}
    known = [f"{s}{end}" for spellings in ends.values() for end in spellings for s in "xy"]
    known += ["class_names", "feature_names", "mutable"]
    _refuse_near_misses(path, archive, known)
    splits: dict[str, Any] = {}
    for part, spellings in ends.items():
        for end in spellings:
            if part not in splits and {f"x{end}", f"y{end}"} & set(archive):
                if not {f"x{end}", f"y{end}"} <= set(archive):
                    raise ValueError(f"{path.name} has only one of x{end} and y{end}")
                splits[part] = (channels(archive[f"x{end}"]), archive[f"y{end}"])
    if "train" not in splits and "test" in splits:
        splits["train"] = tuple(a[:0] if a.ndim else a for a in splits["test"])
    if "train" not in splits:
        keys = ", ".join(key[:SHOWN] for key in list(archive)[:12]) or "nothing"
        raise ValueError(f"{path.name} holds {keys}; it needs x_train and y_train, or x and y")
    classes, features = (
        _names(path, key, archive[key]) if key in archive else None
        for key in ("class_names", "feature_names")
    )
    mutable = archive["mutable"].reshape(-1).tolist() if "mutable" in archive else None
    return RawDataset(**splits, classes=classes, features=features, mutable=mutable)


def channels(x: np.ndarray) -> np.ndarray:
    """Return pictures `(n, h, w, c)`, and uint8 ones `(n, h, w)`, as `(n, c, h, w)`; others as is.

    c is 1 or 3, and h neither: arrays for which both readings are possible stay as they are.
    """
    if x.dtype == np.uint8 and x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x


def _refuse_near_misses(path: Path, archive: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise `ValueError` for a key that is almost one of the known ones, which is missing."""
    other = {"x": "x_train", "y": "y_train", "x_train": "x", "y_train": "y"}  # two spellings
    missing = [key for key in known if not {key, other.get(key)} & set(archive)]
    for key in archive:
        close = difflib.get_close_matches(key.lower(), missing, n=1, cutoff=0.8)
        close += [k for k in missing if sorted(k.split("_")) == sorted(key.lower().split("_"))]
        if key not in known and close:
            hint = f"did you mean {close[0]!r}? It may hold {', '.join(known)}"
            raise ValueError(f"{path.name} holds {shorten(key)}: {hint}")


def _names(path: Path, key: str, names: np.ndarray) -> list[str]:
    if names.ndim != 1:
        raise ValueError(f"{path.name}: {key} is {names.shape}: it must be text (k,), one per name")
    return [n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names]
