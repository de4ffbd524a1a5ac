"""Data that do not fit in memory: any `torch.utils.data` data set or iterable, read as the batches are needed."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from ..part import require
from .source import Source
from .split import Bounds, Pair, Split, check, fingerprint, hold_out, unit

Sample = tuple[Tensor, Tensor, Tensor]


class Stream:
    """A split that is read while it is used; made by `from_torch`, taken by `Loader` as any split.

    Samples are pairs of x (a tensor, an array, or a picture of Pillow's; uint8 is read as value/255) and an integer y
    (-1 is unlabeled); each is checked against the bounds and classes as it comes.
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

    def to(self, device: str | torch.device) -> Self:
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
        how = {} if self.in_turn else {"batch_sampler": map(Tensor.tolist, plan)}
        chunks: Iterable[Pair] = DataLoader(
            source,
            **(how or {"batch_size": max((len(rows) for rows in plan), default=1)}),
            collate_fn=collate,
            num_workers=self.workers,
            generator=torch.Generator().manual_seed(seed),
        )
        pairs = self._joined(plan, iter(chunks)) if self.in_turn else chunks
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
                    raise ValueError(f"{self.name} ended before its {self.n} samples; give a smaller n")
                held.append(chunk)
            x, y = (torch.cat(parts) for parts in zip(*held, strict=True))
            yield x[start - first : stop - first], y[start - first : stop - first]
            held, first = [(x[stop - first :], y[stop - first :])], stop


def collate(samples: list[Any]) -> Pair:
    """A list of (x, y) to one batch.

    Raises:
        ValueError: for samples that are no such pairs, labels that are no integers, or x of several shapes.
    """
    try:
        pairs = [(x, operator.index(y)) for x, y in samples]
    except (TypeError, ValueError) as error:
        raise ValueError(f"a data set must give pairs of x and an integer label ({error})") from None
    xs = [_tensor(x) for x, _ in pairs]
    shapes = sorted({tuple(x.shape) for x in xs})
    if len(shapes) > 1:
        raise ValueError(f"a data set must give x of one shape, not {shapes[0]} and {shapes[1]}")
    return torch.stack(xs), torch.tensor([y for _, y in pairs])


def _tensor(x: Any) -> Tensor:
    if hasattr(x, "getbands"):  # a picture of Pillow's
        a = np.array(x)
        return torch.from_numpy(a[None] if a.ndim == 2 else a.transpose(2, 0, 1).copy())
    x = torch.as_tensor(x)
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
        raise ValueError("n = None is not allowed: an iterable data set without a length needs n, samples an epoch")
    n = n if length is None or n is None else min(n, length)
    require(classes >= 2, "classes", classes, "an integer ≥ 2")
    require(n is not None and n >= 1, "n", n, "≥ 1: the data set is empty")
    assert n is not None
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
    """A source whose train split is read while it is used; validation and test are read into memory.

    Arguments:
        classes: how many, or their names.
        val: a data set, or rows (default 1,000) or share of train held out by the seed; an iterable train needs a data set.
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
            raise ValueError("val must be a data set of its own where train is an iterable: nothing can be held out")
        rows = 1000 if val is None else val
        rows = round(rows * len(whole)) if 0 < rows < 1 else int(rows)
        require(1 <= rows < len(whole), "val", val, f"a data set, or rows or a share of the {len(whole)} of train")
        kept, held = hold_out(torch.zeros(len(whole), dtype=torch.long), rows, torch.Generator().manual_seed(seed))
        validation = whole._memory(held)
        whole = stream(Subset(train, kept.tolist()), "train")
    else:
        part = stream(val, "val")
        validation = part.subset(len(part))
    tested = stream(test, "test")
    tested = tested.subset(len(tested))
    digest = fingerprint(validation.x, validation.y, tested.x, tested.y)
    return Source(name, whole, validation, tested, names, bounds, digest)
