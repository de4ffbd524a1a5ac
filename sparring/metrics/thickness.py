"""Measure the width of the transition between two classes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..attacks import PGD
from ..batch import Batch, Model
from ..component import require, require_at_least
from ..functional import losses
from ..functional.geometry import norm
from ..threats import L2
from .base import Metric, chunked_logits


class Thickness(Metric):
    """Compute the boundary thickness between x and an adversarial point.
    ‖x − x_s‖₂ · share{t ∈ [0, 1]: alpha < g(x + t·(x_s − x)) < beta} with g = p_i − p_j, i the
    class predicted at x, and x_s where L2-PGD towards class j ≠ i ends.

    Arguments:
        eps, steps, size: of PGD, in input units; it runs all its steps and starts at x.
        alpha, beta: the transition, as differences of probabilities.
        points: on the segment, t = 0 and 1 among them.
        seed: of the class j, which is drawn evenly.

    Source: Yang et al. 2020 (boundary thickness), def. 1; 128 points, (0, 0.75), 20 steps, eps 5,
    steps of 1 as in nsfzyzz/boundary_thickness.

    >>> model = lambda x: torch.stack([0 * x[:, 0], 20 * x[:, 0] - 10], 1)
    >>> Thickness()(model, torch.tensor([[0.1]]))  # 2·artanh(0.75)/20 = 0.0973
    tensor([0.0984])
    """

    paper = "yang2020thickness"
    unit = "input units, L2"
    labels = False

    def __init__(
        self,
        *,
        eps: float = 5.0,
        steps: int = 20,
        size: float = 1.0,
        alpha: float = 0.0,
        beta: float = 0.75,
        points: int = 128,
        low: float = 0.0,
        high: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(low=low, high=high)
        require(-1 <= alpha < beta <= 1, "alpha", alpha, f"in [-1, beta = {beta}), beta at most 1")
        require_at_least(2, points=points)
        self.eps, self.steps, self.size = eps, steps, size
        self.alpha, self.beta, self.points, self.seed = alpha, beta, points, seed
        ball = L2(eps, low=low, high=high)
        self.attack = PGD(ball, steps=steps, size=size, random_start=False, best=False)

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        logits = model(x)
        i, k = logits.argmax(1), logits.shape[1]
        j = (i + torch.randint(1, k, (len(x),), generator=self.generator()).to(i)) % k
        end = self.attack.maximize(lambda z: -losses.cross_entropy(model(z), j), Batch(x, j))
        t = torch.linspace(0, 1, self.points, dtype=x.dtype, device=x.device)
        line = x[:, None] + t.view(-1, *[1] * (x.ndim - 1)) * (end - x)[:, None]
        p = chunked_logits(model, line.flatten(0, 1)).softmax(1).view(len(x), self.points, k)
        of_i, of_j = (p.gather(2, c.view(-1, 1, 1).expand(-1, self.points, 1)) for c in (i, j))
        g = (of_i - of_j)[..., 0]
        return norm(end - x, 2) * ((g > self.alpha) & (g < self.beta)).to(x.dtype).mean(1)
