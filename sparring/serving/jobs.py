"""Run one attack at a time in a thread, with progress and cancel."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..evaluation.budget import Budget, BudgetSpent
from ..runtime.importing import reason
from ..runtime.text import printable
from ..runtime.workload import Workload

RUNNING, DONE, CANCELLED, FAILED = "running", "done", "cancelled", "failed"
CLOSING = 10.0  # seconds that a closing server waits for the pass that runs
WAIT = 5.0  # seconds that a picture waits for the models while another picture is answered


class Busy(Exception):
    """Refuse a request because an attack runs; `job` is that attack."""

    def __init__(self, job: AttackJob | None) -> None:
        share = f" ({100 * job.share():.0f} % done)" if job else ""
        super().__init__(f"busy: the models are attacking a picture{share}; wait, or cancel it")
        self.job = job


@dataclass
class AttackJob:
    """Follow an attack that runs in another thread.

    Attributes:
        budget: its models raise `BudgetSpent` once it is spent; cancelling spends it.
        bouts: what is attacked, by the number that a row names.
        rows: finished steps, in order; only ever appended to.
        state: "running", "done", "cancelled" or "failed", with the reason in `error`.
    """

    id: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    budget: Budget = field(default_factory=Budget)
    workload: Workload = field(default_factory=Workload)
    bouts: list[Any] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)
    state: str = RUNNING
    error: str = ""
    thread: threading.Thread | None = None

    def share(self) -> float:
        """Return the share of the work that is done."""
        return 1.0 if self.state == DONE else self.workload.share()

    def cancel(self) -> None:
        """Let the next pass of a model end the attack; rows that are done stay."""
        self.budget.stop(CANCELLED)

    def run(self, work: Callable[[AttackJob], Iterator[Any]]) -> None:
        """Collect the rows that `work` yields, and note how it ended."""
        try:
            for row in work(self):
                self.rows.append(row)
                self.budget.check()
            self.state = DONE
        except BudgetSpent:
            self.state = CANCELLED
        except (Exception, SystemExit) as error:  # foreign code may raise anything, or exit
            # without its broken Unicode, which no answer in JSON can carry
            text = printable(reason(error).removeprefix("ValueError: "), None)
            self.error, self.state = text, FAILED


class JobRunner:
    """Run one job at a time; other uses of the models meanwhile raise `Busy`.

    A model is frozen, and thawed as it was, around each use: two threads must not share one.
    """

    def __init__(self) -> None:
        self._models = threading.Lock()
        self.current: AttackJob | None = None

    @contextlib.contextmanager
    def models(self) -> Iterator[None]:
        """Use the models inside; of two short uses, one waits.

        Raises:
            Busy: while an attack runs.
        """
        running = self._running()
        if running is not None or not self._models.acquire(timeout=WAIT):
            raise Busy(running)
        try:
            yield
        finally:
            self._models.release()

    def start(self, work: Callable[[AttackJob], Iterator[Any]]) -> AttackJob:
        """Start a job and return it.

        Raises:
            Busy: while another job runs.
        """
        if self._running() is not None or not self._models.acquire(timeout=WAIT):
            raise Busy(self._running())
        job = self.current = AttackJob()
        job.thread = threading.Thread(target=self._run, args=(job, work), daemon=True)
        job.thread.start()
        return job

    def job(self, id: str) -> AttackJob | None:
        """Return the job that runs, or ran last, if that is its id."""
        return self.current if self.current is not None and self.current.id == id else None

    def close(self) -> None:
        """Cancel the job that runs, and wait until its thread has ended."""
        job = self._running()
        if job is not None and job.thread is not None:
            job.cancel()
            job.thread.join(CLOSING)

    def _running(self) -> AttackJob | None:
        job = self.current
        return job if job is not None and job.state == RUNNING else None

    def _run(self, job: AttackJob, work: Callable[[AttackJob], Iterator[Any]]) -> None:
        try:
            job.run(work)
        finally:
            self._models.release()
