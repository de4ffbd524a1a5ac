"""Input normalisation as the model's first stage, so that an adversary works on the data's own scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..part import require


class Normalize(nn.Module):
    """(x − mean) / std for each channel of `x (b, c, ...)`.

    The numbers are configuration, not weights: they stay out of the state dict, so that it fits one from elsewhere.

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
        for key, value in (("mean", mean), ("std", std)):
            numbers = torch.as_tensor(value, dtype=torch.float32).flatten()
            ok = (
                len(numbers)
                and bool(numbers.isfinite().all())
                and (key == "mean" or bool((numbers > 0).all()))
            )
            require(ok, key, value, "finite" if key == "mean" else "finite and above 0")
            self.register_buffer(key, numbers, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        tail = [1] * (x.ndim - 2)
        return (x - self.mean.view(-1, *tail)) / self.std.view(-1, *tail)

    def extra_repr(self) -> str:
        """The numbers, for `print(model)`."""
        return f"mean={self.mean.tolist()}, std={self.std.tolist()}"
