"""Samples in memory: check them, fingerprint them, and split them by a seed."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..component import require, require_at_least
from .labels import class_numbers, is_class_numbers
from .packed import PackedBits

Bounds = tuple[float, float]
Inputs = Tensor | PackedBits
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Split:
    """Samples of one split, stored as read: uint8 or packed bits become float32 in the batch.

    Arguments:
        x: `(n, *d)`, uint8 (read as value/255), float32 in the source's bounds, or packed bits.
        y: `(n,)` int64, or other integers, which are converted; -1 is unlabeled.
        index: row of each sample in the data as read `(n,)`; default: 0..n-1.
        weight: base measure `(n,)` float32, each sample's `Batch.weight`; default: ones.

    >>> split = Split(torch.tensor([[0], [255]], dtype=torch.uint8), torch.tensor([0, 1]))
    >>> split.float(), split.subset(1).y.shape
    (tensor([[0.], [1.]]), torch.Size([1]))
    """

    x: Inputs
    y: Tensor
    index: Tensor = None  # type: ignore[assignment]
    weight: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.x, Tensor | PackedBits):
            object.__setattr__(self, "x", as_inputs(self.x))
        if not is_class_numbers(self.y):
            object.__setattr__(self, "y", class_numbers("y", self.y))
        if self.index is None:
            object.__setattr__(self, "index", torch.arange(len(self.x), device=self.x.device))

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        """Return size and shape; the rows themselves would fill pages."""
        kind = str(getattr(self.x, "dtype", "bits")).removeprefix("torch.")
        return f"Split({len(self):,} samples of shape {tuple(self.x.shape[1:])}, {kind})"

    def to(self, device: str | torch.device) -> Split:
        """Return the split on a device."""
        weight = None if self.weight is None else self.weight.to(device)
        return Split(self.x.to(device), self.y.to(device), self.index.to(device), weight)

    def take(self, rows: slice | Tensor) -> Split:
        """Return some of the rows."""
        weight = None if self.weight is None else self.weight[rows]
        return Split(self.x[rows], self.y[rows], self.index[rows], weight)

    def subset(self, n: int, seed: int = 0, *, first: bool = False) -> Split:
        """Draw `n` rows by the seed (all, if there are fewer), and return them in their order;
        or return the first `n`."""
        require_at_least(1, n=n)
        return self.take(chosen_rows(len(self), n, seed, first=first).to(self.x.device))

    def float(self, rows: slice | Tensor | None = None) -> Tensor:
        """Return inputs `(b, *d)` as float32, in the source's bounds."""
        return to_float32(self.x if rows is None else self.x[rows])


def as_inputs(x: Any) -> Tensor:
    """Return inputs `(n, *d)` as a tensor that a `Split` stores, for numbers of any kind."""
    try:
        x = torch.as_tensor(x).detach()
    except (TypeError, ValueError, RuntimeError):
        kind = getattr(x, "dtype", type(x).__name__)
        raise ValueError(f"x is {kind}: inputs must be numbers (n, *d), of one shape") from None
    if x.ndim < 2 or x.is_complex():
        kind = str(x.dtype).removeprefix("torch.")
        raise ValueError(f"x is {kind} of shape {tuple(x.shape)}: inputs must be numbers (n, *d)")
    return x


def chosen_rows(total: int, n: int, seed: int, *, first: bool = False) -> Tensor:
    """Return `n` of the rows 0 to `total` - 1 in their order: drawn by the seed, or the first."""
    if first:
        return torch.arange(min(n, total))
    # int(): PyTorch takes no seed that is numpy's integer
    order = torch.randperm(total, generator=torch.Generator().manual_seed(int(seed)))
    return order[: int(n)].sort().values


def are_flags(x: Tensor | np.ndarray) -> bool:
    """Return whether inputs are uint8 and all 0 and 1: flags, not almost black pixels.

    >>> [are_flags(torch.tensor(x, dtype=torch.uint8)) for x in ([[0, 1]], [[0, 2]])]
    [True, False]
    """
    if x.dtype not in (torch.uint8, np.uint8):
        return False
    return math.prod(x.shape) == 0 or int(x.max()) <= 1


def to_float32(x: Inputs) -> Tensor:
    """Return stored inputs as float32: uint8 as value/255, bits as 0 and 1."""
    if isinstance(x, PackedBits):
        return x.unpack()
    return x.to(torch.float32).div_(255) if x.dtype == torch.uint8 else x.to(torch.float32)


def check_samples(
    what: str, x: Inputs, y: Tensor, classes: int, bounds: Bounds = (0.0, 1.0)
) -> None:
    """Raise `ValueError` unless x and y are labeled samples inside the bounds."""
    check_labels(what, x, y, classes)
    low, high = bounds
    if isinstance(x, PackedBits) or x.dtype == torch.uint8:
        packed = isinstance(x, PackedBits)
        why = "these features are bits" if packed else "uint8 inputs are read as value/255"
        require(low <= 0 and high >= 1, "bounds", bounds, f"around 0 and 1: {why}")
        return
    least, greatest = (float(v) for v in torch.aminmax(x))  # NaN if any value is
    if not (least > -torch.inf and greatest < torch.inf):
        wrong = (~torch.isfinite(x)).flatten(1).any(1).nonzero()[:, 0].tolist()
        where = f"in {len(wrong)} rows, the first is {wrong[0]}"
        raise ValueError(f"{what} has NaN or infinite values {where}")
    slack = 1e-6 * (high - low)  # scaling to [0, 1] in float32 may overshoot by rounding
    if least < low - slack or greatest > high + slack:
        how = "scale the inputs to them or set other bounds, and put normalisation into the model"
        reach = f"from {least:.4g} to {greatest:.4g}, its bounds are [{low:g}, {high:g}]"
        raise ValueError(f"{what} reaches {reach}: {how}")


def check_labels(what: str, x: Inputs, y: Tensor, classes: int) -> None:
    """Raise `ValueError` unless y has one label for each of one or more samples, of the classes."""
    if len(x) != len(y):
        raise ValueError(f"{what} has {len(x)} samples and {len(y)} labels")
    if math.prod(x.shape) == 0:
        raise ValueError(f"{what} is empty: x is {tuple(x.shape)}")
    first, last = int(y.min()), int(y.max())
    if first < -1 or last >= classes:
        allowed = f"with {classes} classes they must be 0 to {classes - 1}, or -1 for unlabeled"
        raise ValueError(f"{what} has labels from {first} to {last}: {allowed}")


def fingerprint(*tensors: Inputs) -> str:
    """Return the sha256 over shapes, types and bytes."""
    digest = hashlib.sha256()
    for t in tensors:
        kind = "bits" if isinstance(t, PackedBits) else t.dtype
        digest.update(f"{tuple(t.shape)} {kind} ".encode())
        t = t.bits if isinstance(t, PackedBits) else t
        digest.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hold_out(y: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw `n` rows to hold out, each class in its proportion; return (kept rows, held-out rows).

    Class c gives n·count_c/total rows, rounded by the largest remainders. Unlabeled rows are kept.

    >>> y = torch.tensor([0, 0, 0, 0, 1, 1, -1])
    >>> kept, out = hold_out(y, 3, torch.Generator().manual_seed(0))
    >>> len(kept), torch.bincount(y[out]).tolist()
    (4, [2, 1])
    """
    order = torch.randperm(len(y), generator=generator)
    order = order[y[order] >= 0]
    counts = torch.bincount(y[order])
    share = counts.double() * n / max(1, len(order))
    quota = share.floor().long()
    quota[(quota - share).argsort(stable=True)[: n - int(quota.sum())]] += 1
    # sort the random order by class; the first quota[c] rows of class c are held out
    order = order[y[order].argsort(stable=True)]
    position = torch.arange(len(order)) - (counts.cumsum(0) - counts)[y[order]]
    out = order[position < quota[y[order]]].sort().values
    kept = torch.ones(len(y), dtype=torch.bool)
    kept[out] = False
    return kept.nonzero()[:, 0], out


def withhold_labels(
    split: Split, n: int, classes: int, generator: torch.Generator
) -> tuple[Split, Split]:
    """Keep `n` labels, each class in its proportion; return those rows, and the others unlabelled.

    Raises:
        ValueError: unless n leaves each class a label.

    >>> split = Split(torch.rand(6, 2), torch.tensor([0, 0, 0, 0, 1, 1]))
    >>> few, rest = withhold_labels(split, 3, 2, torch.Generator().manual_seed(0))
    >>> few.y.tolist(), rest.y.tolist()
    ([0, 0, 1], [-1, -1, -1])
    """
    every = int((split.y >= 0).sum())
    require(classes <= n <= every, "labels", n, f"{classes}, one per class, to {every} rows")
    others, few = (split.take(rows) for rows in hold_out(split.y, n, generator))
    rarest = int(torch.bincount(few.y, minlength=classes).min())
    require(rarest > 0, "labels", n, "larger: some class would have no label")
    return few, Split(others.x, torch.full_like(others.y, -1), others.index)
