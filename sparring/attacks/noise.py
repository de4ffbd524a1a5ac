"""Draw random points of the threat's set: the baseline that any gradient attack must beat."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..batch import Batch, Model
from ..component import require_at_least
from ..threats.base import Threat
from .base import ActiveSet, Attack, Float32Execution, begin_call


class Noise(Attack):
    """Draw at most `draws` random feasible points per sample; return the first that the model gets
    wrong, else the last.

    >>> from sparring.threats import Linf
    >>> Noise(Linf(0.1))(lambda x: x, torch.zeros(2, 3), torch.zeros(2, dtype=int)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self, threat: Threat, *, draws: int = 10, **execution: Unpack[Float32Execution]
    ) -> None:
        super().__init__(**execution)
        require_at_least(1, draws=draws)
        self.threat, self.draws = threat, draws

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        with begin_call(model, x, y, threat=self.threat, mode=self.mode) as (x, y), torch.no_grad():
            active = ActiveSet(model, x, y)
            x_adv, rows = x.clone(), torch.arange(len(x), device=x.device)
            for _ in range(self.draws):
                if len(rows) == 0:
                    break
                batch = Batch(x[rows], y[rows], index=rows)
                z = self.threat.random_start(batch, self.generator(x.device))
                z = self.threat.discretize(z, batch)
                x_adv[rows] = z
                rows = rows[~active.is_adversarial(active.logits(z), y[rows])]
        return x_adv
