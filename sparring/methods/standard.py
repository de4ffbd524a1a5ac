"""Training without an adversary."""

from __future__ import annotations

from torch import nn

from ..batch import Batch, Loss
from ..functional.losses import cross_entropy
from .base import Method


class Standard(Method):
    """Train on clean inputs: ℓ = CE(f(x), y).

    >>> from torch import nn, tensor, zeros
    >>> Standard().loss(nn.Identity(), Batch(zeros(1, 2), tensor([0]))).per_sample
    tensor([0.6931])
    """

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        return Loss(cross_entropy(model(batch.x), batch.y))
