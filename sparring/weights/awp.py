"""Adversarial weight perturbation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from ..component import require
from .base import WeightPerturbation, gradients, shifted_weights


class AWP(WeightPerturbation):
    """Perturb each layer's weights along their gradient, in proportion to their norm.
    v_l = gamma·‖w_l‖·g_l/‖g_l‖ for each weight l of two or more dimensions, g its gradient.

    Arguments:
        gamma: norm of the move relative to that of the layer's weights, ≥ 0; 0 is off (schedule it
            for a late start).

    Source: Wu et al. 2020, eq. 10 and alg. 1. Differs: it ascends the training loss itself, on
    the model and not on a copy.

    >>> AWP()
    AWP(gamma=0.01)
    """

    paper = "wu2020awp"

    def __init__(self, *, gamma: float = 0.01) -> None:
        super().__init__()
        require(gamma >= 0, "gamma", gamma, "a relative size ≥ 0")
        self.gamma = gamma

    def perturbed(
        self, model: nn.Module, closure: Callable[[], Tensor]
    ) -> AbstractContextManager[None]:
        # matrices and kernels alone, as in the paper's code: no bias, no scale of a norm layer
        weights = [
            p
            for n, p in model.named_parameters()
            if p.ndim > 1 and n.endswith("weight") and p.requires_grad
        ]
        if not self.gamma or not weights:
            return nullcontext()
        grads = gradients(model, closure, weights)
        shifts = [
            self.gamma * w.detach().norm() * g / (g.norm() + 1e-20)
            for w, g in zip(weights, grads, strict=True)
        ]
        return shifted_weights(weights, shifts)
