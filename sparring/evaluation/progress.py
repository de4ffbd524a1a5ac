"""Progress of an evaluation: a live bar on a terminal, a line an attack elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bar:
    """Counts batches of `total`; silent unless `show`."""

    def __init__(self, total: int, *, show: bool = True) -> None:
        self.console = Console(stderr=True)
        self.show = show
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (show and self.console.is_terminal),
        )
        self.task = self.bar.add_task("evaluate", total=total)

    def __enter__(self) -> Bar:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def step(self, text: str) -> None:
        """One batch more."""
        self.bar.update(self.task, advance=1, description=text)

    def line(self, text: str) -> None:
        """An attack has ended."""
        if self.show:
            self.bar.console.print(text, highlight=False, soft_wrap=True)
