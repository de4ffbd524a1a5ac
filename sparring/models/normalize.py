"""Normalise inputs in the model's first stage, so that attacks and eps keep the data's units."""

from __future__ import annotations

import torch
from torch import nn

from .base import Numbers, register_mean_std, standardize


class Normalize(nn.Module):
    """Normalize each channel of `x (b, c, ...)`: (x − mean) / std.

    Arguments:
        mean, std: one number, or one per channel, in input units; std > 0.

    >>> Normalize([0.5], [0.25])(torch.tensor([[1.0], [0.5]])).tolist()
    [[2.0], [0.0]]
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Numbers = 0.0, std: Numbers = 1.0) -> None:
        super().__init__()
        numbers = register_mean_std(self, mean=mean, std=std)
        self.identity = set(numbers["mean"]) == {0.0} and set(numbers["std"]) == {1.0}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return standardize(x, self.mean, self.std)

    def extra_repr(self) -> str:
        return f"mean={self.mean.tolist()}, std={self.std.tolist()}"
