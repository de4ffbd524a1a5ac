"""Folders that hold a whole data set in a known layout; a reader gives None where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import cifar, readers
from .readers import Arrays


class Raw(NamedTuple):
    """What a reader found: train, and where the files have them, test, validation, class names.

    Arguments:
        features: a name a feature.
        mutable: zeros and ones, the features an attacker can change.
        unique: whether repeated rows are to be dropped before the set is split.
        shares: of all labeled rows, to test and to validate on, where the files say nothing.
        notes: what a reader had to leave out, in words.
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


Checks = Mapping[str, str]
Layout = Callable[[Path, Checks], Raw | None]

IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
BATCHES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")
SVHN = ("train_32x32.mat", "test_32x32.mat")
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
CIFAR10 = ["airplane", "automobile", *ANIMALS, "ship", "truck"]


def _there(place: Path, names: Sequence[str]) -> list[Path] | None:
    paths = [place / name for name in names]
    return paths if all(p.is_file() for p in paths) else None


def _spelled(place: Path, stem: str) -> Path | None:
    """`train-images-idx3-ubyte`, `.gz` or not, or with a dot before `idx3`, as some unpack it."""
    stems = (stem, stem.replace("-idx", ".idx"))
    spellings = [s + end for s in stems for end in (".gz", "")]
    return next((place / s for s in spellings if (place / s).is_file()), None)


def idx(place: Path, checks: Checks) -> Raw | None:
    """MNIST's four files, each gzipped or plain."""
    paths = [_spelled(place, stem) for stem in IDX]
    arrays = [readers.idx(p, checks.get(s)) for p, s in zip(paths, IDX, strict=True) if p]
    if len(arrays) < len(IDX):
        return None
    x, y, x_test, y_test = arrays
    return Raw((x[:, None], y), (x_test[:, None], y_test))


def packed(place: Path, checks: Checks) -> Raw | None:
    """CIFAR-10 as lossless mosaics in the official order, and `labels.npz` (`train`, `test`)."""
    paths = _there(place, ["labels.npz", *(f"{b}.webp" for b in BATCHES)])
    if paths is None:
        return None
    held = readers.npz(paths[0])
    if not {"train", "test"} <= set(held):
        raise ValueError(f"{paths[0]} has {', '.join(held)}; it needs train and test")
    x = np.concatenate([cifar.mosaic(p) for p in paths[1:-1]])
    names = [str(n) for n in held.get("class_names", CIFAR10)]
    return Raw((x, held["train"]), (cifar.mosaic(paths[-1]), held["test"]), classes=names)


def _joined(parts: list[Arrays]) -> Raw:
    x, y = (np.concatenate(a) for a in zip(*parts[:-1], strict=True))
    return Raw((x, y), parts[-1], classes=CIFAR10)


def cifar10_python(place: Path, checks: Checks) -> Raw | None:
    """CIFAR-10's six pickled batches."""
    paths = _there(place, BATCHES)
    if paths is None:
        return None
    return _joined([cifar.python(p, checksum=checks.get(p.name)) for p in paths])


def cifar10_binary(place: Path, checks: Checks) -> Raw | None:
    """CIFAR-10's six binary batches."""
    paths = _there(place, [f"{b}.bin" for b in BATCHES])
    return None if paths is None else _joined([cifar.binary(p) for p in paths])


def cifar100_python(place: Path, checks: Checks) -> Raw | None:
    """CIFAR-100's pickles `train`, `test`, `meta`, with the fine labels."""
    paths = _there(place, ("train", "test", "meta"))
    if paths is None:
        return None
    train, test = (cifar.python(p, "fine_labels", checks.get(p.name)) for p in paths[:2])
    names = cifar.unpickled(paths[2], checks.get("meta")).get("fine_label_names", [])
    return Raw(train, test, classes=[n.decode() if isinstance(n, bytes) else str(n) for n in names])


def cifar100_binary(place: Path, checks: Checks) -> Raw | None:
    """CIFAR-100's `train.bin`, `test.bin`: fine labels, names from `fine_label_names.txt`."""
    paths = _there(place, ("train.bin", "test.bin"))
    if paths is None:
        return None
    names = place / "fine_label_names.txt"
    classes = names.read_text().split() if names.is_file() else [str(k) for k in range(100)]
    train, test = (cifar.binary(p, labels=2) for p in paths)
    return Raw(train, test, classes=classes)


def svhn(place: Path, checks: Checks) -> Raw | None:
    """SVHN's cropped digits, two MATLAB files."""
    paths = _there(place, SVHN)
    if paths is None:
        return None
    train, test = (readers.mat(p, checks.get(p.name)) for p in paths)
    return Raw(train, test, classes=[str(k) for k in range(10)])


LAYOUTS: tuple[Layout, ...] = (
    idx,
    packed,
    cifar10_python,
    cifar10_binary,
    cifar100_python,
    cifar100_binary,
    svhn,
)
