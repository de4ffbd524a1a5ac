"""Estimate the local Lipschitz constant of a model around each sample."""

from __future__ import annotations

import torch
from torch import Tensor

from ..attacks import PGD
from ..batch import Batch, Model
from ..component import require
from ..functional.geometry import norm
from ..threats import norm_ball
from .base import Metric

P = {"Linf": torch.inf, "L2": 2, "L1": 1}


class Lipschitz(Metric):
    """Estimate from below the local Lipschitz constant around each sample.
    max ‖f(x') − f(x)‖₁ / ‖x' − x‖_p over x' in a ball: the larger end of two gradient ascents, of
    the ratio and of its numerator.

    Arguments:
        norm: `"Linf"`, `"L2"` or `"L1"`, p and the ball's shape.
        eps: the ball's radius, in input units.
        steps, restarts: of the ascent, from random points.
        of: f is the `"logits"` or the `"softmax"`.

    Source: Yang et al. 2020 (accuracy versus robustness), eq. 3 and sec. 5.

    >>> model = lambda x: torch.stack([x.sum(1), 1.8 - x.sum(1)], 1)
    >>> Lipschitz(eps=0.1)(model, torch.full((1, 2), 0.5))
    tensor([4.])
    """

    paper = "yang2020lipschitz"
    unit = "outputs an input unit"
    better = "lower"
    labels = False

    def __init__(
        self,
        *,
        norm: str = "Linf",
        eps: float = 0.1,
        steps: int = 10,
        restarts: int = 1,
        of: str = "logits",
        low: float = 0.0,
        high: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(low=low, high=high)
        require(norm in P, "norm", norm, "one of " + ", ".join(P))
        require(eps > 0, "eps", eps, "a radius > 0 in input units")
        require(of in ("logits", "softmax"), "of", of, "logits or softmax")
        self.norm, self.eps, self.steps, self.restarts = norm, eps, steps, restarts
        self.of, self.seed = of, seed
        ball = norm_ball(norm, eps=eps, low=low, high=high)
        self.attack = PGD(ball, steps=steps, restarts=restarts, seed=seed)

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        def output(z: Tensor) -> Tensor:
            return model(z).softmax(1) if self.of == "softmax" else model(z)

        here, tiny = output(x), torch.finfo(x.dtype).eps * (self.high - self.low)

        def rise(z: Tensor) -> Tensor:
            return (output(z) - here).abs().sum(1)

        def slope(z: Tensor) -> Tensor:
            return rise(z) / norm(z - x, P[self.norm]).clamp_min(tiny)

        self.attack.reseed(self.generator().initial_seed())
        ends = [self.attack.maximize(f, Batch(x, y)) for f in (rise, slope)]
        return torch.maximum(*(slope(z) for z in ends))
