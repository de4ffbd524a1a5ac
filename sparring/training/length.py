"""How long a training is: a number of epochs, seconds of the clock, or a number of passes.

All answer the trainer's questions alike: how far the schedules are, and whether this batch or
epoch is the last.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..runtime import distributed
from ..runtime.training_progress import ClockDisplay
from .clock import Clock
from .pass_length import PassLength, pass_operations
from .state import Position

RECENT = 101  # batches whose median is the time of a batch
STALL = 5.0  # medians: the rest of a longer batch, as of one that compiles, moves no schedule
SURE = 10  # batches after which the number of epochs is said


class Length(Protocol):
    """Answer how much of a training is done and what is left.

    Attributes:
        open_ended: only the training itself shows how many epochs it has.
    """

    open_ended: bool

    def begin(self) -> None:
        """Start the clock: what ran before, as the caller's own loop, counts nowhere."""
        ...

    def progress(self, position: Position) -> float:
        """Return where the schedules are, in [0, 1]."""
        ...

    def counting(self, position: Position, rows: int) -> AbstractContextManager[None]:
        """Return a context for the steps on a (joint) batch of this many rows."""
        ...

    def trained(self, position: Position) -> None:
        """Count the time since the last of these calls as training."""
        ...

    def validated(self, position: Position) -> None:
        """Count it as validation."""
        ...

    def saved(self, position: Position) -> None:
        """Count it as writing."""
        ...

    def stops_epoch(self, position: Position) -> bool:
        """Return whether the epoch ends here, before its last batch."""
        ...

    def is_last(self, position: Position) -> bool:
        """Return whether the epoch that has just been trained is the last."""
        ...

    def needs_validation(self, position: Position) -> bool:
        """Return whether that epoch is validated though none is due."""
        ...

    def finish(self, position: Position) -> None:
        """Note that the epoch is the last, before it is counted."""
        ...

    def is_over(self, position: Position) -> bool:
        """Return whether there is nothing left to train."""
        ...

    def expected(self, position: Position) -> int | None:
        """Return how many epochs there will be in all; None where it is not known yet."""
        ...

    def shown(self, position: Position) -> ClockDisplay | None:
        """Return what the live line shows of a training by the clock; None for any other."""
        ...


class EpochLength:
    """Train for a number of epochs.

    >>> length = EpochLength(4, batches=10)
    >>> length.progress(Position(epoch=1, batch_index=5)), length.expected(Position())
    (0.375, 4)
    """

    open_ended: bool = False

    def __init__(self, epochs: int, *, batches: int) -> None:
        self.epochs, self.batches = epochs, batches

    def begin(self) -> None:
        self._clock = Clock()

    def progress(self, position: Position) -> float:
        return position.progress(self.epochs, self.batches)

    def counting(self, position: Position, rows: int) -> AbstractContextManager[None]:
        return nullcontext()

    def trained(self, position: Position) -> None:
        position.add_seconds(self._clock.lap())

    def validated(self, position: Position) -> None:
        position.val_seconds += self._clock.lap()

    def saved(self, position: Position) -> None:
        self._clock.lap()

    def stops_epoch(self, position: Position) -> bool:
        return False

    def is_last(self, position: Position) -> bool:
        return position.epoch + 1 == self.epochs

    def needs_validation(self, position: Position) -> bool:
        return self.is_last(position)

    def finish(self, position: Position) -> None:
        pass

    def is_over(self, position: Position) -> bool:
        return position.epoch >= self.epochs

    def expected(self, position: Position) -> int | None:
        return self.epochs

    def shown(self, position: Position) -> ClockDisplay | None:
        return None


class TimeLength:
    """Train for some seconds; validation and writing count, and the last of them is waited for.

    The share p of the schedules that is left is laid over the time that is left: a batch, a
    validation or a writing of dt seconds moves p by (1 − p)·dt/left. Compilation and other stalls
    shorten the time that is left, and move no schedule. Processes go by the first one's clock.

    Arguments:
        seconds: from the first batch to the last checkpoint, over all sessions.
        batches: per epoch.
        device: of the messages between processes.

    >>> length = TimeLength(60.0, batches=10)
    >>> length.left(Position(seconds=20.0, val_seconds=4.0))
    36.0
    """

    open_ended: bool = True

    def __init__(self, seconds: float, *, batches: int, device: torch.device | str = "cpu") -> None:
        self.seconds, self.batches, self.device = seconds, batches, device
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._batches = 0  # of this session

    def begin(self) -> None:
        self._clock = Clock()

    def _lap(self) -> float:
        return distributed.of_first(self._clock.lap(), self.device)

    def left(self, position: Position) -> float:
        """Return the seconds left for batches: without those of the last validation and writing,
        which will take what they took before."""
        by_clock = position.by_clock
        spent = position.seconds + position.val_seconds + by_clock.get("writing", 0.0)
        return self.seconds - spent - self._reserve(position)

    def _reserve(self, position: Position) -> float:
        return sum(position.by_clock.get(key, 0.0) for key in ("last_validation", "last_writing"))

    @property
    def batch_seconds(self) -> float:
        """The time of a batch in this session; 0 before the second one."""
        return statistics.median(self._recent) if self._recent else 0.0

    def progress(self, position: Position) -> float:
        return position.by_clock.get("progress", 0.0)

    def counting(self, position: Position, rows: int) -> AbstractContextManager[None]:
        return nullcontext()

    def _move(self, position: Position, seconds: float) -> None:
        """Move the schedules by `seconds`, which the position counts already."""
        done, left = self.progress(position), self.left(position)
        share = min(seconds / (seconds + left), 1.0) if left > 0 else 1.0
        position.by_clock["progress"] = done + (1 - done) * share if seconds else done

    def trained(self, position: Position) -> None:
        lap = self._lap()
        position.add_seconds(lap)
        # The first batch of a session compiles and measures kernels, so its time says nothing.
        if self._batches:
            self._move(position, min(lap, STALL * (self.batch_seconds or lap)))
            self._recent.append(lap)
        self._batches += 1

    def validated(self, position: Position) -> None:
        lap = self._lap()
        position.val_seconds += lap
        position.by_clock["last_validation"] = lap
        self._move(position, lap)

    def saved(self, position: Position) -> None:
        lap, by_clock = self._lap(), position.by_clock
        by_clock |= {"writing": by_clock.get("writing", 0.0) + lap, "last_writing": lap}
        self._move(position, lap)

    def stops_epoch(self, position: Position) -> bool:
        return self._has_no_batch(position)

    def is_last(self, position: Position) -> bool:
        return self._has_no_batch(position)

    def needs_validation(self, position: Position) -> bool:
        # The first epoch is validated for its time, which the last one is given.
        return self.is_last(position) or "last_validation" not in position.by_clock

    def _has_no_batch(self, position: Position) -> bool:
        left = self.left(position)
        return left <= 0 or left < self.batch_seconds

    def finish(self, position: Position) -> None:
        position.by_clock["ended"] = 1.0

    def is_over(self, position: Position) -> bool:
        # Not by the clock: where the writing of an epoch that was not the last takes what was left,
        # one more batch is trained, validated and logged as the last.
        return bool(position.by_clock.get("ended"))

    def expected(self, position: Position) -> int | None:
        if position.by_clock.get("ended"):
            return position.epoch + (position.batch_index > 0)
        if self._batches < SURE:
            return None
        by_clock, done = position.by_clock, max(position.epoch, 1)
        between = (position.val_seconds + by_clock.get("writing", 0.0)) / done
        epochs = self.left(position) / (self.batch_seconds * self.batches + between)
        here = position.epoch + position.batch_index / self.batches
        return max(math.ceil(here + epochs), math.floor(here) + 1)

    def shown(self, position: Position) -> ClockDisplay | None:
        left = max(self.left(position) + self._reserve(position), 0.0)
        return ClockDisplay(1 - left / self.seconds, left, self.expected(position))


def make_length(
    settings: Mapping[str, Any],
    *,
    batches: int,
    device: torch.device | str,
    rows: int,
    model: nn.Module,
    samples: Tensor,
) -> Length:
    """Return the length of a training: by its `seconds`, else its `passes`, else its `epochs`.

    Arguments:
        settings: those of the trainer, by name.
        batches, rows: per epoch.
        samples: a few inputs, to count what a pass costs.
    """
    seconds, passes = settings.get("seconds"), settings.get("passes")
    if seconds is not None:
        return TimeLength(seconds, batches=batches, device=device)
    if passes is not None:
        unit = pass_operations(model, samples.to(device))
        return PassLength(passes, rows=rows, batches=batches, unit=unit, device=device)
    return EpochLength(settings["epochs"], batches=batches)


def is_complete(log: Sequence[Mapping[str, Any]], train: Mapping[str, Any]) -> bool:
    """Return whether a run's log has the last epoch of its training.

    Arguments:
        train: the recipe's `[train]`.

    >>> is_complete([{"epoch": 1}], {"epochs": 2}), is_complete([{"epoch": 2}], {"epochs": 2})
    (False, True)
    >>> is_complete([{"epoch": 9, "epochs": 9}], {"epochs": 40, "seconds": 60.0})
    True
    """
    epoch = log[-1]["epoch"] if log else 0
    # With an open end, more epochs are expected after each but the last.
    expected = log[-1].get("epochs", math.inf) if log else math.inf
    return bool(log) and epoch >= (expected if is_open_ended(train) else train["epochs"])


def is_open_ended(train: Mapping[str, Any]) -> bool:
    """Return whether a recipe's `[train]` leaves the number of epochs to the training."""
    return any(train.get(key) is not None for key in ("seconds", "passes"))
