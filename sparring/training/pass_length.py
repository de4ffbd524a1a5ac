"""A training of a number of passes: methods whose steps cost more take fewer of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..component import require
from ..introspect import freeze
from ..runtime import distributed
from ..runtime.operations import OperationCounter
from ..runtime.training_progress import ClockDisplay
from .clock import Clock
from .state import Position

COUNTED = 4  # batches of each epoch: UAD updates its statistics, and `jac_every` acts, that rarely


def pass_operations(model: nn.Module, samples: Tensor) -> float:
    """Return the operations of a forward pass of one sample.

    Arguments:
        samples: a few inputs `(b, *d)`.

    Raises:
        ValueError: for a model without any, whose passes cannot be counted.

    >>> pass_operations(nn.Linear(3, 2), torch.rand(5, 3))
    12.0
    """
    with torch.no_grad(), freeze.frozen(model, "eval"), OperationCounter() as counter:
        model(samples)
    if not counter.total:
        what = "operations of convolutions and matrix products"
        raise ValueError(f"passes are counted by the {what}: this model has none")
    return counter.total / len(samples)


class PassLength:
    """Train for a number of passes over the training rows: the cost of a step, in forward passes.

    A forward pass of all rows is 1, the backward pass to the inputs 1, that to the weights 1 more:
    an epoch of PGD-AT with k steps has 2k + 3. A step's operations are counted, those of the
    attack and of second derivatives too, in the first batches of each epoch; later ones count as
    those did. Validation counts nowhere. The last epoch may end early.

    Arguments:
        passes: the budget.
        rows: of the training split.
        batches: per epoch.
        unit: operations of a forward pass of one sample, as `pass_operations` returns.

    >>> length = PassLength(46.0, rows=100, batches=10, unit=12.0)
    >>> length.progress(Position(by_clock={"passes": 11.5}))
    0.25
    """

    open_ended: bool = True

    def __init__(
        self,
        passes: float,
        *,
        rows: int,
        batches: int,
        unit: float,
        device: torch.device | str = "cpu",
    ) -> None:
        self.passes, self.rows, self.batches = passes, rows, batches
        self.unit, self.device = unit, device

    def begin(self) -> None:
        self._clock = Clock()

    @contextmanager
    def counting(self, position: Position, rows: int) -> Iterator[None]:
        """Count the step that runs inside, on a (joint) batch of this many rows."""
        spent = position.by_clock
        number = position.batch_index
        if number < COUNTED:
            if not number:
                spent["batch_rows"] = float(rows)  # a joint batch has more than its share of rows
            with OperationCounter() as counter:
                yield
            share = rows / distributed.world()  # of this process, which counts its own
            cost = counter.total / (self.unit * share)
            cost = distributed.of_first(cost, self.device)
            before = spent.get("batch_passes", 0.0) if number else 0.0
            spent["batch_passes"] = (before * number + cost) / (number + 1)
        else:
            yield
            cost = spent["batch_passes"]
        if not position.epoch and not number and self._batch(position) > self.passes:
            least = f"at least {self._batch(position):.4g}, what a batch of this training costs"
            require(False, "passes", self.passes, least)
        spent["passes"] = spent.get("passes", 0.0) + cost * rows / self.rows

    def _batch(self, position: Position) -> float:
        """Return the passes of a whole batch, over all rows; 0 before the first."""
        spent = position.by_clock  # an earlier version kept no rows
        rows = spent.get("batch_rows", self.rows / self.batches)
        return spent.get("batch_passes", 0.0) * rows / self.rows

    def progress(self, position: Position) -> float:
        return min(position.by_clock.get("passes", 0.0) / self.passes, 1.0)

    def trained(self, position: Position) -> None:
        position.add_seconds(self._clock.lap())

    def validated(self, position: Position) -> None:
        position.val_seconds += self._clock.lap()

    def saved(self, position: Position) -> None:
        self._clock.lap()

    def stops_epoch(self, position: Position) -> bool:
        # Half a batch more or less: the budget is met as nearly as whole batches can.
        left = self.passes - position.by_clock.get("passes", 0.0)
        return left < self._batch(position) / 2

    def is_last(self, position: Position) -> bool:
        return self.stops_epoch(position)

    def needs_validation(self, position: Position) -> bool:
        return self.is_last(position)

    def finish(self, position: Position) -> None:
        position.by_clock["ended"] = 1.0

    def is_over(self, position: Position) -> bool:
        return bool(position.by_clock.get("ended"))

    def expected(self, position: Position) -> int | None:
        if position.by_clock.get("ended"):
            return position.epoch + (position.batch_index > 0)
        if not self._batch(position):
            return None
        # As many batches as `stops_epoch` lets run: the last epoch may be a short one, and counts.
        left = self.passes - position.by_clock["passes"]
        more = max(math.floor(left / self._batch(position) - 0.5) + 1, 0)
        done = position.epoch * self.batches + position.batch_index
        return max(math.ceil((done + more) / self.batches), 1)

    def shown(self, position: Position) -> ClockDisplay | None:
        done = self.progress(position)
        left = position.seconds * (1 - done) / done if done else 0.0
        return ClockDisplay(done, left, self.expected(position))
