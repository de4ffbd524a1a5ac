"""Rows added to every batch: unlabelled ones, rows of another set, or generated ones."""

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
    """Base of pieces that add rows to every batch: `piece(batch, generator)` returns them.

    Draw only from the generator, so that the same (seed, epoch) gives the same rows. If `per` is
    whole, ranks together get what one process would get. Added rows have index −1.

    Arguments:
        per: added rows per row of the batch, ≥ 0; per = f/(1 − f) makes them a fraction f of all.
        weight: of each added row in `Batch.weight`, > 0 (γ of semi-supervised training).
    """

    augmented = False  # whether the loader augments the added rows like the batch's

    def __init__(self, *, per: float = 1.0, weight: float = 1.0) -> None:
        super().__init__()
        require(per >= 0, "per", per, "a number ≥ 0 (added rows per row of the batch)")
        require(weight > 0, "weight", weight, "a number > 0")
        self.per, self.weight = per, weight

    def prepare(self, source: Source, *, device: str | torch.device = "cpu") -> None:
        """Read what the piece needs of the data it adds to; called once, before training."""

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """Return the added rows, `count(batch)` of them."""
        raise NotImplementedError

    def count(self, batch: Batch) -> int:
        """Return the number of rows to add to this batch."""
        return round(self.per * len(batch))

    def rows(self, batch: Batch, x: Tensor, y: Tensor | None = None) -> Batch:
        """Return a batch of added rows; default: unlabelled."""
        unknown = torch.full((len(x),), -1, device=x.device)
        weight = torch.full((len(x),), self.weight, dtype=x.dtype, device=x.device)
        return Batch(x, unknown if y is None else y, weight=weight, index=unknown)


def anchor_rows(batch: Batch, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw `count` row numbers of a batch as evenly as possible: each k times, then the remainder.

    >>> anchor_rows(Batch(torch.zeros(2, 1), torch.zeros(2, dtype=int)), 4)
    tensor([0, 0, 1, 1])
    """
    times, rest = divmod(count, max(len(batch), 1))
    every = torch.arange(len(batch), device=batch.x.device).repeat_interleave(times)
    if not rest:
        return every
    score = distributed.draw("uniform", torch.empty(len(batch), device=batch.x.device), generator)
    return torch.cat([every, score.argsort()[:rest]])


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Return several batches as one, in their order.

    Raises:
        ValueError: if their inputs differ in shape.
    """
    shapes = [tuple(batch.x.shape[1:]) for batch in batches]
    if len(set(shapes)) > 1:
        raise ValueError(f"added rows have shape {shapes[-1]}, the data's have {shapes[0]}")
    columns = {f: [getattr(batch, f) for batch in batches] for f in ("x", "y", "weight", "index")}
    return replace(batches[0], **{f: torch.cat(parts) for f, parts in columns.items()})
