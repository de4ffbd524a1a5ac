"""What a data set is here: three splits of tensors with their bounds, classes and fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..part import require


@dataclass(frozen=True)
class Split:
    """Samples of one split, stored as they came (`uint8` stays `uint8` until the batch).

    Arguments:
        x: `(n, *d)`, uint8 (read as value/255) or float32 inside `bounds`.
        y: `(n,)` int64; -1 is unlabeled.
        index: row of each sample in its data set; 0..n-1 when omitted.
    """

    x: Tensor
    y: Tensor
    index: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.index is None:
            object.__setattr__(self, "index", torch.arange(len(self.x)))

    def __len__(self) -> int:
        return len(self.x)

    def float(self, rows: slice | Tensor | None = None) -> Tensor:
        """Inputs `(b, *d)` as float32, in the source's bounds."""
        x = self.x if rows is None else self.x[rows]
        return x.float() / 255 if x.dtype == torch.uint8 else x.float()

    def to(self, device: str | torch.device) -> Split:
        """The same samples on a device."""
        return Split(self.x.to(device), self.y.to(device), self.index.to(device))

    def take(self, rows: slice | Tensor) -> Split:
        """Some of the rows."""
        return Split(self.x[rows], self.y[rows], self.index[rows])

    def subset(self, n: int, seed: int = 0) -> Split:
        """`n` rows drawn without replacement, the same for the same seed."""
        require(1 <= n, "n", n, "an integer ≥ 1")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.take(order[:n].sort().values.to(self.x.device))


@dataclass(frozen=True)
class Source:
    """A data set: name, splits, bounds of the inputs, classes, and the sha256 of its content."""

    name: str
    train: Split
    val: Split
    test: Split
    class_names: list[str]
    bounds: tuple[float, float] = (0.0, 1.0)
    sha256: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self.train.x.shape[1:])

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.class_names)

    def to(self, device: str | torch.device) -> Source:
        """The same source with every split on a device."""
        return replace(self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device))


def fingerprint(*tensors: Tensor) -> str:
    """sha256 over shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for t in tensors:
        digest.update(f"{tuple(t.shape)}{t.dtype}".encode())
        digest.update(t.contiguous().numpy().tobytes())
    return digest.hexdigest()


def make(
    name: str,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor] | None,
    *,
    classes: list[str] | None = None,
    val: float | None = None,
    seed: int = 0,
    bounds: tuple[float, float] = (0.0, 1.0),
    limit: int | None = None,
) -> Source:
    """A checked source: a seeded validation split is always held out of train, and a test split (15 %) if there is none.

    Arguments:
        val: rows (≥ 1) or a share (< 1) of train; 10 %, at most 5,000, when omitted.
        limit: keep only this many training rows, drawn by the seed.

    Raises:
        ValueError: for NaN, values outside the bounds, labels outside the classes, or a split that would be empty.
    """
    names = classes or [str(k) for k in range(int(train[1].max()) + 1 if len(train[1]) else 0)]
    for part, (x, y) in {"train": train, **({"test": test} if test else {})}.items():
        check(f"{name} {part}", x, y, len(names), bounds)
    digest = fingerprint(*train, *(test or ()))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train[0]), generator=generator)
    held = 0 if test else max(1, round(0.15 * len(order)))
    n = _rows(val, len(order) - held)
    require(len(order) - held - n >= 1, "val", val, f"smaller: {name} has {len(order)} rows and train would be empty")
    whole = Split(*train)
    tested = Split(*test) if test else whole.take(order[:held].sort().values)
    chosen = order[held + n :]
    if limit is not None:
        require(limit >= 1, "limit", limit, "an integer ≥ 1")
        chosen = chosen[:limit]
    return Source(
        name,
        train=whole.take(chosen.sort().values),
        val=whole.take(order[held : held + n].sort().values),
        test=tested,
        class_names=names,
        bounds=bounds,
        sha256=digest,
    )


def _rows(val: float | None, n: int) -> int:
    if val is None:
        return min(5000, max(1, n // 10))
    require(val > 0, "val", val, "a number of rows ≥ 1, or a share of train below 1")
    return max(1, round(val * n)) if val < 1 else int(val)


def check(what: str, x: Tensor, y: Tensor, classes: int, bounds: tuple[float, float]) -> None:
    """Raise a clear `ValueError` unless these are samples of a classification problem inside the bounds."""
    if len(x) == 0:
        raise ValueError(f"{what} is empty")
    if len(x) != len(y):
        raise ValueError(f"{what} has {len(x)} samples and {len(y)} labels")
    if y.min() < -1 or y.max() >= classes:
        raise ValueError(
            f"{what} has labels from {y.min()} to {y.max()}: with {classes} classes they must be 0 to {classes - 1} "
            "(-1 for unlabeled)"
        )
    if x.dtype == torch.uint8:
        return
    if not torch.isfinite(x).all():
        raise ValueError(f"{what} has NaN or infinite values in {int((~torch.isfinite(x)).flatten(1).any(1).sum())} rows")
    low, high = bounds
    if x.min() < low - 1e-6 or x.max() > high + 1e-6:
        raise ValueError(
            f"{what} reaches from {x.min():.4g} to {x.max():.4g}, its bounds are [{low}, {high}]: "
            "scale the data there, and put normalisation into the model"
        )
