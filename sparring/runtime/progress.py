"""Show an evaluation: a line per finished pass over the samples, and a live line below."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Self

from rich.cells import cell_len
from rich.console import Console

from .live import LiveLine, Screen, is_live
from .output import make_legible
from .text import printable
from .workload import Task, Workload

LONGEST_TITLE, USUAL_TITLE = 48, 31
AFTER_TITLE = 20  # columns of accuracy and seconds


class EvaluationProgress:
    """Show passes over samples: finished ones as lines, the current one live. Use as a context."""

    def __init__(self, enabled: bool, console: Console | None = None) -> None:
        if enabled:
            make_legible()
        # On stderr, so that a command's result on stdout can be piped.
        console = console or Console(stderr=True)
        self._screen = Screen(console, self.line, enabled=enabled)
        self._longest = LONGEST_TITLE
        if is_live(console):
            self._longest = max(8, min(LONGEST_TITLE, console.width - AFTER_TITLE))
        self._work, self._title = Workload(), ""
        self._width = min(USUAL_TITLE, self._longest)
        self._samples = self._finished = 0
        self._others = (0, 0)
        self._correct: int | None = None
        self._started = 0.0

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._close()
        self._screen.__exit__(kind, *rest)

    def plan(self, tasks: Sequence[Task], passes: Callable[[], int]) -> None:
        """Announce the passes over the samples that follow, for one bar and time left of them all.

        Arguments:
            passes: returns the model's forward passes until now, in samples: they move the bar
                between two calls of `step`.
        """
        self._close()
        self._work = Workload(tasks, passes)
        self._width = max(self._width, *(cell_len(self._shown(t.title)) for t in tasks))

    def begin(self, title: str, samples: int, *, wrong: int = 0, right: int = 0) -> None:
        """Start a pass over samples; more that are not attacked count as wrong, or as right."""
        self._close()
        self._title, self._samples, self._started = title, samples, time.perf_counter()
        self._finished, self._correct, self._others = 0, None, (wrong, right)
        self._work.begin(title, samples)

    def step(self, samples: int, correct: int | None = None) -> None:
        """Count finished samples, and how many of them the model still gets right, if known."""
        self._finished += samples
        if correct is not None:
            self._correct = correct + (self._correct or 0)
        self._work.step(samples)
        if self._finished == self._samples:
            self._close()

    def line(self) -> LiveLine:
        """Return the live line as it is now."""
        work = self._work
        count = f"{self._finished}/{self._samples}" if self._title else ""
        if work.number:
            count = f"{work.number}/{len(work.tasks)}"
        facts = [] if self._accuracy() is None else [f"{self._accuracy():.2f} % so far"]
        return LiveLine(count, self._title, facts, work.share(), work.seconds_left())

    def _accuracy(self) -> float | None:
        """Return the accuracy of the current pass in per cent, None where there is none."""
        wrong, right = self._others
        if self._correct is None and (self._samples or not wrong + right):
            return None
        correct = (self._correct or 0) / max(1, self._finished) * self._samples
        return 100 * (correct + right) / (self._samples + wrong + right)

    def _close(self) -> None:
        """Print the line of the pass that ends, if one was begun."""
        if not self._title:
            return
        title = self._shown(self._title)
        accuracy = "" if self._accuracy() is None else f"{self._accuracy():.2f} %"
        seconds = f"{time.perf_counter() - self._started:.1f} s"
        left_out = self._samples - self._finished
        note = f"  {left_out} samples left out" if left_out else ""
        pad = " " * (self._width - cell_len(title))
        self._screen.print(f"{title}{pad}  {accuracy:>8} {seconds:>9}{note}")
        self._work.finish()
        self._title = ""

    def _shown(self, title: str) -> str:
        return printable(title, self._longest)
