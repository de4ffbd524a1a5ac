"""The L2 ball inside the box."""

from __future__ import annotations

from torch import Tensor

from ..batch import Batch
from ..functional.geometry import normalize, project_l2, sample_l2
from .base import Ball


class L2(Ball):
    """Bound the perturbation in L2.
    {x' : ‖x' − x‖_2 ≤ eps} ∩ [low, high]^d. Arguments as in `Ball`.

    Source: Madry et al. 2018. Differs: the projection is exact on the intersection; peers project
    on the ball, then clip.

    >>> import torch
    >>> L2(0.25).project(torch.tensor([[0.9]]), Batch(torch.tensor([[0.5]]), torch.tensor([0])))
    tensor([[0.7500]])
    """

    paper = "madry2018pgd"
    p = 2
    projection = staticmethod(project_l2)
    sample = staticmethod(sample_l2)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        return z + size * normalize(grad, 2)
