"""What a person sees while a training runs: a live bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Display:
    """Loss, clean and robust accuracy, samples a second, time left.

    Arguments:
        steps: of the whole training.
        done: of them, already taken.
        show: False is silent.
    """

    def __init__(self, *, steps: int, done: int = 0, show: bool = True) -> None:
        self.console = Console(stderr=True)
        self.show, self.live = show, show and self.console.is_terminal
        self.accuracy = ""
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f} {task.fields[accuracy]} {task.fields[speed]:.0f} samples/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
        )
        self.task = self.bar.add_task(
            "train", total=steps, completed=done, epoch="", loss=float("nan"), accuracy="", speed=0.0
        )

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def step(self, *, epoch: str, loss: float, speed: float) -> None:
        """One step more."""
        self.bar.update(self.task, advance=1, epoch=epoch, loss=loss, speed=speed, accuracy=self.accuracy)

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """An epoch has ended: `row` is its line of the log."""
        self.accuracy = " ".join(f"{k} {row[k]:.4f}" for k in ("clean", "robust") if row[k] is not None)
        if not self.show:
            return
        ema = "" if row["ema_clean"] is None else f"  ema {row['ema_clean']:.4f}"
        ema += "" if row["ema_robust"] is None else f" {row['ema_robust']:.4f}"
        left = row["seconds"] / row["epoch"] * (epochs - row["epoch"])
        line = (
            f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.4f}  {self.accuracy}{ema}  "
            f"{row['samples_per_second']:.0f} samples/s  {row['seconds']:.0f} s, {left:.0f} s left"
            f"{'  best' if row['best'] else ''}"
        )
        self.bar.console.print(line, highlight=False, soft_wrap=True)
        sys.stderr.flush()
