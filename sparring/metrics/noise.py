"""Measure how small changes of the input change the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from ..attacks.base import Attack
from ..batch import Model
from ..component import require, require_at_least
from ..functional import losses
from ..functional.geometry import norm
from .base import Metric, chunked_logits, gradient


class ENI(Metric):
    """Compute the empirical noise insensitivity: the change of the loss per distance, under noise.
    (1/M) Σ_m |ℓ(x) − ℓ(μ_m)| / ‖x − μ_m‖_∞ over M copies μ_m of x within ‖·‖_∞ ≤ eps, ℓ the
    cross-entropy.

    Arguments:
        eps: of the noise, in input units.
        draws: M; each is uniform in the ball and clipped to the box.
        attack: makes the copies, not noise, each with another seed; copies equal to x do not count.

    Source: Liu et al. 2021 (adversarial noise propagation), def. 1. Differs from the code of
    DIG-Beihang/AISafety, which divides one sum over the batch by one maximum.

    >>> model = lambda x: torch.stack([30 * x.sum(1), 0 * x[:, 0]], 1)
    >>> ENI(eps=0.1)(model, torch.full((1, 1), 0.5), torch.tensor([1]))
    tensor([30.0000])
    """

    paper = "liu2021anp"
    unit = "nats an input unit"
    better = "lower"

    def __init__(
        self,
        *,
        eps: float = 0.1,
        draws: int = 10,
        attack: Attack | None = None,
        low: float = 0.0,
        high: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(low=low, high=high)
        require(eps > 0, "eps", eps, "a radius > 0 in input units")
        require_at_least(1, draws=draws)
        self.eps, self.draws, self.attack, self.seed = eps, draws, attack, seed

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        here = losses.cross_entropy(model(x), y)
        copies = torch.stack(self._copies(model, x, y), 1)
        z = chunked_logits(model, copies.flatten(0, 1))
        there = losses.cross_entropy(z, y.repeat_interleave(self.draws))
        far = norm((copies - x[:, None]).flatten(0, 1), torch.inf).view(len(x), -1)
        slope = (here[:, None] - there.view(len(x), -1)).abs() / far
        return torch.where(far > 0, slope, torch.nan).nanmean(1)

    def _copies(self, model: Model, x: Tensor, y: Tensor) -> list[Tensor]:
        generator = self.generator()
        if self.attack is None:
            noise = (2 * torch.rand(self.draws, *x.shape, generator=generator) - 1).to(x) * self.eps
            return list((x + noise).clamp(self.low, self.high))
        copies = []
        for seed in torch.randint(2**31, (self.draws,), generator=generator).tolist():
            self.attack.reseed(seed)
            copies.append(self.attack(model, x, y))
        return copies


class LossSensitivity(Metric):
    """Compute the norm of the loss's input gradient: ‖∇_x cross-entropy(f(x), y)‖₂.

    Source: Arpit et al. 2017, sec. 4.1, with the L2 norm as in the Adversarial Robustness Toolbox.

    >>> model = lambda x: torch.stack([30 * x.sum(1), 0 * x[:, 0]], 1)
    >>> LossSensitivity()(model, torch.full((1, 4), 0.5), torch.tensor([1]))
    tensor([60.])
    """

    paper = "arpit2017memorization"
    unit = "nats an input unit"
    better = "lower"

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        grad = gradient(self, lambda z: losses.cross_entropy(model(z), y), x)[1]
        return norm(grad, 2)
