"""What a person sees while it runs: a bar per attack on a terminal, nothing elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


class Display:
    """Context: `begin` starts a line, `step` moves it and says the accuracy so far."""

    def __init__(self, on: bool, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not (on and console.is_terminal),
        )
        self._task = TaskID(0)
        self._right = self._seen = 0

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def begin(self, line: str, samples: int, *, wrong: int = 0) -> None:
        """A new line over so many samples, besides `wrong` ones that count as wrong."""
        self._right, self._seen = 0, 0
        self._wrong_share = wrong / max(1, wrong + samples)
        self._task = self._bars.add_task(line, total=samples, said="")

    def step(self, samples: int, right: int) -> None:
        """So many samples are finished, and so many of them right."""
        self._right, self._seen = self._right + right, self._seen + samples
        share = (1 - self._wrong_share) * self._right / max(1, self._seen)
        self._bars.update(self._task, advance=samples, said=f"{share:7.2%}")
