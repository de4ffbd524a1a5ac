"""Make the loggers of a training, and keep their errors away from it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ...component import did_you_mean, require
from ...runtime.importing import reason
from ...runtime.text import printable
from ...runtime.warning import SparringWarning
from ..state import Epoch
from .base import LoggedRun, Logger
from .mlflow import MLflow
from .tensorboard import TensorBoard
from .wandb import WandB

LOGGERS: dict[str, Callable[..., Logger]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
}
ENTRY = "a name, a table with a name, or in Python a logger or its class"


def make_logger(entry: Any, path: str = "log") -> Logger:
    """Return a logger by its name or table; or a logger as it is, or the one that a class makes.

    Raises:
        ValueError: for a name that does not exist, what is no logger, or a missing package.

    >>> make_logger("mlfow")
    Traceback (most recent call last):
    ValueError: log.name = 'mlfow' does not exist; did you mean 'mlflow'? ...
    """
    table = {"name": entry} if isinstance(entry, str) else entry
    if isinstance(table, Mapping):
        options = {key: value for key, value in table.items() if key != "name"}
        name = str(table.get("name"))
        if name not in LOGGERS:
            raise ValueError(did_you_mean(f"{path}.name", name, LOGGERS))
        return LOGGERS[name](**options)
    if isinstance(entry, type) or (callable(entry) and not isinstance(entry, Logger)):
        entry = entry()
    allowed = f"{ENTRY}: an object with start, epoch and close"
    require(isinstance(entry, Logger), path, type(entry).__name__, allowed)
    return cast("Logger", entry)


class Loggers:
    """Pass a training on to its loggers; one that fails is left out from then on.

    Arguments:
        entries: as `make_logger` takes them.
    """

    def __init__(self, entries: Sequence[Any]) -> None:
        self._active = [make_logger(entry, f"log.{k}") for k, entry in enumerate(entries)]

    def start(self, run: LoggedRun) -> None:
        """Begin the record of a run everywhere."""
        self._each(lambda logger: logger.start(run), "start")

    def epoch(self, epoch: Epoch) -> None:
        """Record one epoch everywhere."""
        self._each(lambda logger: logger.epoch(epoch), "epoch")

    def close(self) -> None:
        """Finish every record."""
        self._each(lambda logger: logger.close(), "close")

    def _each(self, call: Callable[[Logger], None], doing: str) -> None:
        for logger in list(self._active):
            try:
                call(logger)
            except Exception as error:  # a service, or a user's code, may raise anything
                self._active.remove(logger)
                warnings.warn(
                    f"the logger {type(logger).__name__} failed in {doing} and is left out; the "
                    f"training goes on: {printable(reason(error))}",
                    SparringWarning,
                    stacklevel=4,
                )
