"""Sharpness-aware minimization."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ..component import require
from .base import WeightPerturbation, gradients, shifted_weights


class SAM(WeightPerturbation):
    """Perturb all weights together along the gradient: v = rho·g/‖g‖.

    Arguments:
        rho: norm of the move in weight space, ≥ 0; 0 is off.

    Source: Foret et al. 2021, eq. 2. Differs: the move is taken back after the optimizer's step,
    not before it. For plain SGD that is the same, but weight decay sees θ + v.

    >>> SAM(rho=0.1)
    SAM(rho=0.1)
    """

    paper = "foret2021sam"

    def __init__(self, *, rho: float = 0.05) -> None:
        super().__init__()
        require(rho >= 0, "rho", rho, "a length ≥ 0")
        self.rho = rho

    def perturbed(
        self, model: nn.Module, closure: Callable[[], Tensor]
    ) -> AbstractContextManager[None]:
        weights = [p for p in model.parameters() if p.requires_grad]
        if not self.rho or not weights:
            return nullcontext()
        grads = gradients(model, closure, weights)
        length = torch.stack([g.norm() for g in grads]).norm() + 1e-20
        return shifted_weights(weights, [self.rho * g / length for g in grads])
