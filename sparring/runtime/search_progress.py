"""Show a search: a row per trial, and a live line below where there can be one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

from rich.cells import cell_len
from rich.console import Console

from .fractions import format_number
from .live import LiveLine, Screen
from .output import make_legible
from .text import printable

WIDTHS = {"trial": 5, "robust": 8, "clean": 7, "epochs": 8, "s": 8}
LONGEST = 24  # letters of a value


class TrialRow(Protocol):
    """Describe a finished trial."""

    @property
    def number(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def robust(self) -> float | None: ...
    @property
    def clean(self) -> float | None: ...
    @property
    def epochs(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class SearchProgress:
    """Show the trials of a search and its time left. Use as a context.

    Arguments:
        name: of the recipe.
        paths: that are searched; the columns have their last words.
        trials: of the whole search.
        enabled: False is silent.
    """

    def __init__(
        self,
        *,
        enabled: bool,
        name: str,
        paths: Sequence[str],
        trials: int,
        console: Console | None = None,
    ) -> None:
        if enabled:
            make_legible()
        self._heads = {path: printable(path.rpartition(".")[2], LONGEST) for path in paths}
        self._name, self._trials = name, trials
        self._done = self._epoch = 0
        self._epochs, self._title, self._new = 1, "", 0
        self._started, self._best = time.perf_counter(), -1.0
        self._screen = Screen(console or Console(), self.line, enabled=enabled)

    def __enter__(self) -> Self:
        self._screen.__enter__()
        self._screen.print(f"{printable(self._name)}   {self._trials} trials")
        heads = "".join(f"{head:>{width}}" for head, width in WIDTHS.items())
        self._screen.print(heads + "".join(self._cell(p, h) for p, h in self._heads.items()))
        return self

    def __exit__(self, *error: object) -> None:
        self._screen.__exit__(*error)

    def begin(self, number: int, values: Mapping[str, Any], epochs: int) -> None:
        """Start the live line of a trial."""
        shown = ", ".join(f"{self._heads[p]} {value_text(v)}" for p, v in values.items())
        self._title, self._epoch, self._epochs = f"trial {number}: {shown}", 0, epochs

    def epoch(self, number: int) -> None:
        """Move the bar to an epoch of this trial."""
        self._epoch = number

    def trial(self, trial: TrialRow) -> None:
        """Print the row of a finished trial."""
        self._done, self._epoch = trial.number + 1, 0
        best = trial.state == "complete" and (trial.robust or 0.0) > self._best
        self._best = max(self._best, trial.robust or 0.0) if best else self._best
        shares = ["" if v is None else f"{100 * v:.1f}" for v in (trial.robust, trial.clean)]
        cells = [str(trial.number), *shares, str(trial.epochs), f"{trial.seconds:.1f}"]
        row = "".join(f"{c:>{w}}" for c, w in zip(cells, WIDTHS.values(), strict=True))
        row += "".join(self._cell(p, value_text(trial.parameters[p])) for p in self._heads)
        mark = "best" if best else trial.state.replace("complete", "")
        self._screen.print(f"{row}  {mark}".rstrip())

    def line(self) -> LiveLine:
        """Return the live line as it is now."""
        share = (self._done + self._epoch / max(1, self._epochs)) / max(1, self._trials)
        elapsed = time.perf_counter() - self._started
        left = elapsed / share * (1 - share) if share else None
        facts = [] if self._best < 0 else [f"best {100 * self._best:.1f} % robust"]
        return LiveLine(f"{self._done}/{self._trials}", self._title, facts, share, left)

    def _cell(self, path: str, text: str) -> str:
        width = max(10, cell_len(self._heads[path]) + 2)
        return " " * max(2, width - cell_len(text)) + text


def value_text(value: object) -> str:
    """Return a value of a trial in few letters.

    >>> value_text(0.0123456), value_text(3), value_text("MART")
    ('0.01235', '3', 'MART')
    """
    if isinstance(value, float):
        text = format_number(value)
        return text if len(text) <= 8 else f"{value:.4g}"
    return printable(value, LONGEST)
