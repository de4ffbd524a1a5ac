"""The plain expectation."""

from __future__ import annotations

from torch import Tensor

from ..batch import Batch
from ..component import require
from ..runtime import distributed
from .base import Risk


class Mean(Risk):
    """Average u = loss − λ·cost over the joint batch of all processes: ρ(u) = Σ w_i u_i / Σ w_i.

    Arguments:
        multiplier: λ ≥ 0, the weight of the transport cost; 1 with `Transport` is WRM.

    >>> import torch
    >>> batch = Batch(torch.zeros(2, 1), torch.zeros(2, dtype=int))
    >>> Mean()(torch.tensor([1.0, 3.0]), torch.zeros(2), batch)
    tensor(2.)
    """

    def __init__(self, *, multiplier: float = 1.0) -> None:
        super().__init__()
        require(multiplier >= 0, "multiplier", multiplier, "a number ≥ 0")
        self.multiplier = multiplier

    def forward(self, loss: Tensor, cost: Tensor, batch: Batch) -> Tensor:
        u, w = distributed.gather(loss - self.multiplier * cost), distributed.gather(batch.weight)
        return (w * u).sum() / w.sum()
