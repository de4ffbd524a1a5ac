"""The L1 ball inside the box."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..functional.geometry import normalize, project_l1, sample_l1
from .base import Ball


class L1(Ball):
    """Bound the perturbation in L1.
    {x' : ‖x' − x‖_1 ≤ eps} ∩ [low, high]^d. Arguments as in `Ball`, and:

    Arguments:
        fraction: share of the coordinates that one step moves: those of largest gradient that still
            have room.

    Source: Tramèr and Boneh 2019 (SLIDE), alg. 1. Differs: exact projection (Croce and Hein 2021),
    box-aware choice.

    >>> import torch
    >>> L1(0.25).project(torch.tensor([[0.9]]), Batch(torch.tensor([[0.5]]), torch.tensor([0])))
    tensor([[0.7500]])
    """

    paper = "tramer2019multiple"
    p = 1
    projection = staticmethod(project_l1)
    sample = staticmethod(sample_l1)

    def __init__(
        self,
        eps: float,
        *,
        low: float = 0.0,
        high: float = 1.0,
        init: str = "uniform",
        noise: float = 0.001,
        fraction: float = 0.05,
    ) -> None:
        super().__init__(eps, low=low, high=high, init=init, noise=noise)
        require(0 < fraction <= 1, "fraction", fraction, "in (0, 1]")
        self.fraction = fraction

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        g, flat = grad.flatten(1), z.flatten(1)
        has_room = torch.where(g > 0, flat < self.high, flat > self.low)
        k = max(1, math.ceil(self.fraction * g.shape[1]))
        top = (g.abs() * has_room).topk(k, dim=1)
        chosen = torch.zeros_like(g).scatter(1, top.indices, (top.values > 0).to(g.dtype))
        return z + size * normalize(chosen * g.sign(), 1).view_as(z)
