"""Record a training in MLflow: the recipe as parameters, each epoch as metrics."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any

from ...runtime.extras import import_extra
from ...runtime.text import printable
from ..state import Epoch
from .base import LoggedRun, flat, record_id, recorded_id, scalars

STORE = "sqlite:///mlflow.db"  # MLflow 3 refuses to write into plain folders
MOST_PARAMS = 100  # of one call
MOST_LETTERS = 500  # of a parameter, in stores of any version


class MLflow:
    """Record a training in MLflow's store; a resumed training goes on in the same run there.

    Arguments:
        uri: of the store; default: `$MLFLOW_TRACKING_URI`, else the file `mlflow.db` here.
        experiment: that the run belongs to.

    Raises:
        ValueError: if the package is not installed.
    """

    def __init__(self, *, uri: str | None = None, experiment: str = "sparring") -> None:
        options = {"extra": "mlflow", "purpose": 'log = ["mlflow"]'}
        with _quiet():
            self._tracking = import_extra("mlflow.tracking", **options)
            self._entities = import_extra("mlflow.entities", **options)
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or STORE
        self.experiment = experiment

    def start(self, run: LoggedRun) -> None:
        """Create the run, or open the one that an earlier session has created."""
        with _quiet():
            self._client: Any = self._tracking.MlflowClient(tracking_uri=self.uri)
            self._run_id, self._epochs, self._done = "", run.epochs, run.epochs_done
            before = recorded_id(run.folder, "mlflow")
            if before is not None:
                self._client.update_run(before, status="RUNNING")
                self._run_id = before
                return
            known = self._client.get_experiment_by_name(self.experiment)
            number = (
                self._client.create_experiment(self.experiment)
                if known is None
                else known.experiment_id
            )
            self._run_id = self._client.create_run(number, run_name=run.name).info.run_id
            record_id(run.folder, "mlflow", self._run_id)
            make = self._entities.Param
            params = [make(k, printable(v, MOST_LETTERS)) for k, v in flat(run.recipe)]
            for first in range(0, len(params), MOST_PARAMS):
                some = params[first : first + MOST_PARAMS]
                self._client.log_batch(self._run_id, params=some)

    def epoch(self, epoch: Epoch) -> None:
        """Record one epoch: its number is the step."""
        now, make = int(1000 * time.time()), self._entities.Metric
        metrics = [make(k, value, now, epoch.number) for k, value in scalars(epoch).items()]
        with _quiet():
            self._client.log_batch(self._run_id, metrics=metrics)
        self._done, self._epochs = epoch.number, epoch.epochs or self._epochs

    def close(self) -> None:
        """Mark the run as finished, or as killed before its last epoch."""
        finished = self._epochs is not None and self._done >= self._epochs
        status = "FINISHED" if finished else "KILLED"
        with _quiet():
            self._client.set_terminated(self._run_id, status)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the package's warnings and lines about its own store: nobody can act on them."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
