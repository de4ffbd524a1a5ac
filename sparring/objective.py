"""The formula: where threat, attack, method and risk meet."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from .attacks.base import Maximizer
from .batch import Batch, Loss
from .component import require
from .functional.losses import cross_entropy
from .introspect import freeze
from .methods.base import Method
from .risks.base import Risk
from .runtime import distributed


class Objective(nn.Module):
    """min_θ ρ_i[ max_{x' ∈ S(x_i)} ℓ(θ; x', x_i, y_i) − λ·c(x', x_i) ] + R(θ).

    Arguments:
        attack: searches, and owns the threat; None trains without an adversary (x' = x).
        method: gain, loss and penalty.
        risk: aggregates.
        natural: weight of the mean clean cross-entropy, in [0, 1]; the robust part has 1 − natural.

    >>> from sparring.methods import Standard
    >>> from sparring.risks import Mean
    >>> batch = Batch(torch.zeros(1, 2), torch.tensor([0]))
    >>> objective = Objective(None, Standard(), Mean())
    >>> objective.minimize(nn.Identity(), objective.maximize(nn.Identity(), batch)).total
    tensor(0.6931)
    """

    def __init__(
        self, attack: Maximizer | None, method: Method, risk: Risk, *, natural: float = 0.0
    ) -> None:
        super().__init__()
        require(0 <= natural <= 1, "natural", natural, "a weight in [0, 1]")
        self.attack, self.method, self.risk, self.natural = attack, method, risk, natural

    def maximize(self, model: nn.Module, batch: Batch) -> Batch:
        """The batch with `x_adv`, `y_adv` and `cost` filled; the model is left as it was."""
        if self.attack is None:
            return replace(batch, x_adv=batch.x, y_adv=batch.y, cost=torch.zeros_like(batch.weight))
        threat = self.attack.threat
        multiplier = torch.as_tensor(self.risk.multiplier).detach()
        with freeze.frozen(model, self.attack.mode):
            gain = self.method.gain(model, batch)

            def penalized_gain(z: Tensor) -> Tensor:
                return gain(*threat.unpack(z, batch)) - multiplier * threat.cost(z, batch)

            z = self.attack.maximize(penalized_gain, batch)
            x_adv, y_adv = threat.unpack(z, batch)
            cost = threat.cost(z.detach(), batch)
        return replace(batch, x_adv=x_adv, y_adv=y_adv, cost=cost)

    def minimize(self, model: nn.Module, batch: Batch) -> Loss:
        """The loss on a batch that `maximize` has filled; `total` is what to differentiate."""
        assert batch.cost is not None, "call maximize first"
        loss = self.method.loss(model, batch)
        total = self.risk(loss.per_sample, batch.cost, batch)
        loss.terms.update(self.risk.notes)
        if self.natural:
            u = distributed.gather(cross_entropy(model(batch.x), batch.y))
            w = distributed.gather(batch.weight)
            clean = (w * u).sum() / w.sum()
            loss.terms["clean"] = clean.detach()
            total = (1 - self.natural) * total + self.natural * clean
        return replace(loss, total=total + loss.penalty)

    def update(self, model: nn.Module, batch: Batch) -> None:
        """After the step: duals and running statistics of every part."""
        for part in (self.attack and self.attack.threat, self.attack, self.method, self.risk):
            if part is not None:
                part.update(model, batch)
