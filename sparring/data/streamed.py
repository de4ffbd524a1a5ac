"""Make a source of `torch.utils.data` data sets: train is streamed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from ..component import require
from . import limits
from .source import Source
from .split import Bounds, Split, fingerprint
from .stream import Stream, from_torch


def streamed(
    train: Dataset,
    test: Dataset,
    *,
    classes: int | Sequence[str],
    val: int | float | Dataset | None = None,
    n: int | None = None,
    seed: int = 0,
    bounds: Bounds = (0.0, 1.0),
    workers: int = 0,
    name: str = "streamed",
) -> Source:
    """Return a source whose train split is streamed; validation and test are in memory.

    The sha256 is over validation and test only.

    Arguments:
        classes: number of classes, or their names.
        val: a data set, or rows or share of train to hold out by the seed; default: 1,000 rows. For
            an iterable train it must be a data set.
        n: samples per epoch; needed for an iterable train without a length. Of a longer train with
            numbered rows, n are drawn by the seed, and validation is held out of them.
    """
    if isinstance(classes, Sequence | np.ndarray):
        names = list(classes)
    else:
        limits.check_classes(name, int(classes))
        names = [str(k) for k in range(int(classes))]

    def stream(dataset: Dataset, part: str, n: int | None = None) -> Stream:
        options = {"bounds": bounds, "workers": workers, "name": f"{name} {part}", "seed": seed}
        return from_torch(dataset, classes=len(names), n=n, **options)

    def in_memory(dataset: Dataset, part: str) -> Split:
        split = stream(dataset, part)
        return split.subset(len(split))

    train_stream = stream(train, "train", n)
    if val is None or isinstance(val, int | float | np.number):
        if train_stream.sequential:
            raise ValueError("val must be a data set: nothing can be held out of an iterable")
        total, rows = len(train_stream), 1000 if val is None else float(val)
        allowed = f"a data set, or rows or a share of the {total} of train"
        require(0 < rows < total, "val", val, allowed)
        rows = round(rows * total) if rows < 1 else int(rows)
        require(1 <= rows < total, "val", val, allowed)
        order = torch.randperm(total, generator=torch.Generator().manual_seed(int(seed)))
        val_split = train_stream._in_memory(order[:rows].sort().values)
        kept = order[rows:].sort().values.tolist()  # of the n rows that the stream drew
        train_stream = stream(Subset(train_stream.dataset, kept), "train")
    else:
        val_split = in_memory(val, "val")
    test_split = in_memory(test, "test")
    digest = fingerprint(val_split.x, val_split.y, test_split.x, test_split.y)
    return Source(name, train_stream, val_split, test_split, names, bounds, digest)
