"""Weights: perturbing the parameters during a step, and averaging them."""

from .awp import AWP
from .base import WeightPerturbation
from .ema import EMA
from .sam import SAM

__all__ = ["AWP", "EMA", "SAM", "WeightPerturbation"]


def __dir__() -> list[str]:
    return sorted(__all__)
