"""From a split to batches on the device, the same for the same seed and epoch on any processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..runtime import distributed
from .added_rows import AddedRows, joined
from .augment import Augment
from .split import Split
from .stream import Stream


class Loader:
    """Mini-batches of a split, by epochs.

    On w processes rank r gets rows [r·b/w, (r+1)·b/w) of every joint batch; of a short last batch,
    what does not divide by w is left out.

    Arguments:
        split: in memory (moved to the device once), or a `Stream`; an iterable one comes in its
            own order.
        batch_size: rows of the joint batch.
        shuffle: a new order every epoch, drawn from (seed, epoch).
        augment: applied in turn on the device, drawn from (seed, epoch).
        drop_last: leave out a short last batch.
        mix: pieces that add rows to every batch, drawn from (seed, epoch) too; see `mix`.

    >>> loader = Loader(Split(torch.rand(5, 2), torch.zeros(5).long()), batch_size=2, shuffle=True)
    >>> len(loader), [len(batch) for batch in loader.epoch(1)]
    (3, [2, 2, 1])
    """

    def __init__(
        self,
        split: Split | Stream,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        augment: Sequence[Augment] = (),
        device: str | torch.device = "cpu",
        drop_last: bool = False,
        mix: Sequence[AddedRows] = (),
    ) -> None:
        world = distributed.world()
        require(batch_size >= 1, "batch_size", batch_size, "an integer ≥ 1")
        require(
            batch_size % world == 0,
            "batch_size",
            batch_size,
            f"a multiple of the {world} processes",
        )
        self.split, self.batch_size = split.to(device), batch_size
        self.shuffle, self.seed = shuffle, seed
        self.augment, self.device, self.drop_last = tuple(augment), torch.device(device), drop_last
        self.mix = tuple(mix)
        if not len(self):
            least = batch_size if drop_last else world
            raise ValueError(f"the split has {len(split)} rows: a batch takes at least {least}")

    def __len__(self) -> int:
        full, rest = divmod(len(self.split), self.batch_size)
        return full + (rest >= distributed.world() and not self.drop_last)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch, counted from any number; the same for the same number."""
        draw = self._generator(number, 1, self.device)
        for x, y, index, weight in self._samples(number):
            batch = Batch(self._augmented(x, draw), y, index=index)
            batch = batch if weight is None else replace(batch, weight=weight)
            yield joined([batch, *self._added(batch, draw)]) if self.mix else batch

    def _augmented(self, x: Tensor, draw: torch.Generator) -> Tensor:
        for piece in self.augment:
            x = piece(x, draw)
        return x

    def _added(self, batch: Batch, draw: torch.Generator) -> Iterator[Batch]:
        """The rows that each piece adds."""
        for piece in self.mix:
            more = piece(batch, draw)
            yield replace(more, x=self._augmented(more.x, draw)) if piece.stored else more

    def _samples(self, number: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        n, split = len(self.split), self.split
        shuffled = self.shuffle and not (isinstance(split, Stream) and split.in_turn)
        draw = self._generator(number, 0, "cpu")
        order = torch.randperm(n, generator=draw) if shuffled else torch.arange(n)
        if isinstance(split, Stream):
            for sample in split.read(self._plan(order), seed=draw.initial_seed()):
                x, y, rows = (t.to(self.device) for t in sample)
                yield x, y, rows, None
        else:
            for rows in self._plan(order.to(self.device)):
                weight = None if split.weight is None else split.weight[rows]
                yield split.float(rows), split.y[rows], split.index[rows], weight

    def _plan(self, order: Tensor) -> list[Tensor]:
        """This rank's rows of every joint batch."""
        world, rank = distributed.world(), distributed.rank()
        joint = order.split(self.batch_size)[: len(self)]
        return [rows[rank * (b := len(rows) // world) : (rank + 1) * b] for rows in joint]

    def _generator(self, number: int, purpose: int, device: str | torch.device) -> torch.Generator:
        seed = (self.seed * 1_000_003 + number) * 2 + purpose
        return torch.Generator(device).manual_seed(seed % 2**63)
