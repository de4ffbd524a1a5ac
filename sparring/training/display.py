"""What a person sees while it trains: live on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .state import Epoch


def line(epoch: Epoch, epochs: int) -> str:
    """An epoch in one line of text."""
    said = [f"epoch {epoch.number}/{epochs}", f"loss {epoch.loss:.4f}", *accuracies(epoch)]
    said += [
        f"lr {epoch.lr:.2g}",
        f"{epoch.samples_per_second:.0f} samples/s",
        f"{epoch.seconds:.0f} s",
    ]
    return " · ".join(said) + (" · best" if epoch.best else "")


def accuracies(epoch: Epoch | None) -> list[str]:
    """What the last validation gave."""
    names = ("clean", "robust", "ema_clean", "ema_robust")
    found = {name: getattr(epoch, name, None) for name in names}
    return [
        f"{name.replace('_', ' ')} {100 * value:.2f}"
        for name, value in found.items()
        if value is not None
    ]


class Display:
    """Shows progress between `with`'s ends.

    Arguments:
        shown: on the terminal (or, without one, a line an epoch); False is silent.
        batches: in an epoch.
        done: epochs done already.
    """

    def __init__(
        self,
        *,
        shown: bool,
        epochs: int,
        batches: int,
        done: int = 0,
        console: Console | None = None,
    ) -> None:
        self.console = console or Console()
        self.epochs, self.batches, self.latest = epochs, batches, None
        self.plain = shown and not self.console.is_terminal
        self.bar = self._bar() if shown and self.console.is_terminal else None
        if self.bar is not None:
            total, completed = epochs * batches, done * batches
            self.task = self.bar.add_task("", total=total, completed=completed, said="")

    def _bar(self) -> Progress:
        columns = (
            TextColumn("{task.fields[said]}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=self.console, refresh_per_second=4)

    def __enter__(self) -> Display:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def step(self, *, epoch: int, batch: int, loss: float, rate: float) -> None:
        """After each batch."""
        if self.bar is not None:
            said = [
                f"epoch {epoch}/{self.epochs}",
                f"loss {loss:.4f}",
                *accuracies(self.latest),
                f"{rate:.0f} samples/s",
            ]
            completed = (epoch - 1) * self.batches + batch
            self.bar.update(self.task, completed=completed, said=" · ".join(said))

    def epoch(self, epoch: Epoch) -> None:
        """After each epoch."""
        self.latest = epoch if epoch.clean is not None else self.latest
        if self.bar is not None:
            self.bar.console.print(line(epoch, self.epochs), highlight=False)
        elif self.plain:
            print(line(epoch, self.epochs), flush=True)


class TensorBoardLog:
    """Scalars of every epoch for TensorBoard, in the run's folder `tensorboard`.

    Raises:
        ValueError: if the package is not installed.
    """

    def __init__(self, folder: Path, *, done: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "tensorboard = True needs a package: pip install 'sparring[tensorboard]'"
            ) from error
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def epoch(self, epoch: Epoch) -> None:
        """Write one epoch."""
        row: dict[str, Any] = epoch.row()
        row |= {f"parts/{key}": value for key, value in row.pop("parts").items()}
        for key, value in row.items():
            if isinstance(value, int | float) and key != "epoch":
                self.writer.add_scalar(key, value, epoch.number)
        self.writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self.writer.close()
