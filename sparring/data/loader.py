"""From a split to batches: on the device, augmented there, the same for the same seed, epoch and number of processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from .. import dist
from ..batch import Batch
from ..part import require
from .augment import Augment
from .source import Split, check

_MIX = 1_000_003


class Loader:
    """Mini-batches of a split.

    On w processes every joint batch of `batch` rows is cut into w equal parts, in rank order; rows that do not divide
    are left out of that batch.

    Arguments:
        batch: rows of the joint batch.
        shuffle: a new order every epoch, drawn from (seed, epoch).
        augment: applied in turn, on the device, with a generator drawn from (seed, epoch).
        device: where batches live; a split that fits is moved there once.
        drop_last: leave out a short last batch.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch: int,
        shuffle: bool,
        seed: int = 0,
        augment: Sequence[Augment] = (),
        device: str | torch.device = "cpu",
        drop_last: bool = False,
    ) -> None:
        require(batch >= 1, "batch", batch, "an integer ≥ 1")
        require(batch % dist.world() == 0, "batch", batch, f"a multiple of the {dist.world()} processes")
        self.split, self.batch, self.shuffle, self.seed = split.to(device), batch, shuffle, seed
        self.augment, self.device, self.drop_last = tuple(augment), torch.device(device), drop_last
        if drop_last and len(split) < batch:
            raise ValueError(f"batch = {batch} is more than the {len(split)} rows of the split: there is no full batch")

    def __len__(self) -> int:
        n = len(self.split)
        return n // self.batch if self.drop_last else -(-n // self.batch)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch; the same for the same number."""
        host = torch.Generator().manual_seed(self.seed * _MIX + number)
        here = torch.Generator(self.device).manual_seed(self.seed * _MIX + number + 1)
        n = len(self.split)
        order = torch.randperm(n, generator=host) if self.shuffle else torch.arange(n)
        for k in range(len(self)):
            rows = _mine(order[k * self.batch : (k + 1) * self.batch]).to(self.device)
            x = self.split.float(rows)
            for piece in self.augment:
                x = piece(x, here)
            yield Batch(x, self.split.y[rows], index=self.split.index[rows])


def _mine(rows: Tensor) -> Tensor:
    w, r = dist.world(), dist.rank()
    b = len(rows) // w
    return rows[r * b : (r + 1) * b] if w > 1 else rows


class Stream:
    """Batches of any `torch.utils.data` data set of `(x, y)` pairs, for what does not fit in memory.

    Has the `epoch` and `len` of `Loader`. Inputs are checked as they come.

    Arguments:
        dataset: map-style or iterable; x a tensor in `bounds` (uint8 is read as value/255), y an integer.
        classes: how many there are.
        workers: reading processes.

    Raises:
        ValueError: while iterating, for samples outside bounds or classes.
    """

    def __init__(
        self,
        dataset: Dataset | IterableDataset,
        *,
        classes: int,
        batch: int,
        shuffle: bool = False,
        seed: int = 0,
        augment: Sequence[Augment] = (),
        device: str | torch.device = "cpu",
        bounds: tuple[float, float] = (0.0, 1.0),
        workers: int = 0,
    ) -> None:
        require(batch >= 1, "batch", batch, "an integer ≥ 1")
        require(batch % dist.world() == 0, "batch", batch, f"a multiple of the {dist.world()} processes")
        self.dataset, self.classes, self.batch, self.shuffle, self.seed = dataset, classes, batch, shuffle, seed
        self.augment, self.device, self.bounds, self.workers = tuple(augment), torch.device(device), bounds, workers

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch)  # type: ignore[arg-type]

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch."""
        generator = torch.Generator().manual_seed(self.seed * _MIX + number)
        here = torch.Generator(self.device).manual_seed(self.seed * _MIX + number + 1)
        shuffle = self.shuffle and not isinstance(self.dataset, IterableDataset)
        batches: Iterable = DataLoader(
            self.dataset, batch_size=self.batch, shuffle=shuffle, generator=generator, num_workers=self.workers
        )
        first = 0
        for x, y in batches:
            y = torch.as_tensor(y).long()
            check("the stream", x, y, self.classes, self.bounds)
            rows = _mine(torch.arange(len(x)))
            x, y = x[rows].to(self.device), y[rows].to(self.device)
            x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
            for piece in self.augment:
                x = piece(x, here)
            yield Batch(x, y, index=first + rows.to(self.device))
            first += self.batch


def from_torch(dataset: Dataset, *, n: int | None = None, classes: int | None = None, bounds=(0.0, 1.0)) -> Split:
    """A split in memory from any `torch.utils.data` data set of `(x, y)` pairs; see `Stream` for what does not fit.

    Arguments:
        n: take the first n samples of an endless iterable.

    >>> from torch.utils.data import TensorDataset
    >>> len(from_torch(TensorDataset(torch.rand(3, 2), torch.tensor([0, 1, 0]))))
    3
    """
    xs, ys = [], []
    for k, (x, y) in enumerate(dataset):  # type: ignore[arg-type]
        if n is not None and k == n:
            break
        xs.append(torch.as_tensor(x))
        ys.append(int(y))
    if not xs:
        raise ValueError("the data set is empty")
    split = Split(torch.stack(xs), torch.tensor(ys))
    check("the data set", split.x, split.y, classes or max(ys) + 1, bounds)
    return split
