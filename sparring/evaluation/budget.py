"""A budget of time or queries for the attacks; once it is spent, the evaluation ends early."""

from __future__ import annotations

import time

from ..runtime import distributed


class BudgetSpent(Exception):
    """Interrupt a batch because the budget is spent; the batch then counts as not attacked."""


class Budget:
    """Count the seconds and forward passes of the attacks; None means no limit.

    Arguments:
        seconds: wall time, > 0.
        queries: forward passes, counted in samples, > 0; each process has its part of them.

    Attributes:
        exhausted: the reason once the budget is spent, else "".

    >>> budget = Budget(queries=10)
    >>> budget.count(10), budget.exhausted
    (None, 'its budget of 10 forward passes was spent')
    """

    def __init__(self, *, seconds: float | None = None, queries: int | None = None) -> None:
        self.seconds, self.queries = seconds, queries
        self.started, self.used, self.exhausted = time.perf_counter(), 0, ""
        self.processes = distributed.world()

    def count(self, queries: int = 0) -> None:
        """Add forward passes, and note whether a limit is reached."""
        self.used += queries
        if self.queries is not None and self.used * self.processes >= self.queries:
            self.exhausted = f"its budget of {self.queries} forward passes was spent"
        elif self.seconds is not None and time.perf_counter() - self.started >= self.seconds:
            self.exhausted = f"its budget of {self.seconds:g} seconds was spent"

    def stop(self, why: str) -> None:
        """Spend the budget now: the next pass ends the attack, also one of another thread."""
        self.exhausted = why

    def check(self) -> None:
        """Raise `BudgetSpent` if nothing is left."""
        if self.exhausted:
            raise BudgetSpent(self.exhausted)
