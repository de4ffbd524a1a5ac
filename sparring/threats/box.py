"""The box alone: every valid input."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..runtime import distributed
from .base import Threat


class Box(Threat):
    """Allow every valid input, without a radius: S = [low, high]^d.

    >>> Box().project(torch.tensor([[1.5]]), Batch(torch.tensor([[0.5]]), torch.tensor([0])))
    tensor([[1.]])
    """

    def __init__(self, *, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        require(low < high, "low", low, f"below high = {high}")
        self.low, self.high = low, high

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Draw a point uniformly from the box, wherever x is."""
        return self.low + (self.high - self.low) * distributed.draw("uniform", batch.x, generator)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        return z + size * grad.sign()

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        return z.clamp(self.low, self.high)
