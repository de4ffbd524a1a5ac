"""Interface of a logger: what a training tells it, and the run's name at the service it writes to.

To add a logger: a class with the three methods of `Logger`, and its name in `combine.LOGGERS`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ...runtime import files
from ..run_folder import LOGGED
from ..state import Epoch

ID_LETTERS = 200


@dataclass(frozen=True)
class LoggedRun:
    """Describe a training to its loggers.

    Arguments:
        name: of the recipe, else of the folder.
        folder: of the run.
        recipe: the resolved tables; empty for a training without a recipe.
        epochs, epochs_done: of the training, and before this session; `epochs` is None where the
            clock ends it.
    """

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    epochs: int | None
    epochs_done: int = 0


@runtime_checkable
class Logger(Protocol):
    """Follow a training: `start` once, `epoch` after each, `close` at the end or at Ctrl-C.

    An error in a logger ends the logger alone: a warning names it, and the training goes on.
    """

    def start(self, run: LoggedRun) -> None:
        """Begin, or go on with, the record of a run."""

    def epoch(self, epoch: Epoch) -> None:
        """Record one epoch."""

    def close(self) -> None:
        """Finish the record."""


def scalars(epoch: Epoch) -> dict[str, float]:
    """Return the numbers of an epoch by name, those of the loss's terms as `parts/NAME`.

    Numbers that were not measured are left out.
    """
    row = epoch.row()
    named = {**row, **{f"parts/{key}": value for key, value in row["parts"].items()}}
    return {
        key: float(value)
        for key, value in named.items()
        if isinstance(value, int | float) and key != "epoch"
    }


def flat(tables: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables by dotted path.

    >>> dict(flat({"train": {"epochs": 3, "optimizer": {"lr": 0.1}}}))
    {'train.epochs': 3, 'train.optimizer.lr': 0.1}
    """
    for key, value in tables.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}.")
        else:
            yield path, value


def recorded_id(folder: Path, logger: str) -> str | None:
    """Return the name that a run has at a service, or None before its first session there."""
    path = folder / LOGGED
    with contextlib.suppress(FileNotFoundError, ValueError, RecursionError, AttributeError):
        name = json.loads(files.read(path, limit=1 << 16)).get(logger)
        if isinstance(name, str) and name.isprintable() and 0 < len(name) <= ID_LETTERS:
            return name
    return None


def record_id(folder: Path, logger: str, name: str) -> None:
    """Keep the name that a run has at a service, so that a resumed training goes on there."""
    names: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError, ValueError, RecursionError):
        names = dict(json.loads(files.read(folder / LOGGED, limit=1 << 16)))
    files.write(folder / LOGGED, json.dumps({**names, logger: name}).encode())
