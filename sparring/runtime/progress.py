"""Show progress on a terminal: a bar per attack of an evaluation, one bar for a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from rich import progress
from rich.console import Console

from .output import lines, make_legible, write_line
from .text import printable


class EvaluationProgress:
    """Show a bar per attack with the accuracy so far, on a terminal only. Use as a context."""

    def __init__(self, enabled: bool, console: Console | None = None) -> None:
        if enabled:
            make_legible()
        # On stderr, so that a command's result on stdout can be piped.
        console = console or Console(stderr=True)
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[accuracy]}", markup=False),
            progress.TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not (enabled and console.is_terminal),
        )
        self._task = progress.TaskID(0)
        self._correct = self._finished = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, title: str, samples: int, *, wrong: int = 0) -> None:
        """Start a bar over n samples; `wrong` more, not attacked, count as wrong in accuracies."""
        self._correct, self._finished = 0, 0
        self._wrong_share = wrong / max(1, wrong + samples)
        self._task = self._bars.add_task(printable(title), total=samples, accuracy="")

    def step(self, samples: int, correct: int) -> None:
        """Count finished samples, and how many of them the model still gets right."""
        self._correct, self._finished = self._correct + correct, self._finished + samples
        accuracy = (1 - self._wrong_share) * self._correct / max(1, self._finished)
        self._bars.update(self._task, advance=samples, accuracy=f"{accuracy:7.2%}")


class TrainingProgress:
    """Show a training: live on a terminal, one line per epoch elsewhere. Use as a context.

    Arguments:
        batches, epochs_done: per epoch, and before this session; `enabled` = False is silent.
    """

    def __init__(
        self,
        *,
        enabled: bool,
        epochs: int,
        batches: int,
        epochs_done: int = 0,
        console: Console | None = None,
    ) -> None:
        if enabled:
            make_legible()
        self.console = console or Console()
        self.epochs, self.batches = epochs, batches
        self.accuracies: Sequence[str] = ()
        self.plain = enabled and not self.console.is_terminal
        self.bar = None
        if enabled and self.console.is_terminal:
            left = (
                progress.TextColumn("{task.fields[message]}", markup=False),
                progress.BarColumn(20),
            )
            right = (progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
            self.bar = progress.Progress(*left, *right, console=self.console, refresh_per_second=4)
            total, completed = epochs * batches, epochs_done * batches
            self.task = self.bar.add_task("", total=total, completed=completed, message="")

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def step(self, *, epoch: int, batch_number: int, loss: float, rate: float) -> None:
        """Move the bar after a batch; `rate` is in samples per second."""
        if self.bar is not None:
            facts = [f"epoch {epoch}/{self.epochs}", f"loss {loss:.4f}", *self.accuracies]
            message = " · ".join([*facts, f"{rate:.0f} samples/s"])
            completed = (epoch - 1) * self.batches + batch_number
            self.bar.update(self.task, completed=completed, message=message)

    def epoch(self, line: str, accuracies: Sequence[str]) -> None:
        """Print an epoch's line, and keep its accuracies (if it was validated) beside the bar."""
        self.accuracies = accuracies or self.accuracies
        if self.bar is not None:
            self.bar.console.print(lines(line), highlight=False, markup=False)
        elif self.plain:
            write_line(line)
