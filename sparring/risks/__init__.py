"""Risks: how per-sample losses are aggregated."""

from .base import Risk
from .combine import PerClass
from .cvar import CVaR
from .divergence import KL, Alpha, Renyi
from .mean import Mean

__all__ = ["KL", "Alpha", "CVaR", "Mean", "PerClass", "Renyi", "Risk"]


def __dir__() -> list[str]:
    return sorted(__all__)
