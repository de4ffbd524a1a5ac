"""Losses for your own loop: the step of a recipe as one call, a scalar to differentiate.

>>> import torch
>>> from sparring import losses
>>> model, x, y = torch.nn.Linear(2, 2), torch.rand(4, 2), torch.tensor([0, 1, 0, 1])
>>> losses.trades(model, x, y, eps=0.1, beta=6.0).backward()
"""

from .calls import alp, mart, otjr, pgd_at, sat, trades, uad
from .minmax import MinMaxLoss

__all__ = ["MinMaxLoss", "alp", "mart", "otjr", "pgd_at", "sat", "trades", "uad"]


def __dir__() -> list[str]:
    return sorted(__all__)
