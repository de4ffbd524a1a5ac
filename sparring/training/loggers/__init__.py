"""Loggers of a training: TensorBoard, MLflow, Weights & Biases, and those of the user."""

from .base import LoggedRun, Logger
from .combine import LOGGERS, Loggers, make_logger

__all__ = ["LOGGERS", "LoggedRun", "Logger", "Loggers", "make_logger"]


def __dir__() -> list[str]:
    return sorted(__all__)
