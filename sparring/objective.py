"""The formula: threat, attack, method and risk in one min–max."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from .attacks.base import Maximizer
from .batch import Batch, Loss
from .component import checked, require
from .functional.losses import cross_entropy, smoothed_labels
from .introspect import freeze
from .methods.base import Method
from .risks.base import Risk
from .runtime import distributed


class Objective(nn.Module):
    """Combine attack, method and risk to the min-max problem that a training solves.
    min_θ ρ_i[ max_{x' ∈ S(x_i)} ℓ(θ; x', x_i, y_i) − λ·c(x', x_i) ] + R(θ).

    Arguments:
        attack: searches the maximum, and owns the threat; None: no adversary (x' = x).
        method: gain of the adversary, loss and penalty of the model.
        risk: aggregates the per-sample losses, and sets λ.
        natural: weight of the mean clean cross-entropy, in [0, 1]; the robust part has 1 − natural.
        smoothing: share s of label smoothing, in [0, 1): every cross-entropy that the model
            minimizes takes (1 − s)·y + s/k. The adversary, and terms of a method that need a class,
            keep the label. None: no smoothing.

    >>> from sparring.methods import Standard
    >>> from sparring.risks import Mean
    >>> batch = Batch(torch.zeros(1, 2), torch.tensor([0]))
    >>> objective = Objective(None, Standard(), Mean())
    >>> objective.minimize(nn.Identity(), objective.maximize(nn.Identity(), batch)).total
    tensor(0.6931)
    """

    @checked
    def __init__(
        self,
        attack: Maximizer | None,
        method: Method,
        risk: Risk,
        *,
        natural: float = 0.0,
        smoothing: float | None = None,
    ) -> None:
        super().__init__()
        require(0 <= natural <= 1, "natural", natural, "a weight in [0, 1]")
        ok = smoothing is None or 0 <= smoothing < 1
        require(ok, "smoothing", smoothing, "a share in [0, 1)")
        self.attack, self.method, self.risk, self.natural = attack, method, risk, natural
        self.smoothing, self._outputs = smoothing, dict[int, int]()

    def maximize(self, model: nn.Module, batch: Batch) -> Batch:
        """Return the batch with `x_adv`, `y_adv` and `cost` filled; the model stays as it was."""
        if self.attack is None:
            return replace(batch, x_adv=batch.x, y_adv=batch.y, cost=torch.zeros_like(batch.weight))
        threat = self.attack.threat
        threat.check_reachable(batch.x.shape[1:])  # of shapes alone: nothing waits for the device
        # the adversary pays λ and does not move it: a λ that is a parameter gets its gradient in
        # minimize alone. In exact mode it is the λ of the last batch
        multiplier = torch.as_tensor(self.risk.multiplier).detach()
        # frozen before the gain too, which may run the model on clean x: weights get no gradient,
        # and running statistics see only the passes of minimize
        with freeze.frozen(model, self.attack.mode):
            gain = self.method.gain(model, batch)

            def penalized_gain(z: Tensor) -> Tensor:
                cost = threat.searched_cost(z, batch)
                return gain(*threat.unpack(z, batch)) - multiplier * cost

            z = self.attack.maximize(penalized_gain, replace(batch, price=multiplier))
            x_adv, y_adv = threat.unpack(z, batch)
            cost = threat.cost(z.detach(), batch)
        return replace(batch, x_adv=x_adv, y_adv=y_adv, cost=cost)

    def minimize(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss on a batch that `maximize` has filled; differentiate its `total`."""
        if batch.cost is None:
            raise ValueError("batch.cost is missing: call maximize(model, batch) first")
        batch, counts = _with_mass(batch)
        soft = self._smoothed(model, batch) if self.smoothing else batch
        loss = self.method.loss(model, soft)
        # loss and cost apart: the budget of a risk counts the cost, and an exact λ moves its weight
        total = robust = self.risk(loss.per_sample, batch.cost, batch)
        # after the call, which sets them: the log shows λ and the weights of this batch
        loss.terms.update(self.risk.terms)
        if self.natural:
            # over the joint batch of all processes, as the risk is: weights may differ between them
            u = distributed.gather(cross_entropy(model(batch.x), soft.y))
            w = distributed.gather(batch.weight)
            clean = (w * u).sum() / w.sum()
            loss.terms["clean"] = clean.detach()
            total = (1 - self.natural) * robust + self.natural * clean
        # the penalty last, and whole: neither the risk nor `natural` scales it
        return replace(loss, total=counts * total + loss.penalty)

    def _smoothed(self, model: nn.Module, batch: Batch) -> Batch:
        """Return the batch with smoothed labels `(b, k)`; the risk keeps the integers."""
        assert self.smoothing
        if id(model) not in self._outputs:  # once: how many classes the model has
            with freeze.frozen(model, "eval") as run, torch.no_grad():
                self._outputs = {id(model): run(batch.x[:1]).shape[1]}
        y, y_adv = (
            None if y is None else smoothed_labels(y, self._outputs[id(model)], self.smoothing)
            for y in (batch.y, batch.y_adv)
        )
        return replace(batch, y=y, y_adv=y_adv)

    def update(self, model: nn.Module, batch: Batch) -> None:
        """Update dual variables and running statistics of every piece, after the step."""
        pieces = (self.attack and self.attack.threat, self.attack, self.method, self.risk)
        for piece in pieces:
            if piece is not None:
                piece.update(model, batch)


def _with_mass(batch: Batch) -> tuple[Batch, Tensor]:
    """Return a batch and 1; where all weights of the joint batch are 0, the batch with equal ones,
    and 0 to multiply its loss by.

    A short batch may hold nothing but classes that `data.balance` gives no weight.
    """
    counts = distributed.gather(batch.weight).sum() > 0
    weight = torch.where(counts, batch.weight, torch.ones_like(batch.weight))
    return replace(batch, weight=weight), counts.to(batch.weight)
