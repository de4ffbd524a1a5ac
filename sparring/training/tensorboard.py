"""Write the scalars of each epoch for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from .state import Epoch


class TensorBoardLog:
    """Write the scalars of each epoch for TensorBoard, in the run's folder `tensorboard`.

    Arguments:
        epochs_done: epochs before this session; later entries of an earlier session are hidden.

    Raises:
        ValueError: if the package is not installed.
    """

    def __init__(self, folder: Path, *, epochs_done: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            message = "tensorboard = True needs a package: pip install 'sparring[tensorboard]'"
            raise ValueError(message) from error
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epochs_done + 1)

    def epoch(self, epoch: Epoch) -> None:
        """Write one epoch."""
        row = epoch.row()
        for key, value in {**row, **{f"parts/{k}": v for k, v in row["parts"].items()}}.items():
            if isinstance(value, int | float) and key != "epoch":
                self.writer.add_scalar(key, value, epoch.number)
        self.writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self.writer.close()
