"""Adversarial training."""

from __future__ import annotations

from torch import nn

from ..batch import Batch, Loss
from ..functional.losses import cross_entropy
from .base import Method, adversarial_pair


class AT(Method):
    """Train on adversarial inputs: ℓ = CE(f(x'), y'), where x' maximizes the same.

    Source: Madry et al. 2018, eq. 2.1.

    >>> from torch import nn, tensor, zeros
    >>> x = zeros(1, 2)
    >>> AT().loss(nn.Identity(), Batch(x, tensor([0]), x_adv=x, y_adv=tensor([0]))).per_sample
    tensor([0.6931])
    """

    paper = "madry2018pgd"

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        x_adv, y_adv = adversarial_pair(batch)
        return Loss(cross_entropy(model(x_adv), y_adv))
