"""One door to every data set: a known name, or a file or folder of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..part import nearest
from . import readers
from .named import NAMED
from .source import Source, make


def names() -> list[str]:
    """The data sets known by name.

    >>> names()
    ['cifar10', 'cifar100', 'digits', 'fashion-mnist', 'mnist', 'svhn']
    """
    return sorted(NAMED)


def load(
    name: str | Path,
    *,
    val: float | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    label: str | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    limit: int | None = None,
) -> Source:
    """A data set with train, validation and test splits.

    Arguments:
        name: one of `names()`, or the path of an npz (`x_train, y_train[, x_test, y_test]` or `x, y`), a csv, a
            svmlight file, or a folder of pictures a class (`train/` and `test/` in it are taken as the splits).
        val: rows or share of train held out for validation, by `seed`.
        root: folder to look in first; `$SPARRING_DATA` when omitted.
        label: the csv's label column; the last when omitted.
        bounds: of the inputs, for the user's float data.
        limit: use only this many training rows.

    Raises:
        ValueError: for an unknown name, or data that is not what it should be.
        FileNotFoundError: for a missing file; for a named set it says which files to put where.
    """
    if str(name) in NAMED:
        train, test, classes = NAMED[str(name)](root)
    else:
        train, test, classes = _file(Path(name), label)
    return make(
        Path(name).name,
        _tensors(*train),
        _tensors(*test) if test is not None else None,
        classes=classes,
        val=val,
        seed=seed,
        bounds=(float(bounds[0]), float(bounds[1])),
        limit=limit,
    )


def _tensors(x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    x = np.ascontiguousarray(x if x.dtype == np.uint8 else x.astype(np.float32))
    return torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(y.astype(np.int64)))


def _file(path: Path, label: str | None):
    if not path.exists():
        if path.suffix or "/" in str(path):
            raise FileNotFoundError(f"no file or folder {path}")
        raise ValueError(nearest("data.name", str(path), NAMED))
    if path.is_dir():
        if (path / "train").is_dir() and (path / "test").is_dir():
            x, y, classes = readers.folder(path / "train")
            x_test, y_test, others = readers.folder(path / "test")
            if classes != others:
                raise ValueError(f"{path}: train has the classes {classes}, test has {others}")
            return (x, y), (x_test, y_test), classes
        x, y, classes = readers.folder(path)
        return (x, y), None, classes
    kind = Path(path.name.removesuffix(".gz")).suffix.lower()
    if kind == ".csv":
        x, y, classes = readers.csv(path, label)
        return (x, y), None, classes
    if kind == ".npz":
        return _npz(path)
    if kind in readers.SVMLIGHT:
        x, y = readers.svmlight(path)
        return (x, y), None, None
    raise ValueError(f"{path.name}: no reader for {kind!r}; there are .npz, .csv, {', '.join(readers.SVMLIGHT)} and folders")


def _npz(path: Path):
    arrays = readers.npz(path)
    test = None
    if {"x_train", "y_train"} <= set(arrays):
        train = arrays["x_train"], arrays["y_train"]
        if {"x_test", "y_test"} <= set(arrays):
            test = arrays["x_test"], arrays["y_test"].ravel()
    elif {"x", "y"} <= set(arrays):
        train = arrays["x"], arrays["y"]
    else:
        raise ValueError(f"{path.name} holds {', '.join(arrays) or 'nothing'}; it needs x_train and y_train, or x and y")
    return (train[0], train[1].ravel()), test, None
