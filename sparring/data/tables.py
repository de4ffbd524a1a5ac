"""Tables of features: bits from a csv, repeated rows, masks of what may change, class weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..component import did_you_mean, require
from . import readers
from .layouts import Checks, Raw
from .packed import binary
from .readers import Arrays

Mask = str | Path | Sequence[int] | Sequence[str] | None
MISSING = b"?"


@dataclass(frozen=True)
class Flags:
    """The layout of one csv of bits, gzipped or not: a header, cells 0, 1 or `?`, the label last.

    Arguments:
        file: its name, without `.gz`.
        labels: the words of the label column, each to its class.
    """

    file: str
    labels: Mapping[str, int]

    def __call__(self, place: Path, checks: Checks) -> Raw | None:
        paths = [place / (self.file + end) for end in (".gz", "")]
        path = next((p for p in paths if p.is_file()), None)
        if path is None:
            return None
        content = readers.raw(path)
        if self.file in checks:
            readers.verify(path, content, checks[self.file])
        x, y, names, missing = bits(path, content, self.labels)
        note = f"{missing} rows with a missing cell (?) dropped"
        notes = (note,) if missing else ()
        return Raw((x, y), features=names, unique=True, shares=(0.2, 0.2), notes=notes)


def bits(
    path: Path, content: bytes, labels: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray, list[str], int]:
    """A csv of bits: features uint8 `(n, d)`, labels, feature names, how many rows were dropped.

    A row with a `?` is dropped: nobody knows what the program has there.

    Raises:
        ValueError: for another cell, a row of another length, or a label without a class.
    """
    header, *lines = content.decode("utf-8-sig", "replace").encode().splitlines()
    names = [name.decode().strip() for name in header.split(b",")[:-1]]
    x, y = np.empty((len(lines), len(names)), np.uint8), np.empty(len(lines), np.int64)
    kept = 0
    for k, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        head, _, label = line.rpartition(b",")
        cells = np.frombuffer(head, np.uint8)
        if len(cells) != 2 * len(names) - 1 or (cells[1::2] != ord(",")).any():
            raise ValueError(f"{path}, row {k}: not {len(names)} cells of one character each")
        if MISSING in head:
            continue
        x[kept] = cells[::2] - ord("0")
        if x[kept].max(initial=0) > 1:
            odd = chr(int(cells[::2][x[kept] > 1][0]))
            raise ValueError(f"{path}, row {k}: a cell is {odd!r}, not 0, 1 or ?")
        word = label.decode().strip()
        if word not in labels:
            known = ", ".join(labels)
            raise ValueError(f"{path}, row {k}: the label is {word!r}, it must be one of {known}")
        y[kept] = labels[word]
        kept += 1
    rows = sum(bool(line.strip()) for line in lines)
    return x[:kept].copy(), y[:kept].copy(), names, rows - kept


def distinct(x: np.ndarray, y: np.ndarray) -> tuple[Arrays, tuple[str, ...]]:
    """Rows with other features than all before them, without those whose labels disagree; notes.

    >>> (x, y), notes = distinct(np.array([[0, 1], [0, 1], [1, 1], [1, 1]]), np.array([0, 0, 0, 1]))
    >>> x.tolist(), y.tolist(), notes[0]
    ([[0, 1]], [0], '2 rows dropped: the same features with different labels')
    """
    flat = np.packbits(x != 0, axis=1) if x.ndim == 2 and binary(x) else x.reshape(len(x), -1)
    flat = np.ascontiguousarray(flat + flat.dtype.type(0))  # -0.0 is 0.0
    width = flat.dtype.itemsize * flat.shape[1]
    keys = flat.view(np.dtype((np.void, width)))
    _, first, group = np.unique(keys[:, 0], return_index=True, return_inverse=True)
    least, most = np.full(len(first), np.iinfo(np.int64).max), np.full(len(first), -2)
    labels = y.astype(np.int64)
    np.minimum.at(least, group, labels)
    np.maximum.at(most, group, labels)
    torn = least != most
    rows = np.sort(first[~torn])
    lost = int(torn[group].sum())
    notes = (
        f"{lost} rows dropped: the same features with different labels",
        f"{len(y) - lost - len(rows)} rows dropped: the same as another row",
    )
    return (x[rows], y[rows]), notes


def mask(mutable: Mask, d: int, names: Sequence[str] | None) -> list[int] | None:
    """`d` zeros and ones, the features an attacker can change.

    Arguments:
        mutable: these zeros and ones; or the names of the features with a 1; or a text file with
            either, one a line.

    Raises:
        ValueError: for a mask of another length, or an unknown feature.

    >>> mask(["b"], 2, ["a", "b"]), mask([1, 1], 2, None)
    ([0, 1], [1, 1])
    """
    if mutable is None:
        return None
    said = "mutable"
    if isinstance(mutable, str | Path):
        said, path = f"mutable in {mutable}", Path(mutable).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"mutable = {str(mutable)!r} is no file")
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        mutable = [line for line in lines if line]
    entries = [f"{m:g}" if isinstance(m, int | float) else str(m) for m in mutable]
    if set(entries) <= {"0", "1"}:
        if len(entries) != d:
            raise ValueError(
                f"{said} has {len(entries)} entries and the data have {d} features: "
                "there must be one a feature"
            )
        return [int(m) for m in entries]
    if names is None:
        odd = next(m for m in entries if m not in ("0", "1"))
        raise ValueError(
            f"{said} has {odd!r}: it must be {d} zeros and ones, since these data name no features"
        )
    unknown = next((m for m in entries if m not in names), None)
    if unknown is not None:
        raise ValueError(did_you_mean(said, unknown, names))
    wanted = set(entries)
    return [int(name in wanted) for name in names]


def weights(balance: bool | Sequence[float], y: Tensor, classes: int) -> Tensor | None:
    """Weights `(n,)` of mean 1: for True every class has the same mass; or a mass a sample, class
    by class. Unlabeled rows have weight 1; False is None.

    True: w_i = n / (k·n_c) for sample i of class c.

    >>> weights(True, torch.tensor([0, 0, 0, 1]), 2)
    tensor([0.6667, 0.6667, 0.6667, 2.0000])
    """
    if balance is False:
        return None
    labeled = y >= 0
    counts = torch.bincount(y[labeled], minlength=classes).double()
    own = 1 / counts.clamp_min(1) if balance is True else torch.tensor(balance, dtype=torch.float64)
    ok = own.shape == (classes,) and bool(((own >= 0) & (own < torch.inf)).all()) and own.sum() > 0
    require(ok, "balance", balance, f"true, false, or {classes} weights ≥ 0, one a class")
    mass = (own * counts).sum()
    require(mass > 0, "balance", balance, "above 0 for a class that has rows")
    out = torch.ones(len(y), dtype=torch.float64)
    out[labeled] = (own * counts.sum() / mass)[y[labeled]]
    return out.float()
