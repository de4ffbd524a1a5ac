"""Normalise inputs in the model's first stage, so that attacks and eps keep the data's units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..component import require
from .base import finite_numbers, standardize


class Normalize(nn.Module):
    """(x − mean) / std for each channel of `x (b, c, ...)`.

    Arguments:
        mean, std: one number, or one per channel, in input units; std > 0.

    >>> Normalize([0.5], [0.25])(torch.tensor([[1.0], [0.5]])).tolist()
    [[2.0], [0.0]]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 1.0
    ) -> None:
        super().__init__()
        numbers = {"mean": finite_numbers("mean", mean), "std": finite_numbers("std", std)}
        require(min(numbers["std"]) > 0, "std", std, "above 0")
        for key, value in numbers.items():
            # configuration, not weights: they stay out of the state dict
            self.register_buffer(key, torch.tensor(value), persistent=False)
        self.identity = set(numbers["mean"]) == {0.0} and set(numbers["std"]) == {1.0}

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised inputs, of the shape of `x`."""
        return standardize(x, self.mean, self.std)

    def extra_repr(self) -> str:
        """Return the numbers, for `print(model)`."""
        return f"mean={self.mean.tolist()}, std={self.std.tolist()}"
