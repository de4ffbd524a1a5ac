"""Risks that combine others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..component import require
from ..runtime import distributed
from .base import Risk


class PerClass(Risk):
    """Apply a risk to some classes, and the mean to the rest: Σ_k π_k·ρ_k over the two parts.

    Arguments:
        of: the risk over the named classes alone.
        classes: labels of these classes; rows of any other class, or without a label, count by
            their mean.

    π_k are the parts' shares of the base measure; a part without rows in a batch is left out.

    Raises:
        ValueError: if `classes` is empty, or has a label below 0.

    Source: Birrell and Ebrahimi 2023, the asymmetric ARMOR: only malware is re-weighted.

    >>> from sparring.risks import CVaR
    >>> batch = Batch(torch.zeros(4, 1), torch.tensor([0, 0, 1, 1]))
    >>> PerClass(CVaR(level=0.5), classes=[1])(torch.arange(4.0), torch.zeros(4), batch)
    tensor(1.7500)
    """

    paper = "birrell2023armor"
    one_class_per_sample = True

    def __init__(self, of: Risk, *, classes: Sequence[int]) -> None:
        super().__init__()
        require(classes and min(classes) >= 0, "classes", classes, "one or more labels ≥ 0")
        self.of, self.classes = of, list(classes)
        self._applied = False  # to the last batch

    def check_classes(self, classes: int) -> None:
        require(max(self.classes) < classes, "classes", self.classes, f"labels below {classes}")

    @property
    def multiplier(self) -> Tensor | float:  # type: ignore[override]
        """Return λ of the inner risk."""
        return self.of.multiplier

    def forward(self, loss: Tensor, cost: Tensor, batch: Batch) -> Tensor:
        mask = torch.isin(batch.y, torch.tensor(self.classes, device=batch.y.device))
        # the other rows keep weight 0 and stay: `gather` needs as many rows on every process
        inner, other = batch.weight * mask, distributed.gather(batch.weight * ~mask)
        total = distributed.gather(batch.weight).sum()
        share, risk = distributed.gather(inner).sum() / total, loss.new_zeros(())
        self._applied = bool(share > 0)
        if self._applied:
            risk = self.of(loss, cost, replace(batch, weight=inner))
        # after the inner risk, which in exact mode has just moved λ
        u = distributed.gather(loss - torch.as_tensor(self.multiplier).to(loss) * cost)
        self.terms = {**self.of.terms, "share": share.detach()}
        return share * risk + (other * u).sum() / total

    def update(self, model: nn.Module, batch: Batch) -> None:
        if self._applied:  # else its slope is that of an earlier batch
            self.of.update(model, batch)
