"""Read the batches of CIFAR-10 that lie in some folders, and wait for none."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sparring.data import cifar

from .parts import NotRun

TRAIN = tuple(f"data_batch_{k}" for k in range(1, 6))
TEST, LABELS = "test_batch.webp", "labels.npz"
ROWS = 10_000  # of a whole batch


class Gathered(NamedTuple):
    """Hold an npz that a recipe's `data.name` takes, and how many rows it has."""

    path: Path
    train: int
    test: int


def _found(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the files of CIFAR-10 below some folders, by name."""
    names = {TEST, LABELS, *(f"{name}.webp" for name in TRAIN)}
    files = (path for folder in folders for path in sorted(folder.rglob("*")))
    return {path.name: path for path in files if path.name in names}


def keep(folders: Sequence[Path], out: Path) -> list[str]:
    """Copy the files that lie below some folders, and return the names of all that are kept.

    Raises:
        NotRun: if there are none.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, path in _found(folders).items():
        shutil.copy(path, out / name)
    if not (kept := sorted(path.name for path in out.iterdir())):
        raise NotRun("nothing of CIFAR-10 lies in the folders of --data: stage b will look again")
    return kept


def gather(folders: Sequence[Path], out: Path, *, limit: int | None = None) -> Gathered:
    """Write the batches found below some folders to one npz, in their official order.

    Arguments:
        limit: rows of train and of test that are kept, for a rehearsal.

    Raises:
        NotRun: without labels, test batch and one train batch; it says what was found.
    """
    files = _found(folders)
    train = [name for name in TRAIN if f"{name}.webp" in files]
    if not train or TEST not in files or LABELS not in files:
        here = ", ".join(sorted(files)) or "nothing"
        raise NotRun(f"CIFAR-10 is not there: {LABELS}, {TEST} and a data_batch; found {here}")
    with np.load(files[LABELS], allow_pickle=False) as labels:
        y, y_test = labels["train"], labels["test"]
    rows = [slice(TRAIN.index(name) * ROWS, (TRAIN.index(name) + 1) * ROWS) for name in train]
    x = np.concatenate([cifar.mosaic(files[f"{name}.webp"])[:limit] for name in train])
    arrays = {"x_train": x, "y_train": np.concatenate([y[part][:limit] for part in rows])}
    arrays |= {"x_test": cifar.mosaic(files[TEST]), "y_test": y_test}
    arrays = {name: a[:limit] for name, a in arrays.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, **arrays)
    return Gathered(out, len(arrays["x_train"]), len(arrays["x_test"]))
