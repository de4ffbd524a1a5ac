"""Weights: what happens to the parameters themselves."""

from .awp import AWP
from .base import Climb
from .ema import EMA
from .sam import SAM

__all__ = ["AWP", "EMA", "SAM", "Climb"]
