"""Data that do not fit in memory: any `torch.utils.data` data set, read while it is used."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from ..component import require
from .source import Source
from .split import Bounds, Pair, Split, check, fingerprint, unit

Sample = tuple[Tensor, Tensor, Tensor]


class Stream:
    """A split that is read while it is used; made by `from_torch`, taken by `Loader` as any split.

    Samples are pairs of x (a tensor, an array, or a picture of Pillow's; uint8 is value/255) and an
    integer y (-1 is unlabeled); each is checked against bounds and classes as it comes.
    """

    def __init__(
        self, dataset: Dataset, *, classes: int, n: int, bounds: Bounds, workers: int, name: str
    ) -> None:
        self.dataset, self.classes, self.n, self.bounds = dataset, classes, n, bounds
        self.workers, self.name = workers, name

    def __len__(self) -> int:
        return self.n

    @property
    def in_turn(self) -> bool:
        """Whether samples come only in the data set's own order."""
        return isinstance(self.dataset, IterableDataset)

    def to(self, device: str | torch.device) -> Stream:
        """Itself: its batches are moved when they are read."""
        return self

    def subset(self, n: int, seed: int = 0) -> Split:
        """`n` samples in memory: drawn by the seed, or the first ones where they come in turn."""
        require(n >= 1, "n", n, "an integer ≥ 1")
        if self.in_turn:
            return self._memory(torch.arange(min(n, self.n)))
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed))
        return self._memory(order[:n].sort().values)

    def _memory(self, rows: Tensor) -> Split:
        plan = list(rows.split(256))
        x, y, index = (torch.cat(parts) for parts in zip(*self.read(plan, seed=0), strict=True))
        return Split(x, y, index)

    def read(self, plan: Sequence[Tensor], *, seed: int) -> Iterator[Sample]:
        """`(x, y, rows)` for each batch of rows, x float32; `seed` is for the reading processes."""
        source: Any = self.dataset
        draw = torch.Generator().manual_seed(seed)
        how: dict[str, Any] = {
            "collate_fn": collate,
            "num_workers": self.workers,
            "generator": draw,
        }
        if self.in_turn:
            most = max(len(rows) for rows in plan)
            pairs = self._joined(plan, iter(DataLoader(source, batch_size=most, **how)))
        else:
            pairs = iter(DataLoader(source, batch_sampler=_Lists(plan), **how))
        for rows, (x, y) in zip(plan, pairs, strict=True):
            check(self.name, x, y, self.classes, self.bounds)
            yield unit(x), y, rows

    def _joined(self, plan: Sequence[Tensor], chunks: Iterator[Pair]) -> Iterator[Pair]:
        """Rows first..last of each batch out of chunks of any length."""
        held: list[Pair] = []
        first = 0
        for rows in plan:
            start, stop = int(rows[0]), int(rows[-1]) + 1
            while first + sum(len(y) for _, y in held) < stop:
                chunk = next(chunks, None)
                if chunk is None:
                    raise ValueError(f"{self.name} ended before its n = {self.n} samples")
                held.append(chunk)
            x, y = (torch.cat(parts) for parts in zip(*held, strict=True))
            yield x[start - first : stop - first], y[start - first : stop - first]
            held, first = [(x[stop - first :], y[stop - first :])], stop


class _Lists:
    """A plan as `DataLoader` wants it, its rows as integers one batch at a time."""

    def __init__(self, plan: Sequence[Tensor]) -> None:
        self.plan = plan

    def __iter__(self) -> Iterator[list[int]]:
        return map(Tensor.tolist, self.plan)


def collate(samples: list[Any]) -> Pair:
    """A list of (x, y) to one batch.

    Raises:
        ValueError: for samples that are no such pairs, or x of several shapes.
    """
    try:
        pairs = [(x, operator.index(y)) for x, y in samples]
    except (TypeError, ValueError) as error:
        raise ValueError(f"a data set must give pairs (x, integer label): {error}") from None
    xs = [_tensor(x) for x, _ in pairs]
    shapes = sorted({tuple(x.shape) for x in xs})
    if len(shapes) > 1:
        raise ValueError(f"a data set must give x of one shape, not {shapes[0]} and {shapes[1]}")
    return torch.stack(xs), torch.tensor([y for _, y in pairs])


def _tensor(x: Any) -> Tensor:
    if hasattr(x, "getbands"):  # a picture of Pillow's
        a = np.array(x)
        return torch.from_numpy(a[None] if a.ndim == 2 else a.transpose(2, 0, 1).copy())
    try:
        x = torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"a data set must give x of numbers, not a {type(x).__name__}") from None
    return x if x.dtype == torch.uint8 else x.float()


def from_torch(
    dataset: Dataset,
    *,
    classes: int,
    n: int | None = None,
    bounds: Bounds = (0.0, 1.0),
    workers: int = 0,
    name: str = "the data set",
) -> Stream:
    """A split from any `torch.utils.data` data set of (x, y), read while it is used.

    Arguments:
        classes: how many there are.
        n: samples an epoch; needed for an iterable data set without a length.
        workers: reading processes.

    >>> from torch.utils.data import TensorDataset
    >>> len(from_torch(TensorDataset(torch.rand(3, 2), torch.tensor([0, 1, 0])), classes=2))
    3
    """
    length = len(dataset) if hasattr(dataset, "__len__") else None  # type: ignore[arg-type]
    if n is None and length is None:
        raise ValueError("n is needed, samples an epoch: this iterable data set has no length")
    if length == 0:
        raise ValueError(f"{name} is empty")
    require(n is None or n >= 1, "n", n, "an integer ≥ 1")
    require(classes >= 2, "classes", classes, "an integer ≥ 2")
    n = min(v for v in (n, length) if v is not None)
    return Stream(dataset, classes=classes, n=n, bounds=bounds, workers=workers, name=name)


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
    """A source whose train split is read while it is used; validation and test are in memory.

    Arguments:
        classes: how many, or their names.
        val: a data set, or rows (default 1,000) or share of train held out by the seed; for an
            iterable train it must be a data set.
        n: samples an epoch; needed for an iterable train without a length.

    The sha256 is over what is in memory: validation and test.
    """
    names = [str(k) for k in range(classes)] if isinstance(classes, int) else list(classes)

    def stream(dataset: Dataset, part: str, n: int | None = None) -> Stream:
        return from_torch(
            dataset, classes=len(names), n=n, bounds=bounds, workers=workers, name=f"{name} {part}"
        )

    whole = stream(train, "train", n)
    if val is None or isinstance(val, int | float):
        if whole.in_turn:
            raise ValueError("val must be a data set: nothing can be held out of an iterable")
        rows = 1000 if val is None else val
        rows = round(rows * len(whole)) if 0 < rows < 1 else int(rows)
        allowed = f"a data set, or rows or a share of the {len(whole)} of train"
        require(1 <= rows < len(whole), "val", val, allowed)
        order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
        validation = whole._memory(order[:rows].sort().values)
        whole = stream(Subset(train, order[rows:].sort().values.tolist()), "train")
    else:
        part = stream(val, "val")
        validation = part.subset(len(part))
    tested = stream(test, "test")
    tested = tested.subset(len(tested))
    digest = fingerprint(validation.x, validation.y, tested.x, tested.y)
    return Source(name, whole, validation, tested, names, bounds, digest)
