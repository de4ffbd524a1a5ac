"""How per-sample losses become one number, and what transport costs."""

from __future__ import annotations

from torch import Tensor

from ..batch import Batch
from ..component import Component


class Risk(Component):
    """Aggregates loss − λ·cost; monotone, between mean and max. Each sets its `multiplier`: λ, read
    by the inner problem.

    Attributes:
        notes: scalars `()` of the last batch for the log, detached; a risk may leave some.
    """

    multiplier: (
        Tensor | float
    )  # without a value here, so that it may become a parameter or a buffer

    def __init__(self) -> None:
        super().__init__()
        self.notes: dict[str, Tensor] = {}

    def forward(self, loss: Tensor, cost: Tensor, batch: Batch) -> Tensor:
        """A scalar from `loss (b,)` and `cost (b,)`, under the base measure `batch.weight`."""
        raise NotImplementedError
