"""Tables of features: bits from a csv, repeated rows, masks of mutable features, class weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..component import did_you_mean, require
from ..functional.column_groups import check_groups, group_numbers
from . import readers
from .content import SHOWN, shorten
from .csv_text import decode
from .layouts import Checks, RawDataset, find_gzipped
from .packed import PackedBits, is_binary
from .split import Inputs

ColumnGroups = Sequence[str | Sequence[str] | Sequence[int]] | None
MutableMask = str | Path | Sequence[int] | Sequence[bool] | Sequence[str] | None


@dataclass(frozen=True)
class BitTable:
    """Read one csv of bits, gzipped or not: a header, cells 0, 1 or `?`, the label last.

    Arguments:
        file, labels: its name, without `.gz`, and the class of each word in the label column.
    """

    file: str
    labels: Mapping[str, int]

    def __call__(self, folder: Path, checks: Checks) -> RawDataset | None:
        if (path := find_gzipped(folder, self.file)) is None:
            return None
        content = readers.read_bytes(path)
        readers.verify(path, content, checks.get(self.file))
        x, y, names, missing = read_bits(path, content, self.labels)
        notes = (f"{missing} rows with a missing cell (?) dropped",) if missing else ()
        return RawDataset((x, y), features=names, unique=True, shares=(0.2, 0.2), notes=notes)


def read_bits(
    path: Path, content: bytes, labels: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray, list[str], int]:
    """Read a csv of bits; return features uint8 `(n, d)`, labels, feature names, dropped rows.

    Rows with a missing cell (`?`) are dropped.

    Raises:
        ValueError: for another cell, a row of another length, or a label without a class.
    """
    header, *lines = content.decode("utf-8-sig", "replace").encode().splitlines() or [b""]
    names = [name.decode().strip() for name in header.split(b",")[:-1]]
    x, y = np.empty((len(lines), len(names)), np.uint8), np.empty(len(lines), np.int64)
    kept = 0
    for k, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        # each cell is one character: read the line as bytes instead of splitting it
        head, _, label = line.rpartition(b",")
        cells = np.frombuffer(head, np.uint8)
        if len(cells) != 2 * len(names) - 1 or (cells[1::2] != ord(",")).any():
            raise ValueError(f"{path}, row {k}: not {len(names)} cells of one character each")
        if b"?" in head:
            continue
        x[kept] = cells[::2] - ord("0")
        if x[kept].max(initial=0) > 1:
            odd = chr(int(cells[::2][x[kept] > 1][0]))
            raise ValueError(f"{path}, row {k}: a cell is {odd!r}, not 0, 1 or ?")
        word = label.decode().strip()
        if word not in labels:
            known = ", ".join(labels)
            what = f"the label is {shorten(word)}, it must be one of {known}"
            raise ValueError(f"{path}, row {k}: {what}")
        y[kept] = labels[word]
        kept += 1
    dropped = sum(bool(line.strip()) for line in lines) - kept
    return x[:kept].copy(), y[:kept].copy(), names, dropped


def distinct_rows(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the numbers of the rows that stay without repeated rows, and without rows whose
    features occur with two labels; and notes. Of rows with a label and without (-1), one with it
    stays.

    >>> x, y = np.array([[0, 1], [0, 1], [1, 1], [1, 1]]), np.array([0, 0, 0, 1])
    >>> rows, notes = distinct_rows(x, y)
    >>> rows.tolist(), notes[0]
    ([0], '2 rows dropped: the same features with different labels')
    """
    if not x.size:  # an empty set has nothing to compare, and is refused elsewhere
        return np.arange(len(x)), ()
    flat = np.packbits(x != 0, axis=1) if x.ndim == 2 and is_binary(x) else x.reshape(len(x), -1)
    flat = np.ascontiguousarray(flat + flat.dtype.type(0))  # -0.0 is 0.0: bytes are compared
    keys = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1])))
    _, first, group = np.unique(keys[:, 0], return_index=True, return_inverse=True)
    labelled = np.flatnonzero(y != -1)  # a row without a label contradicts none
    labels, of = y[labelled].astype(np.int64), group[labelled]
    limits = np.iinfo(np.int64)
    lowest, highest = np.full(len(first), limits.max), np.full(len(first), limits.min)
    np.minimum.at(lowest, of, labels)
    np.maximum.at(highest, of, labels)
    conflict = lowest < highest
    stays = np.full(len(first), len(y))
    np.minimum.at(stays, of, labelled)
    rows = np.sort(np.where(stays < len(y), stays, first)[~conflict])
    lost = int(conflict[group].sum())
    notes = (
        f"{lost} rows dropped: the same features with different labels",
        f"{len(y) - lost - len(rows)} rows dropped: the same as another row",
    )
    return rows, notes


def mutable_mask(mutable: MutableMask, d: int, names: Sequence[str] | None) -> list[int] | None:
    """Return `d` zeros and ones: whether an attacker can change each feature.

    Arguments:
        mutable: the zeros and ones; or the names of the features with a 1; or a text file with
            either, one per line.

    Raises:
        ValueError: for a mask of another length, or an unknown feature.

    >>> mutable_mask(["b"], 2, ["a", "b"]), mutable_mask([1, 1], 2, None)
    ([0, 1], [1, 1])
    """
    if mutable is None:
        return None
    key = "mutable"
    if isinstance(mutable, str | Path):
        key, path = f"mutable in {mutable}", Path(mutable).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"mutable = {str(mutable)!r} is not a file")
        lines = [line.strip() for line in decode(path, readers.read_bytes(path)).splitlines()]
        mutable = [line for line in lines if line]
    values = np.asarray(mutable).reshape(-1).tolist()  # numpy's numbers and booleans as Python's
    entries = [f"{m:g}" if isinstance(m, int | float) else str(m) for m in values]
    if set(entries) <= {"0", "1"}:
        if len(entries) != d:
            counts = f"{len(entries)} entries and the data have {d} features"
            raise ValueError(f"{key} has {counts}: there must be one per feature")
        return [int(m) for m in entries]
    if names is None:
        odd = next(m for m in entries if m not in ("0", "1"))
        why = "since these data name no features"
        raise ValueError(f"{key} has {shorten(odd)}: it must be {d} zeros and ones, {why}")
    if (unknown := next((m for m in entries if m not in names), None)) is not None:
        raise ValueError(did_you_mean(key, unknown[:SHOWN], names))
    if (double := next((m for m in entries if names.count(m) > 1), None)) is not None:
        raise ValueError(f"{key} names {shorten(double)}, as several features are called")
    wanted = set(entries)
    return [int(name in wanted) for name in names]


def column_groups(
    groups: ColumnGroups, names: Sequence[str] | None, splits: Sequence[Inputs]
) -> list[list[int]] | None:
    """Return the column numbers of groups that move together.

    Arguments:
        groups: each the beginning of its names, or a list of names or column numbers.
        splits: the inputs `(n, d)`, to check that a row has at most one column of a group.

    Raises:
        ValueError: for an unknown name, groups that overlap, features that are no bits, or a row
            with two columns of a group.

    >>> x = torch.tensor([[1.0, 0.0, 1.0]])
    >>> column_groups(["os="], ["os=A", "os=B", "root"], [x])
    [[0, 1]]
    """
    if not groups:
        return None
    if isinstance(groups, str):
        raise ValueError(f"groups = {shorten(groups)} is not allowed: it must be a list of groups")
    numbers = [_group_columns(f"groups.{k}", group, names) for k, group in enumerate(groups)]
    check_groups(numbers)
    for x in splits:
        bits = x.unpack() if isinstance(x, PackedBits) else x
        if bits.ndim != 2 or ((bits != 0) & (bits != 1)).any():
            raise ValueError("groups are of binary data: rows of features that are all 0 and 1")
        for k, columns in enumerate(numbers):
            group_numbers([columns], bits.shape[1])  # raises for a column that is not there
            rows = (bits[:, columns].sum(1) > 1).nonzero()[:, 0]
            if len(rows):
                what = f"{len(rows)} rows, the first is {int(rows[0])}, have several columns of it"
                raise ValueError(f"groups.{k}: {what}; of a group at most one may be 1")
    return numbers


def _group_columns(key: str, group: object, names: Sequence[str] | None) -> list[int]:
    """Return the numbers of the columns that a group names."""
    entries = group if isinstance(group, list | tuple) else []
    if entries and all(type(j) is int for j in entries):
        return list(entries)
    if names is None:
        raise ValueError(f"{key} = {shorten(group)}: these data name no features: give numbers")
    if isinstance(group, str) and group:
        columns = [j for j, name in enumerate(names) if name.startswith(group)]
        if len(columns) < 2:
            what = f"{len(columns)} features begin with {shorten(group)}"
            raise ValueError(f"{key}: {what}: a group has two or more")
        return columns
    for name in entries:
        if name not in names:
            raise ValueError(did_you_mean(key, str(name)[:SHOWN], names))
    return [list(names).index(name) for name in entries]


def class_weights(balance: bool | Sequence[float], y: Tensor, classes: int) -> Tensor | None:
    """Return weights `(n,)` of mean 1 that balance the classes; unlabeled rows have weight 1.

    w_i = n / (k·n_c) for sample i of class c, if balance is True.

    Arguments:
        balance: True; or the relative weight of a sample of each class; False returns None.

    >>> class_weights(True, torch.tensor([0, 0, 0, 1]), 2)
    tensor([0.6667, 0.6667, 0.6667, 2.0000])
    """
    if balance is False:
        return None
    labeled = y >= 0
    counts = torch.bincount(y[labeled], minlength=classes).double()
    try:
        given = torch.tensor(balance, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # words, or rows of weights
        given = torch.zeros(0)
    ratio = 1 / counts.clamp_min(1) if balance is True else given
    finite = ratio.shape == (classes,) and ((ratio >= 0) & (ratio < torch.inf)).all()
    ok = bool(finite) and ratio.sum() > 0
    require(ok, "balance", balance, f"true, false, or {classes} weights ≥ 0, one per class")
    mass = (ratio * counts).sum()
    require(mass > 0, "balance", balance, "above 0 for a class that has rows")
    out = torch.ones(len(y), dtype=torch.float64)
    out[labeled] = (ratio * counts.sum() / mass)[y[labeled]]
    return out.float()
