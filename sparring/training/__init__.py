"""Training: the iterator trainer, its run folder and checkpoints, schedules, several processes."""

from .checkpoint import read_weights
from .state import Epoch, NonFiniteLoss
from .trainer import Trainer

__all__ = ["Epoch", "NonFiniteLoss", "Trainer", "read_weights"]


def __dir__() -> list[str]:
    return sorted(__all__)
