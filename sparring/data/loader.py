"""Batches of a split on the device: the same for a seed and epoch, on any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..runtime import distributed
from .added_rows import AddedRows, concatenate
from .augment import Augment
from .split import Split
from .stream import Stream


class Loader:
    """Mini-batches of a split, epoch by epoch.

    On w processes rank r gets rows [r·b/w, (r+1)·b/w) of every joint batch. A short last batch
    loses the rows that do not divide by w.

    Arguments:
        split: in memory (moved to the device once), or a `Stream`; an iterable one keeps its own
            order.
        batch_size: rows of the joint batch, over all processes.
        shuffle: draw a new order every epoch, from (seed, epoch).
        augment: applied in this order on the device, drawn from (seed, epoch).
        drop_last: leave out a short last batch.
        mix: pieces that add rows to every batch, drawn from (seed, epoch); see `AddedRows`.
        least_rows: that a process needs of a batch; a last one with fewer joins the one before.
        follow_pixels: note in `batch.extra["pixel"]`, `(b, h, w)`, from which pixel of its image
            augmentation took each, counted from 1; 0 where it filled with zeros. Only pieces whose
            `places` are moved count; x and the draws stay as they are. Not for added rows.

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
        least_rows: int = 1,
        follow_pixels: bool = False,
    ) -> None:
        world = distributed.world()
        require(batch_size >= 1, "batch_size", batch_size, "an integer ≥ 1")
        divides = batch_size % world == 0
        require(divides, "batch_size", batch_size, f"a multiple of the {world} processes")
        self.split, self.batch_size, self.seed = split.to(device), batch_size, seed
        self.shuffle, self.drop_last, self.device = shuffle, drop_last, torch.device(device)
        self.augment, self.mix = tuple(augment), tuple(mix)
        self.follow_pixels = follow_pixels and any(p.places == "moved" for p in self.augment)
        if mix and (mixing := [piece for piece in augment if piece.mixes_labels]):
            raise ValueError(f"augment has {mixing[0]}: mixed labels need batches without mix")
        least = least_rows * world
        enough = batch_size >= least
        require(enough, "batch_size", batch_size, f"{least} or more, as this model needs")
        full, rest = divmod(len(self.split), batch_size)
        self._joins_last = bool(full) and world <= rest < least and not drop_last
        if not len(self) or len(split) < least:
            least = batch_size if drop_last else least
            raise ValueError(f"the split has {len(split)} rows: a batch takes at least {least}")

    def __len__(self) -> int:
        full, rest = divmod(len(self.split), self.batch_size)
        has_last = rest >= distributed.world() and not (self.drop_last or self._joins_last)
        return full + has_last

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; the same number gives the same batches."""
        # one generator for augmentation and added rows: a resumed run replays the same draws
        generator = self._generator(number, 1, self.device)
        for x, y, index, weight in self._samples(number):
            if self.follow_pixels:
                x, y, pixel = self._followed(x, y, generator)
                batch = Batch(x, y, index=index, extra={"pixel": pixel})
            else:
                batch = Batch(*self._augmented(x, y, generator), index=index)
            batch = batch if weight is None else replace(batch, weight=weight)
            yield concatenate([batch, *self._added(batch, generator)]) if self.mix else batch

    def _augmented(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        for piece in self.augment:
            x, y = piece.apply_to(x, y, generator)
        return x, y

    def _followed(
        self, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return augmented rows as `_augmented`, and the pixel that each pixel was."""
        h, w = x.shape[2:]
        numbers = torch.arange(1, h * w + 1, device=x.device, dtype=x.dtype)
        pixel = numbers.reshape(1, 1, h, w).expand(len(x), 1, h, w)
        for piece in self.augment:
            if piece.places == "moved":  # draws are per image: one more channel changes none
                both, y = piece.apply_to(torch.cat([x, pixel], 1), y, generator)
                x, pixel = both[:, :-1].contiguous(), both[:, -1:]
            else:
                x, y = piece.apply_to(x, y, generator)
        return x, y, pixel[:, 0].long()

    def _added(self, batch: Batch, generator: torch.Generator) -> Iterator[Batch]:
        for piece in self.mix:
            rows = piece(batch, generator)
            if piece.augmented:
                x, y = self._augmented(rows.x, rows.y, generator)
                rows = replace(rows, x=x, y=y)
            yield rows

    def _samples(self, number: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        n, split = len(self.split), self.split
        shuffled = self.shuffle and not (isinstance(split, Stream) and split.sequential)
        # drawn on the CPU, so that the order is the same on every device
        generator = self._generator(number, 0, "cpu")
        order = torch.randperm(n, generator=generator) if shuffled else torch.arange(n)
        if isinstance(split, Stream):
            for sample in split.read(self._rank_rows(order), seed=generator.initial_seed()):
                x, y, rows = (t.to(self.device) for t in sample)
                yield x, y, rows, None
        else:
            for rows in self._rank_rows(order.to(self.device)):
                weight = None if split.weight is None else split.weight[rows]
                yield split.float(rows), split.y[rows].long(), split.index[rows], weight

    def _rank_rows(self, order: Tensor) -> list[Tensor]:
        """Return this rank's rows of every joint batch."""
        world, rank = distributed.world(), distributed.rank()
        joint = list(order.split(self.batch_size))
        if self._joins_last:
            joint[-2:] = [torch.cat(joint[-2:])]
        del joint[len(self) :]
        return [rows[rank * (b := len(rows) // world) : (rank + 1) * b] for rows in joint]

    def _generator(self, number: int, purpose: int, device: str | torch.device) -> torch.Generator:
        # not seeding.derive_seed: another seed would move every published run's order
        seed = (self.seed * 1_000_003 + number) * 2 + purpose
        return torch.Generator(device).manual_seed(seed % 2**63)
