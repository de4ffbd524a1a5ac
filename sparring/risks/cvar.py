"""The mean of the worst share of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..runtime import distributed
from .base import Risk


def worst_share(u: Tensor, p: Tensor, level: float) -> Tensor:
    """Solve argmax_w E_w[u] over w ≤ p/level, Σw = 1: the highest u get all they may `(n,)`.

    >>> worst_share(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.5]), 0.75)
    tensor([0.3333, 0.6667])
    """
    order = u.argsort(descending=True)
    most = p[order] / level
    before = most.cumsum(0) - most
    return torch.empty_like(p).scatter(0, order, most.minimum((1 - before).clamp_min(0)))


class CVaR(Risk):
    """Average the worst `level` of the base measure: ρ(u) = sup {E_w[u] : w ≤ p/level}.

    Arguments:
        level: in (0, 1]; 1 is the mean, near 0 the max.
        multiplier: λ ≥ 0, the weight of the transport cost.

    Source: Rockafellar and Uryasev 2000.

    >>> batch = Batch(torch.zeros(4, 1), torch.zeros(4, dtype=int))
    >>> CVaR(level=0.5)(torch.tensor([1.0, 3.0, 2.0, 0.0]), torch.zeros(4), batch)
    tensor(2.5000)
    """

    paper = "rockafellar2000cvar"

    def __init__(self, *, level: float = 0.5, multiplier: float = 1.0) -> None:
        super().__init__()
        require(0 < level <= 1, "level", level, "a share in (0, 1]")
        require(multiplier >= 0, "multiplier", multiplier, "a number ≥ 0")
        self.level, self.multiplier = level, multiplier

    def forward(self, loss: Tensor, cost: Tensor, batch: Batch) -> Tensor:
        # over the joint batch of all processes: the worst share of each is not the worst of all
        u = distributed.gather(loss - self.multiplier * cost)
        base = distributed.gather(batch.weight)
        w = worst_share(u.detach(), base / base.sum(), self.level)
        self.terms = {"max_weight": (base > 0).sum() * w.amax()}
        return (w * u).sum()
