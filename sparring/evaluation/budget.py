"""A budget of time or queries: when it is spent the evaluation ends, and says what it left out."""

from __future__ import annotations

import time

from ..component import require


class Spent(Exception):
    """The budget is spent; raised in the middle of a batch, which then counts as not attacked."""


class Budget:
    """Seconds and forward passes that the attacks may take, both without limit when None.

    Arguments:
        seconds: wall time, > 0.
        queries: samples passed forward, all together, > 0.

    >>> budget = Budget(queries=10)
    >>> budget.note(10), budget.over
    (None, 'its budget of 10 forward passes was spent')
    """

    def __init__(self, *, seconds: float | None = None, queries: int | None = None) -> None:
        require(seconds is None or seconds > 0, "seconds", seconds, "a time > 0 in seconds")
        require(queries is None or queries > 0, "queries", queries, "a number of passes > 0")
        self.seconds, self.queries = seconds, queries
        self.begun, self.used, self.over = time.perf_counter(), 0, ""

    def note(self, queries: int = 0) -> None:
        """So many more forward passes were made."""
        self.used += queries
        if self.queries is not None and self.used >= self.queries:
            self.over = f"its budget of {self.queries} forward passes was spent"
        elif self.seconds is not None and time.perf_counter() - self.begun >= self.seconds:
            self.over = f"its budget of {self.seconds:g} seconds was spent"

    def check(self) -> None:
        """Raise `Spent` if there is nothing left."""
        if self.over:
            raise Spent(self.over)
