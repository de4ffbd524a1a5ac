"""The Linf ball inside the box."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch
from ..functional.geometry import project_linf, sample_linf
from .base import Ball


class Linf(Ball):
    """Bound the perturbation in Linf.
    {x' : ‖x' − x‖_∞ ≤ eps} ∩ [low, high]^d. Arguments as in `Ball`.

    Source: Madry et al. 2018, eq. 2.1. Differs: the code of TRADES and MART clips the noise
    start only after the first step.

    >>> Linf(0.25).project(torch.tensor([[0.9]]), Batch(torch.tensor([[0.5]]), torch.tensor([0])))
    tensor([[0.7500]])
    """

    paper = "madry2018pgd"
    p = torch.inf
    projection = staticmethod(project_linf)
    sample = staticmethod(sample_linf)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        return z + size * grad.sign()
