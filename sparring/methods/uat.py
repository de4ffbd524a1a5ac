"""Unsupervised adversarial training: stable predictions where there are no labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..batch import Batch, Loss
from ..component import require
from ..functional.losses import cross_entropy, kl
from .base import Method, SampleGain, adversarial_pair


class UAT(Method):
    """Train for stable predictions on adversarial inputs, with labels or without.
    ℓ = online·KL(stop(p(x)) ‖ p(x')) + fixed·CE(p(x'), y), where x' maximizes the same. An
    unlabeled row (y = −1) has the first term only, whose targets are the model's predictions:
    UAT-OT. On pseudo-labelled rows, `online = 0` is UAT-FT, the loss of `AT`, and both terms are
    UAT++.

    Arguments:
        online, fixed: weights, ≥ 0; the fixed targets are labels or pseudo-labels.

    Source: Alayrac et al. 2019. Differs: one adversary maximizes both terms together.

    >>> from torch import nn, tensor, zeros
    >>> x = zeros(1, 2)
    >>> UAT().loss(nn.Identity(), Batch(x, tensor([0]), x_adv=x, y_adv=tensor([0]))).per_sample
    tensor([3.4657])
    """

    paper = "alayrac2019uat"

    def __init__(self, *, online: float = 1.0, fixed: float = 5.0) -> None:
        super().__init__()
        require(online >= 0, "online", online, "a weight ≥ 0")
        require(fixed >= 0, "fixed", fixed, "a weight ≥ 0")
        self.online, self.fixed = online, fixed

    def gain(self, model: nn.Module, batch: Batch) -> SampleGain:
        target = self._target(model, batch)

        def f(x_adv: Tensor, y_adv: Tensor) -> Tensor:
            logits = model(x_adv)
            value = self.fixed * cross_entropy(logits, y_adv)
            if target is not None:
                value = value + self.online * cross_entropy(logits, target.softmax(1))
            return value

        return f

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        x_adv, y_adv = adversarial_pair(batch)
        target, logits = self._target(model, batch), model(x_adv)
        label = cross_entropy(logits, y_adv)
        stability = torch.zeros_like(label) if target is None else kl(target, logits)
        terms = {"label": label.mean().detach(), "kl": stability.mean().detach()}
        return Loss(self.online * stability + self.fixed * label, terms=terms)

    def _target(self, model: nn.Module, batch: Batch) -> Tensor | None:
        """Return the logits on x without gradient; None where `online` is 0."""
        if not self.online:
            return None
        with torch.no_grad():
            return model(batch.x)
