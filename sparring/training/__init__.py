"""Training: the iterator trainer, checkpoints, schedules, several processes."""

from .trainer import Epoch, NonFiniteLoss, Trainer

__all__ = ["Epoch", "NonFiniteLoss", "Trainer"]
