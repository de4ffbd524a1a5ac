"""Interface of a risk: it aggregates per-sample losses, and sets λ of the transport cost."""

from __future__ import annotations

from torch import Tensor

from ..batch import Batch
from ..component import Component


class Risk(Component):
    """Aggregate loss − λ·cost into one number; monotone, between mean and max.

    Attributes:
        multiplier: λ, which the inner problem reads; each risk sets it.
        terms: scalars `()` of the last batch for the log, detached; may be empty.
    """

    # without a value here, so that a subclass may make it a parameter, a buffer or a property
    multiplier: Tensor | float

    def __init__(self) -> None:
        super().__init__()
        self.terms: dict[str, Tensor] = {}

    def forward(self, loss: Tensor, cost: Tensor, batch: Batch) -> Tensor:
        """Aggregate `loss (b,)` and `cost (b,)` under the base measure `batch.weight`, `()`."""
        raise NotImplementedError
