"""Read folders with a whole data set in a known layout; a reader returns None for other folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import cifar, limits, readers
from .readers import Arrays


class RawDataset(NamedTuple):
    """Hold a data set as read from files: train arrays, and what else the files have.

    Arguments:
        features, mutable: of each its name, and 0 or 1: whether an attacker can change it.
        unique: drop repeated rows before the set is split.
        shares: of all labeled rows for test and validation, if the files have no such splits.
        notes: sentences on the rows and columns that the reader dropped.
        time: of each row of train `(n,)`, by which they are split.
    """

    train: Arrays
    test: Arrays | None = None
    val: Arrays | None = None
    classes: list[str] | None = None
    features: list[str] | None = None
    mutable: list[int] | None = None
    unique: bool = False
    shares: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    time: np.ndarray | None = None


Checks = Mapping[str, str]
Layout = Callable[[Path, Checks], RawDataset | None]

IDX = tuple(f"{s}-{k}-ubyte" for s in ("train", "t10k") for k in ("images-idx3", "labels-idx1"))
BATCHES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def _existing(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the paths of these files, or none if one is missing."""
    paths = [folder / name for name in names]
    return paths if all(p.is_file() for p in paths) else []


def find_gzipped(folder: Path, *names: str) -> Path | None:
    """Return the first file of one of these names, `.gz` or not, or None."""
    spellings = [folder / (name + end) for name in names for end in (".gz", "")]
    return next((path for path in spellings if path.is_file()), None)


def idx(folder: Path, checks: Checks) -> RawDataset | None:
    """Read MNIST's four files, each gzipped or plain, also with a dot before `idx`."""
    paths = [find_gzipped(folder, stem, stem.replace("-idx", ".idx")) for stem in IDX]
    arrays = [readers.idx(p, checks.get(s)) for p, s in zip(paths, IDX, strict=True) if p]
    if len(arrays) < len(IDX):
        return None
    for path, a, dimensions in zip(paths, arrays, (3, 1) * 2, strict=True):
        if a.ndim != dimensions:
            what = f"{path} has arrays of shape {a.shape}"
            raise ValueError(f"{what}: images must be (n, h, w), labels (n,)")
    x, y, x_test, y_test = arrays
    return RawDataset((x[:, None], y), (x_test[:, None], y_test))


def cifar10_mosaics(folder: Path, checks: Checks) -> RawDataset | None:
    """Read CIFAR-10 as lossless mosaics in the official order, and `labels.npz`."""
    if not (paths := _existing(folder, ["labels.npz", *(f"{b}.webp" for b in BATCHES)])):
        return None
    labels = readers.npz(paths[0])
    if not {"train", "test"} <= set(labels):
        raise ValueError(f"{paths[0]} has {', '.join(labels)}; it needs train and test")
    x = np.concatenate([cifar.mosaic(p) for p in paths[1:-1]])
    names = [str(n) for n in labels.get("class_names", np.array(CIFAR10)).reshape(-1)]
    test = cifar.mosaic(paths[-1]), labels["test"]
    return RawDataset((x, labels["train"]), test, classes=names)


def _cifar10(parts: list[Arrays]) -> RawDataset:
    x, y = (np.concatenate(a) for a in zip(*parts[:-1], strict=True))
    return RawDataset((x, y), parts[-1], classes=CIFAR10)


def cifar10_python(folder: Path, checks: Checks) -> RawDataset | None:
    """Read CIFAR-10's six pickled batches."""
    parts = [cifar.python(p, "labels", checks.get(p.name)) for p in _existing(folder, BATCHES)]
    return _cifar10(parts) if parts else None


def cifar10_binary(folder: Path, checks: Checks) -> RawDataset | None:
    """Read CIFAR-10's six binary batches."""
    parts = [cifar.binary(p) for p in _existing(folder, [f"{b}.bin" for b in BATCHES])]
    return _cifar10(parts) if parts else None


def cifar100_python(folder: Path, checks: Checks) -> RawDataset | None:
    """Read CIFAR-100's pickles `train`, `test`, `meta`, with the fine labels."""
    if not (paths := _existing(folder, ("train", "test", "meta"))):
        return None
    train, test = (cifar.python(p, "fine_labels", checks.get(p.name)) for p in paths[:2])
    classes = cifar.class_names(paths[2], "fine_label_names", checks.get("meta"))
    return RawDataset(train, test, classes=classes)


def cifar100_binary(folder: Path, checks: Checks) -> RawDataset | None:
    """Read CIFAR-100's `train.bin`, `test.bin`: fine labels, names of `fine_label_names.txt`."""
    if not (paths := _existing(folder, ("train.bin", "test.bin"))):
        return None
    names = folder / "fine_label_names.txt"
    known = limits.read(names).decode("utf-8", "replace").split() if names.is_file() else []
    classes = known or [str(k) for k in range(100)]
    train, test = (cifar.binary(p, labels=2) for p in paths)
    return RawDataset(train, test, classes=classes)


def svhn(folder: Path, checks: Checks) -> RawDataset | None:
    """Read SVHN's cropped digits, two MATLAB files."""
    if not (paths := _existing(folder, ("train_32x32.mat", "test_32x32.mat"))):
        return None
    train, test = (readers.mat(p, checks.get(p.name)) for p in paths)
    return RawDataset(train, test, classes=[str(k) for k in range(10)])


LAYOUTS: tuple[Layout, ...] = (  # tried in this order on a folder of the user
    *(idx, cifar10_mosaics, cifar10_python, cifar10_binary),
    *(cifar100_python, cifar100_binary, svhn),
)
