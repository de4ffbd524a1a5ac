"""Add data to every batch: unlabelled rows, rows of another set or file, or generated rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
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
from .content import read_bytes, shorten
from .csv_table import label_value
from .csv_text import decode, find_separator, records
from .labels import class_numbers, is_class_numbers
from .layouts import RawDataset
from .source import Source, checked_arrays, stored_tensor
from .split import Split, check_labels, check_samples, fingerprint

Generate = Callable[[Batch, int, torch.Generator | None], Any]
SHOWN = 12  # classes in a message


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
        of: a known name, or a path as for `data.load`; an npz may hold `x` alone, and a csv is read
            by the source's `label`, `drop` and `time`.
        labels: a file of `sparring pseudo-label`, or `"own"`, the set's, whose classes are matched
            to the source's by name; default: unlabelled.
        root: folder to search first for a named set.

    Raises:
        ValueError: for another shape, other features, values outside the source's bounds, classes
            that the source does not have, or labels of another set.
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
        raw = read_raw(self.of, self.root, source)
        rows = _rows(self.of, raw)
        if (shape := tuple(rows.x.shape[1:])) != source.shape:
            shapes = f"{shape}, {source.name} of {source.shape}: added rows must have the same"
            raise ValueError(f"of = {self.of!r} has samples of shape {shapes}")
        _check_features(self.of, raw.features, source)
        if self.labels is None:
            rows = Split(rows.x, torch.full_like(rows.y, -1))
        elif self.labels != "own":
            pseudo = pseudo_labels.read(self.labels, data=source.sha256, rows=fingerprint(rows.x))
            rows = Split(rows.x, pseudo.labels_of(rows.index))
        elif raw.classes:
            check_labels(self.of, rows.x, rows.y, len(raw.classes))
            rows = Split(rows.x, _in_classes_of(source, self.of, raw.classes, rows.y))
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


def read_rows(of: str, root: str | Path | None = None, source: Source | None = None) -> Split:
    """Read all training rows of a set, or an npz with `x` alone; labels are -1 if it has none.

    Arguments:
        of, root, source: as `read_raw`.

    Raises:
        ValueError, FileNotFoundError: as `data.load`.
    """
    return _rows(of, read_raw(of, root, source))


def read_raw(of: str, root: str | Path | None = None, source: Source | None = None) -> RawDataset:
    """Read a set by its name or path, or an npz with `x` alone, whose labels are -1.

    Arguments:
        root: folder to search first for a named set.
        source: whose `label`, `drop` and `time` name the columns of a csv.

    Raises:
        ValueError, FileNotFoundError: as `data.load`.
    """
    if known := named.find(of):
        return named.read(known, root)
    path = Path(of).expanduser()
    if files.is_csv(path) and path.is_file() and source is not None:
        return files.read(path, **_csv_columns(path, source.origin))
    if files.ending(path) == ".npz" and path.is_file():
        archive = readers.npz(path)
        if set(archive) != {"x"}:
            return files.arrays(path, archive)
        x = files.channels(archive["x"])
        return RawDataset((x, np.full(len(x) if x.ndim else 1, -1, np.int64)))
    return files.read(path)


def _rows(of: str, raw: RawDataset) -> Split:
    """Return the training rows of a set as a split."""
    x, y = checked_arrays(of, *raw.train)
    return Split(stored_tensor(x, x), torch.from_numpy(y))


def _csv_columns(path: Path, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the source's `label`, `drop` and `time` for another csv: it may lack columns that are
    no features anyway, but not the label."""
    columns = {key: origin[key] for key in ("label", "drop", "time") if origin.get(key)}
    if not columns.keys() & {"drop", "time"}:
        return columns
    text = decode(path, read_bytes(path))
    _, first = next(records(path, text, find_separator(path, text)), (0, []))
    header = {name.strip() for name in first}
    drop = columns.pop("drop", ())
    columns["drop"] = [n for n in ([drop] if isinstance(drop, str) else drop) if n in header]
    if columns.get("time") not in header:
        columns["time"] = None
    return columns


def _check_features(of: str, features: Sequence[str] | None, source: Source) -> None:
    """Raise `ValueError` if both sets name their features, and not alike: columns would be mixed
    up."""
    if not features or not source.feature_names:
        return
    for theirs, ours in zip_longest(features, source.feature_names, fillvalue=""):
        if theirs != ours:
            what = f"has the feature {shorten(theirs)} where {source.name} has {shorten(ours)}"
            how = "added rows must have the same features, in the same order"
            raise ValueError(f"of = {shorten(of)} {what}: {how}")


def _in_classes_of(source: Source, of: str, classes: Sequence[str], y: Tensor) -> Tensor:
    """Return labels `(n,)`, numbers of these classes, as numbers of the source's classes.

    Raises:
        ValueError: for rows of a class that the source does not have.
    """
    number_of = {_class_key(name): k for k, name in enumerate(source.class_names)}
    numbers = torch.tensor([number_of.get(_class_key(name), -1) for name in classes])
    labelled = y >= 0
    out = torch.where(labelled, numbers[y.clamp_min(0)], y)
    if len(odd := y[labelled & (out < 0)]):
        shown = ", ".join(shorten(name) for name in source.class_names[:SHOWN])
        more = f" and {source.classes - SHOWN} more" if source.classes > SHOWN else ""
        what = f"rows of class {shorten(classes[int(odd[0])])}"
        raise ValueError(f"of = {shorten(of)} has {what}: {source.name} has {shown}{more}")
    return out


def _class_key(name: str) -> str | float:
    """Return what two spellings of a class share: 1 and 1.0 are one, as in a csv."""
    value = label_value(name)
    return name if value is None else value
