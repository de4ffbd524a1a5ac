"""Stored rows to mix in: those whose label was taken away, those of another set or file, and what a
function gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..batch import Batch
from ..component import require
from ..runtime import distributed
from . import files, named, pseudo_labels, readers
from .added_rows import AddedRows
from .fetch import plain
from .source import Source
from .split import Split, check, fingerprint

Generate = Callable[[Batch, int, torch.Generator | None], Any]


class Stored(AddedRows):
    """Rows of a split, drawn with replacement; augmented as the batch's own are."""

    stored = True
    _rows: Split

    def find(self, source: Source) -> Split:
        """The rows to draw from, with the labels that they are to have."""
        raise NotImplementedError

    def attach(self, source: Source, *, device: str | torch.device = "cpu") -> None:
        """Read the rows and keep them on the device."""
        self._rows = self.find(source).to(device)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        n = len(self._rows)
        like = torch.empty(self.count(batch), dtype=torch.float64, device=batch.x.device)
        chosen = (distributed.draw("uniform", like, generator) * n).long().clamp_(max=n - 1)
        return self.rows(batch, self._rows.float(chosen), self._rows.y[chosen])


class Unlabelled(Stored):
    """Rows of the training split whose label `[data] labels` took away.

    Arguments:
        per, weight: of `AddedRows`.
        labels: a file of `sparring pseudo-label`, whose labels they get; without, they have none.

    Raises:
        ValueError: for a source whose labels were all kept, or labels of another data set.
    """

    def __init__(self, *, per: float = 1.0, labels: str | None = None, weight: float = 1.0) -> None:
        super().__init__(per=per, weight=weight)
        self.labels = labels

    def find(self, source: Source) -> Split:
        rows = source.unlabelled
        if rows is None or not len(rows):
            raise ValueError(
                f"{source.name} has no rows without labels to add: labels = 1000 in [data] keeps "
                "so many labels, and takes the others away"
            )
        if self.labels is None:
            return rows
        found = pseudo_labels.read(self.labels).check_matches(
            data=source.sha256, rows=source.sha256
        )
        return Split(rows.x, found.of(rows.index), rows.index)


class Rows(Stored):
    """Rows of another data set or file.

    Arguments:
        of: a known name, or a path as of `data.load`; an npz may hold `x` alone.
        per, weight: of `AddedRows`.
        labels: a file of `sparring pseudo-label`; `"own"` keeps the set's own labels; without, they
            have none.
        root: where a named set is looked for first.

    Raises:
        ValueError: for rows of another shape, values outside the source's bounds, or labels of
            another data set.
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

    def find(self, source: Source) -> Split:
        rows = read_rows(self.of, self.root)
        if tuple(rows.x.shape[1:]) != source.shape:
            raise ValueError(
                f"of = {self.of!r} has samples of shape {tuple(rows.x.shape[1:])}, {source.name} "
                f"of {source.shape}: added rows must have the same"
            )
        if self.labels is None:
            rows = Split(rows.x, torch.full_like(rows.y, -1))
        elif self.labels != "own":
            found = pseudo_labels.read(self.labels).check_matches(
                data=source.sha256, rows=fingerprint(rows.x)
            )
            rows = Split(rows.x, found.of(rows.index))
        check(self.of, rows.x, rows.y, source.classes, source.bounds)
        return rows


class Generated(AddedRows):
    """What a function of the user's gives: `call(batch, count, generator)`, x or (x, y).

    A recipe names it "module:function", which needs `--trust`. All it draws must come from the
    generator, and it must give `count` rows; they may leave the bounds.

    Arguments:
        call: gives x `(count, *d)`, unlabelled, or x with labels y `(count,)`, −1 for none.
        per, weight: of `AddedRows`.

    Raises:
        ValueError: for rows of another count or shape, NaN, or labels outside the classes.
    """

    def __init__(self, *, call: Generate, per: float = 1.0, weight: float = 1.0) -> None:
        super().__init__(per=per, weight=weight)
        self.call = call
        self._classes: int | None = None

    def attach(self, source: Source, *, device: str | torch.device = "cpu") -> None:
        self._classes = source.classes

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        count = self.count(batch)
        found = self.call(batch, count, generator)
        x, y = found if isinstance(found, tuple) else (found, None)
        wanted = (count, *batch.x.shape[1:])
        require(tuple(x.shape) == wanted, "call's shape", tuple(x.shape), f"{wanted}")
        require(bool(x.isfinite().all()), "call", "NaN or infinite values", "finite")
        y = torch.full((count,), -1, device=x.device) if y is None else y
        require(tuple(y.shape) == (count,), "call's labels", tuple(y.shape), f"({count},)")
        most = self._classes or torch.iinfo(torch.int64).max
        ok = not count or (int(y.min()) >= -1 and int(y.max()) < most)
        require(ok, "call's labels", "out of range", f"-1 to {most - 1}")
        return self.rows(batch, x.to(batch.x), y.to(batch.x.device).long())


def read_rows(of: str, root: str | Path | None = None) -> Split:
    """All rows of a set's training part, or of an npz with `x` alone; labels −1 where it has none.

    Raises:
        ValueError, FileNotFoundError: as `data.load`.
    """
    known = {plain(name): name for name in named.names()}
    if of and plain(of) in known:
        x, y = named.read(known[plain(of)], root).train
    elif Path(of).suffix == ".npz" and Path(of).is_file() and set(readers.npz(Path(of))) == {"x"}:
        x = files.channels(readers.npz(Path(of))["x"])
        y = np.full(len(x), -1)
    else:
        x, y = files.read(Path(of).expanduser()).train
    flags = x.dtype == np.uint8 and int(x.max(initial=0)) <= 1
    x = x if x.dtype == np.uint8 and not flags else x.astype(np.float32)
    return Split(torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y.astype(np.int64)))
