"""Adversarial logit pairing."""

from __future__ import annotations

from torch import nn

from ..batch import Batch, Loss
from ..component import require
from ..functional.losses import cross_entropy
from .base import Method, adversarial_pair


class ALP(Method):
    """Train on clean and adversarial inputs alike, and pair their logits.
    ℓ = ½·CE(f(x), y) + ½·CE(f(x'), y') + beta·mean_k (f(x') − f(x))².

    Arguments:
        beta: weight of the pairing, ≥ 0, per squared logit.

    Source: Kannan et al. 2018, sec. 4, in the form of Le et al. 2024's code (mean over classes).

    >>> from torch import nn, tensor
    >>> x, x_adv, y = tensor([[0.0, 0.0]]), tensor([[0.0, 2.0]]), tensor([1])
    >>> ALP(beta=1.0).loss(nn.Identity(), Batch(x, y, x_adv=x_adv, y_adv=y)).per_sample
    tensor([2.4100])
    """

    paper = "kannan2018alp"

    def __init__(self, *, beta: float = 0.5) -> None:
        super().__init__()
        require(beta >= 0, "beta", beta, "a weight ≥ 0")
        self.beta = beta

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        x_adv, y_adv = adversarial_pair(batch)
        clean, adversarial = model(batch.x), model(x_adv)
        natural, robust = cross_entropy(clean, batch.y), cross_entropy(adversarial, y_adv)
        pairing = (adversarial - clean).square().mean(1)
        terms = {"natural": natural.mean().detach(), "pairing": pairing.mean().detach()}
        return Loss(natural / 2 + robust / 2 + self.beta * pairing, terms=terms)
