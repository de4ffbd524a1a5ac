"""TRADES: accuracy on clean points, and stable predictions around them."""

from __future__ import annotations

import torch
from torch import nn

from ..batch import Batch, Loss
from ..component import require
from ..functional.losses import cross_entropy, kl
from .base import Method, SampleGain, adversarial_pair


class TRADES(Method):
    """Train on clean inputs, and keep predictions stable on adversarial ones.
    ℓ = CE(f(x), y) + beta·KL(p(x) ‖ p(x')), where x' maximizes the KL. The inner attack is PGD on
    the soft labels p(x): KL and soft-label cross-entropy differ by a constant in x'.

    Source: Zhang et al. 2019, eq. 5. Differs: the clean prediction is computed once per attack, not
    once per step; and batch norm sees x and x', where the authors' loss passes x, x', x: a third of
    their running statistics is adversarial, half of ours.

    >>> from torch import nn, tensor, zeros
    >>> x = zeros(1, 2)
    >>> TRADES().loss(nn.Identity(), Batch(x, tensor([0]), x_adv=x)).per_sample
    tensor([0.6931])
    """

    paper = "zhang2019trades"

    def __init__(self, *, beta: float = 6.0) -> None:
        super().__init__()
        require(beta >= 0, "beta", beta, "a weight ≥ 0")
        self.beta = beta

    def gain(self, model: nn.Module, batch: Batch) -> SampleGain:
        with torch.no_grad():
            clean = model(batch.x).softmax(1)
        return lambda x_adv, y_adv: cross_entropy(model(x_adv), clean)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        x_adv, _ = adversarial_pair(batch)
        clean, adversarial = model(batch.x), model(x_adv)
        natural, stability = cross_entropy(clean, batch.y), kl(clean, adversarial)
        terms = {"natural": natural.mean().detach(), "kl": stability.mean().detach()}
        return Loss(natural + self.beta * stability, terms=terms)
