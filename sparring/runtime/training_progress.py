"""Show a training: a header, a row per epoch, and a live line below where there can be one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from rich.cells import cell_len
from rich.console import Console

from .live import LiveLine, Screen
from .output import make_legible
from .text import printable


class TableColumn(NamedTuple):
    """Describe a column of the table; a narrow terminal loses those of the highest `rank`."""

    name: str
    width: int
    rank: int = 0


class ClockDisplay(NamedTuple):
    """Say how far a training is that the clock, or a number of passes, ends.

    Arguments:
        share: of its time, or passes, that is spent.
        left: seconds to its end; None before the first batch.
        epochs: expected in all; None where not known yet.
    """

    share: float
    left: float | None
    epochs: int | None


COLUMNS = (
    TableColumn("epoch", 5),
    TableColumn("loss", 9, 2),
    TableColumn("clean", 7),
    TableColumn("robust", 8),
    TableColumn("averaged", 10, 1),
    TableColumn("s", 8, 3),
    TableColumn("best", 6),
)
TABLE_WIDTH = 72
INDENT = 2


class TrainingProgress:
    """Show the epochs of a training and its time left. Use as a context.

    Arguments:
        epochs, batches, epochs_done: in all (None: the clock ends the training), per epoch, and
            before this session.
        name, facts: the header, as "digits-mart" and ["MART", "Linf 0.1", …].
        measured: columns of the table beside epoch, loss, s and best.
        enabled: False is silent.
    """

    def __init__(
        self,
        *,
        enabled: bool,
        epochs: int | None,
        batches: int,
        epochs_done: int = 0,
        name: str = "",
        facts: Sequence[str] = (),
        measured: Sequence[str] = ("clean", "robust", "averaged"),
        console: Console | None = None,
    ) -> None:
        if enabled:
            make_legible()
        console = console or Console()
        self.epochs, self.batches = epochs, batches
        self._header = header(name, facts, console.width)
        always = ("epoch", "loss", "s", "best")
        self._columns = fitting(
            [c for c in COLUMNS if c.name in (*always, *measured)], min(console.width, TABLE_WIDTH)
        )
        self._first = self._done = epochs_done * batches
        self._last_epoch, self._facts = epochs_done, []
        self._clock: ClockDisplay | None = None
        self._screen = Screen(console, self.line, enabled=enabled)

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        if self.epochs is None or self._last_epoch < self.epochs:
            self._screen.__enter__()  # first: a notebook shows all in one output
            for row in (*self._header, self._row({c.name: c.name for c in self._columns})):
                self._screen.print(row)
        return self

    def __exit__(self, *error: object) -> None:
        self._screen.__exit__(*error)

    def line(self) -> LiveLine:
        """Return the live line as it is now."""
        if self._clock is not None or self.epochs is None:
            share, left, epochs = self._clock or ClockDisplay(0.0, None, None)
            return LiveLine(f"{self._last_epoch}/~{epochs or '?'}", "", self._facts, share, left)
        total, session = (self.epochs or 0) * self.batches, self._done - self._first
        elapsed = time.perf_counter() - self._started
        left = elapsed / session * (total - self._done) if session else None
        done = self._done / max(1, total)
        return LiveLine(f"{self._last_epoch}/{self.epochs}", "", self._facts, done, left)

    def step(
        self,
        *,
        epoch: int,
        batch_number: int,
        loss: float,
        rate: float,
        clock: ClockDisplay | None = None,
    ) -> None:
        """Move the bar after a batch; `rate` is in samples per second."""
        self._done = (epoch - 1) * self.batches + batch_number
        batch = f"batch {batch_number}/{self.batches}"
        self._facts = [f"loss {digits(loss)}", f"{rate:.0f} samples/s", batch]
        if clock is not None:
            self._clock = clock
            if clock.epochs is not None and self.epochs is None:
                self._screen.print(f"{'':{INDENT}}about {clock.epochs} epochs")
            self.epochs = clock.epochs or self.epochs

    def epoch(self, number: int, cells: Mapping[str, str]) -> None:
        """Print the row of an epoch, a cell per column by its name."""
        self._last_epoch, self._done = number, number * self.batches
        self._screen.print(self._row(cells))

    def _row(self, cells: Mapping[str, str]) -> str:
        return "".join(f"{cells.get(c.name, ''):>{c.width}}" for c in self._columns).rstrip()


def fitting(columns: Sequence[TableColumn], width: int) -> list[TableColumn]:
    """Return the columns that fit, in order; those of the highest rank go first.

    >>> [c.name for c in fitting(COLUMNS, 40)]
    ['epoch', 'clean', 'robust', 'averaged', 'best']
    """
    kept = list(columns)
    while sum(c.width for c in kept) > width and any(c.rank for c in kept):
        kept.remove(max(kept, key=lambda c: c.rank))
    return kept


def header(name: str, facts: Sequence[str], width: int) -> list[str]:
    """Return name and facts as lines; one that is too long is broken between two facts.

    >>> header("digits-mart", ["MART", "Linf 0.1", "cpu"], 24)
    ['digits-mart   MART', '  Linf 0.1 · cpu']
    """
    shown = [printable(name, max(8, width - INDENT))] if name else []
    rows = [""] if not shown else [f"{shown[0]}   "]
    for number, fact in enumerate(printable(f, max(8, width - INDENT)) for f in facts):
        joint = " · " if number and rows[-1].strip() else ""
        if rows[-1].strip() and cell_len(rows[-1] + joint + fact) > width:
            rows.append(" " * INDENT + fact)
        else:
            rows[-1] += joint + fact
    return [row.rstrip() for row in rows if row.strip()]


def digits(value: float) -> str:
    """Return a number with four digits.

    >>> digits(2.3), digits(1234.5), digits(1e-7)
    ('2.300', '1234', '1.000e-07')
    """
    return f"{value:#.4g}".rstrip(".")
