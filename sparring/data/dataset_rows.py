"""Add data to every batch: unlabelled rows, rows of another set or file, or generated rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..runtime import distributed
from . import files, named, pseudo_labels, readers
from .added_rows import AddedRows
from .labels import class_numbers, is_class_numbers
from .source import Source, stored_tensor
from .split import Split, check_samples, fingerprint

Generate = Callable[[Batch, int, torch.Generator | None], Any]


class StoredRows(AddedRows):
    """Rows of a split, drawn with replacement and augmented like the batch's rows."""

    augmented = True
    _rows: Split

    def select(self, source: Source) -> Split:
        """Return the rows to draw from, with the labels they get."""
        raise NotImplementedError

    def prepare(self, source: Source, *, device: str | torch.device = "cpu") -> None:
        """Read the rows and keep them on the device."""
        self._rows = self.select(source).to(device)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        n = len(self._rows)
        # float64: float32 has too few steps to reach every row of a large set evenly
        like = torch.empty(self.count(batch), dtype=torch.float64, device=batch.x.device)
        chosen = (distributed.draw("uniform", like, generator) * n).long().clamp_(max=n - 1)
        return self.rows(batch, self._rows.float(chosen), self._rows.y[chosen])


class Unlabelled(StoredRows):
    """Rows of the training split whose label `[data] labels` removed.

    Arguments:
        labels: a file of `sparring pseudo-label` with their labels; default: unlabelled.

    Raises:
        ValueError: for a source that kept all its labels, or labels of another data set.
    """

    def __init__(self, *, per: float = 1.0, labels: str | None = None, weight: float = 1.0) -> None:
        super().__init__(per=per, weight=weight)
        self.labels = labels

    def select(self, source: Source) -> Split:
        rows = source.unlabelled
        if rows is None or not len(rows):
            how = "labels = 1000 in [data] keeps 1000 labels and removes the others"
            raise ValueError(f"{source.name} has no rows without labels to add: {how}")
        if self.labels is None:
            return rows
        pseudo = pseudo_labels.read(self.labels, data=source.sha256, rows=source.sha256)
        return Split(rows.x, pseudo.labels_of(rows.index), rows.index)


class DatasetRows(StoredRows):
    """Rows of another data set or file.

    Arguments:
        of: a known name, or a path as for `data.load`; an npz may hold `x` alone.
        labels: a file of `sparring pseudo-label`, or `"own"`, the set's; default: unlabelled.
        root: folder to search first for a named set.

    Raises:
        ValueError: for another shape, values outside the source's bounds, or labels of another set.
    """

    def __init__(
        self,
        *,
        of: str,
        per: float = 1.0,
        labels: str | None = None,
        weight: float = 1.0,
        root: str | None = None,
    ) -> None:
        super().__init__(per=per, weight=weight)
        self.of, self.labels, self.root = of, labels, root

    def select(self, source: Source) -> Split:
        rows = read_rows(self.of, self.root)
        if (shape := tuple(rows.x.shape[1:])) != source.shape:
            shapes = f"{shape}, {source.name} of {source.shape}: added rows must have the same"
            raise ValueError(f"of = {self.of!r} has samples of shape {shapes}")
        if self.labels is None:
            rows = Split(rows.x, torch.full_like(rows.y, -1))
        elif self.labels != "own":
            pseudo = pseudo_labels.read(self.labels, data=source.sha256, rows=fingerprint(rows.x))
            rows = Split(rows.x, pseudo.labels_of(rows.index))
        check_samples(self.of, rows.x, rows.y, source.classes, source.bounds)
        return rows


class Generated(AddedRows):
    """Rows returned by a function of the user: `call(batch, count, generator)` gives x or (x, y).

    A recipe names the function "module:function", which needs `--trust`. The function must draw
    only from the generator and return `count` rows; their values may leave the bounds.

    Arguments:
        call: returns x `(count, *d)`, unlabelled, or (x, y) with labels y `(count,)`, −1 for none.

    Raises:
        ValueError: for rows of another count or shape, NaN, or labels outside the classes.
    """

    def __init__(self, *, call: Generate, per: float = 1.0, weight: float = 1.0) -> None:
        super().__init__(per=per, weight=weight)
        self.call = call
        self._classes: int | None = None

    def prepare(self, source: Source, *, device: str | torch.device = "cpu") -> None:
        self._classes = source.classes

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        count = self.count(batch)
        result = self.call(batch, count, generator)
        x, y = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
        if not isinstance(x, Tensor):
            raise ValueError(f"call gave a {type(x).__name__}: it must be a tensor x, or (x, y)")
        expected = (count, *batch.x.shape[1:])
        require(tuple(x.shape) == expected, "call's shape", tuple(x.shape), f"{expected}")
        require(bool(x.isfinite().all()), "call", "NaN or infinite values", "finite")
        y = torch.full((count,), -1, device=x.device) if y is None else y
        shape = tuple(getattr(y, "shape", (len(y),)))
        require(shape == (count,), "call's labels", shape, f"({count},)")
        y = y if is_class_numbers(y) else class_numbers("call's y", y)
        classes = self._classes or torch.iinfo(torch.int64).max
        ok = not count or (int(y.min()) >= -1 and int(y.max()) < classes)
        require(ok, "call's labels", "out of range", f"-1 to {classes - 1}")
        return self.rows(batch, x.to(batch.x), y.to(batch.x.device))


def read_rows(of: str, root: str | Path | None = None) -> Split:
    """Read all training rows of a set, or an npz with `x` alone; labels are −1 if it has none.

    Raises:
        ValueError, FileNotFoundError: as `data.load`.
    """
    if known := named.find(of):
        x, y = named.read(known, root).train
    elif Path(of).suffix == ".npz" and Path(of).is_file() and set(readers.npz(Path(of))) == {"x"}:
        x = files.channels(readers.npz(Path(of))["x"])
        y = np.full(len(x), -1, np.int64)
    else:
        x, y = files.read(Path(of).expanduser()).train
    return Split(stored_tensor(x, x), class_numbers(f"y of {of}", y, whole=True))
