"""Write the scalars of each epoch for TensorBoard."""

from __future__ import annotations

from typing import Any

from ...runtime.extras import import_extra
from ..state import Epoch
from .base import LoggedRun, scalars


class TensorBoard:
    """Write the scalars of each epoch for TensorBoard, in the run's folder `tensorboard`.

    A resumed training hides the later entries of an earlier session.

    Raises:
        ValueError: if the package is not installed.
    """

    def __init__(self) -> None:
        purpose = 'log = ["tensorboard"]'
        import_extra("tensorboard", extra="tensorboard", purpose=purpose)
        module = import_extra("torch.utils.tensorboard", extra="tensorboard", purpose=purpose)
        self._make, self._writer = module.SummaryWriter, None

    def start(self, run: LoggedRun) -> None:
        """Open a file of events."""
        folder = str(run.folder / "tensorboard")
        self._writer: Any = self._make(folder, purge_step=run.epochs_done + 1)

    def epoch(self, epoch: Epoch) -> None:
        """Write one epoch."""
        for key, value in scalars(epoch).items():
            self._writer.add_scalar(key, value, epoch.number)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
