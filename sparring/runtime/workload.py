"""Estimate how much of a series of passes over samples is done, and how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

UNKNOWN_PASSES = 100  # of a task that does not say: as a search of 100 steps


class Task(NamedTuple):
    """Announce one pass over samples.

    Arguments:
        title: as it is begun.
        label, group: tasks of one label cost about the same per sample; where a task has fewer
            samples than announced, those after it in its group have fewer, too.
        samples: expected number.
        passes: expected forward passes of the model per sample; 0: unknown.
    """

    title: str
    label: str
    group: str
    samples: int
    passes: float = 0.0


@dataclass
class Workload:
    """Follow tasks from one to the next, in seconds: those of finished tasks predict the others.

    A task that was not announced is a workload of its own.

    Attributes:
        number: of the current task, from 1; 0: it was not announced.
    """

    tasks: Sequence[Task] = ()
    passes: Callable[[], int] = lambda: 0
    number: int = 0
    _next: int = 0
    _spent: float = 0.0  # seconds of the finished tasks
    _units: float = 0.0  # their samples × passes
    _cost: dict[str, tuple[float, float]] = field(default_factory=dict)
    _scale: dict[str, float] = field(default_factory=dict)
    _shown: float = 0.0
    _started: float | None = None

    def begin(self, title: str, samples: int) -> None:
        """Start a task; one with the title of the next announced task is that one."""
        announced = self._next < len(self.tasks) and self.tasks[self._next].title == title
        self.number = self._next + 1 if announced else 0
        self._next += announced
        self._samples, self._finished, self._started = samples, 0, time.perf_counter()
        self._passes_at_begin = self._passes_at_step = self.passes()
        if announced:
            task = self.tasks[self.number - 1]
            self._scale[task.group] = samples / task.samples if task.samples else 1.0
        else:
            self._shown = 0.0

    def step(self, samples: int) -> None:
        """Count finished samples of the current task."""
        self._finished += samples
        self._passes_at_step = self.passes()

    def finish(self) -> None:
        """End the current task."""
        if self._started is None:
            return
        seconds = time.perf_counter() - self._started
        if self.number and self._finished:
            task = self.tasks[self.number - 1]
            self._cost[task.label] = (seconds, self._finished)
            self._spent += seconds
            self._units += self._finished * (task.passes or UNKNOWN_PASSES)
        self._started = None

    def share(self) -> float:
        """Return the share of the work that is done; it never falls."""
        if not self.number:
            if self._started is not None:
                self._shown = max(self._shown, self._share_of_task())
            return self._shown
        left, spent = self.seconds_left(), self._spent + self._elapsed()
        if left is not None:
            self._shown = max(self._shown, spent / max(spent + left, 1e-9))
        return min(self._shown, 1.0)

    def seconds_left(self) -> float | None:
        """Return the expected seconds to the end of all tasks, None as long as nothing is known."""
        within, elapsed = self._share_of_task(), self._elapsed()
        current = elapsed / within * (1 - within) if within else None
        if not self.number:
            return None if self._started is None else current
        task = self.tasks[self.number - 1]
        units = self._samples * (task.passes or UNKNOWN_PASSES)
        spent, done = self._spent + elapsed, self._units + within * units
        if not done:
            return None
        rate = spent / done
        current = (1 - within) * units * rate if current is None else current
        return current + sum(self._expected(later, rate) for later in self.tasks[self._next :])

    def _elapsed(self) -> float:
        return 0.0 if self._started is None else time.perf_counter() - self._started

    def _expected(self, task: Task, rate: float) -> float:
        """Return the expected seconds of a task that is to come."""
        samples = task.samples * self._scale.get(task.group, 1.0)
        if task.label not in self._cost:
            return samples * (task.passes or UNKNOWN_PASSES) * rate
        seconds, finished = self._cost[task.label]
        if task.group not in self._scale:  # it will have as few samples as at the radius before
            return seconds
        return seconds / finished * samples

    def _share_of_task(self) -> float:
        """Return the share of the current task, by its samples and, between them, its passes."""
        if self._started is None:
            return 1.0
        rows, finished = self._samples, self._finished
        if not rows or finished >= rows:
            return 1.0
        expected = self.tasks[self.number - 1].passes if self.number else 0.0
        if finished:  # the passes of its finished samples tell more
            expected = (self._passes_at_step - self._passes_at_begin) / finished or expected
        since = self.passes() - self._passes_at_step
        partly = since / expected if expected else 0.0
        return min((finished + min(partly, rows - finished)) / rows, 1.0)
