"""Rows that are added to every batch: unlabelled ones, of another set, or made on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..batch import Batch
from ..component import Component, require
from ..runtime import distributed
from .source import Source


class AddedRows(Component):
    """Rows added to every batch: `piece(batch, generator)` gives them as a batch of their own.

    All it draws comes from the generator, so that the same (seed, epoch) gives the same rows; with
    a whole `per`, ranks together get what one process would get. Added rows have index −1.

    Arguments:
        per: rows for each row of the batch, ≥ 0; per = f/(1 − f) makes them a fraction f of all.
        weight: base measure of each of them in `Batch.weight`, > 0 (γ of semi-supervised training).
    """

    stored = False  # whether its rows are data, to be augmented as the batch's own were

    def __init__(self, *, per: float = 1.0, weight: float = 1.0) -> None:
        super().__init__()
        require(per >= 0, "per", per, "a number ≥ 0 of rows for each row of the batch")
        require(weight > 0, "weight", weight, "a number > 0")
        self.per, self.weight = per, weight

    def attach(self, source: Source, *, device: str | torch.device = "cpu") -> None:
        """Look at the data it will add to; called once, before training."""

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """The added rows, `count(batch)` of them."""
        raise NotImplementedError

    def count(self, batch: Batch) -> int:
        """How many rows it adds to this batch."""
        return round(self.per * len(batch))

    def rows(self, batch: Batch, x: Tensor, y: Tensor | None = None) -> Batch:
        """A batch of added rows; unlabelled when y is omitted."""
        none = torch.full((len(x),), -1, device=x.device)
        weight = torch.full((len(x),), self.weight, dtype=x.dtype, device=x.device)
        return Batch(x, none if y is None else y, weight=weight, index=none)


def anchors(batch: Batch, count: int, generator: torch.Generator | None = None) -> Tensor:
    """`count` of a batch's rows as evenly as it goes: all k times, the rest drawn.

    >>> anchors(Batch(torch.zeros(2, 1), torch.zeros(2, dtype=int)), 4)
    tensor([0, 0, 1, 1])
    """
    times, rest = divmod(count, max(len(batch), 1))
    every = torch.arange(len(batch), device=batch.x.device).repeat_interleave(times)
    if not rest:
        return every
    score = distributed.draw("uniform", torch.empty(len(batch), device=batch.x.device), generator)
    return torch.cat([every, score.argsort()[:rest]])


def joined(batches: Sequence[Batch]) -> Batch:
    """Several batches as one, the first one's rows first.

    Raises:
        ValueError: if their inputs differ in shape.
    """
    shapes = {tuple(batch.x.shape[1:]) for batch in batches}
    if len(shapes) > 1:
        own, other = (tuple(b.x.shape[1:]) for b in (batches[0], batches[-1]))
        raise ValueError(f"added rows have shape {other}, the data's have {own}")
    fields = ("x", "y", "weight", "index")
    together = {f: torch.cat([getattr(batch, f) for batch in batches]) for f in fields}
    return replace(batches[0], **together)
