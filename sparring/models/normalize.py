"""Input normalisation as the model's first stage: an adversary works on the data's own scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..component import require


class Normalize(nn.Module):
    """(x − mean) / std for each channel of `x (b, c, ...)`.

    The numbers are configuration, not weights: they stay out of the state dict.

    Arguments:
        mean, std: one number, or one a channel, in input units; std > 0.

    >>> Normalize([0.5], [0.25])(torch.tensor([[1.0], [0.5]])).tolist()
    [[2.0], [0.0]]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 1.0
    ) -> None:
        super().__init__()
        numbers = {}
        for key, value in (("mean", mean), ("std", std)):
            numbers[key] = [float(v) for v in (value if isinstance(value, Sequence) else [value])]
            finite = bool(numbers[key]) and all(map(math.isfinite, numbers[key]))
            require(finite, key, value, "one finite number, or one a channel")
            self.register_buffer(key, torch.tensor(numbers[key]), persistent=False)
        require(min(numbers["std"]) > 0, "std", std, "above 0")
        self.identity = set(numbers["mean"]) == {0.0} and set(numbers["std"]) == {1.0}

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        tail = [1] * (x.ndim - 2)
        return (x - self.mean.view(-1, *tail)) / self.std.view(-1, *tail)

    def extra_repr(self) -> str:
        """The numbers, for `print(model)`."""
        return f"mean={self.mean.tolist()}, std={self.std.tolist()}"
