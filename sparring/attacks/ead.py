"""EAD: the elastic net between L1 and L2, by iterated shrinkage and thresholding."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor

from ..batch import Model
from ..component import require
from ..functional.geometry import broadcast_rows, broadcast_scale, norm
from ..threats.base import Threat
from . import minimal_norm
from .base import ActiveSet, Execution, Search
from .minimal_norm import State


def shrink(z: Tensor, x: Tensor, beta: float, low: float, high: float) -> Tensor:
    """z moved towards x by β in each coordinate, x where it is no further, and into the box: the
    proximal step of β‖z − x‖₁.

    >>> shrink(torch.tensor([[0.9, 0.52, 1.5]]), torch.tensor([[0.5, 0.5, 0.5]]), 0.1, 0.0, 1.0)
    tensor([[0.8000, 0.5000, 1.0000]])
    """
    delta = z - x
    moved = delta.sign() * (delta.abs() - beta).clamp_min(0)
    return torch.where(moved == 0, x, (x + moved).clamp(low, high))


class EAD(Search):
    """min_z c·max(κ − margin(z), 0) + ‖z − x‖₂² + β‖z − x‖₁ in the box, by FISTA.

    z⁺ = shrink(s − α·∇(the first two terms at s), β), s = z⁺ + k/(k+3)·(z⁺ − z), α = size·√(1 −
    k/steps); c is searched by bisection, ×10 until something is found. Of the adversarial iterates
    the one nearest in L1 counts. Called as an attack it ends, a sample, at the first one within
    eps; `distances` ignores eps and tells how far the closest is.

    Arguments:
        threat: an L1 ball.
        steps: of each round, ≥ 1. Published: 1000.
        search_steps: rounds, ≥ 1. Published: 9.
        size: α of the first step. Published: 0.01.
        beta: β ≥ 0, what shrinks, in input units. Published: 0.001.
        c: weight of the hinge in the first round. Published: 0.001.
        confidence: κ ≥ 0, in logits: by how much the model must be wrong.
        abort: a sample stops a round when its loss falls less than 0.01 % in a tenth of the steps.
        precision, channels_last: how the model runs while searching.
        seed: of its own generator; nothing is drawn.

    Source: Chen et al. 2018, eq. 4-6 and alg. 1, the L1 decision rule. Differs: s is clipped to the
    box before the model is asked.

    >>> from sparring.threats import L1
    >>> model = lambda x: torch.stack([x @ torch.tensor([3.0, 1.0]), 1.3 + 0 * x[:, 0]], 1)
    >>> _, far = EAD(L1(0.1)).distances(model, torch.full((1, 2), 0.4), torch.tensor([0]))
    >>> far.round(decimals=1)
    tensor([0.1000])
    """

    paper = "chen2018ead"
    norms = (1,)

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 100,
        search_steps: int = 5,
        size: float = 0.01,
        beta: float = 0.01,
        c: float = 0.1,
        confidence: float = 0.0,
        abort: bool = True,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        self.threat = self.ball(threat)
        self.steps, self.search_steps, self.size, self.c = steps, search_steps, size, c
        self.confidence, self.abort = confidence, abort
        minimal_norm.limits(self)
        require(beta >= 0, "beta", beta, "a length ≥ 0 in input units")
        self.beta = beta

    def search(self, active: ActiveSet, turn: int) -> None:
        minimal_norm.search(self, active)

    def distances(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """As `closest.distances`: the closest points found, and how far they are."""
        return minimal_norm.distances(self, model, x, y)

    def begin(self, active: ActiveSet, eps: float | None) -> State:
        """Both sequences at x."""
        return minimal_norm.at(active.x, self.c, z=active.x, slack=active.x)

    def weigh(self, s: State, eps: float | None) -> None:
        """As `closest.bisect`."""
        minimal_norm.bisect(s)

    def descend(self, active: ActiveSet, s: State, eps: float | None) -> State:
        """One round of FISTA; a row whose loss no longer falls stays where it is."""
        low, high = self.threat.low, self.threat.high
        every = max(self.steps // 10, 1)
        s.own["z"] = s.own["slack"] = active.x
        for k in range(self.steps):
            old, slack = s.own["z"], s.own["slack"]
            hinge, pull, _ = minimal_norm.hinge(self, active, slack)
            delta = slack - active.x
            grad = 2 * delta + broadcast_scale(s.c, delta) * pull
            loss = s.c * hinge + norm(delta, 2).square() + self.beta * norm(delta, 1)
            rate = self.size * math.sqrt(1 - k / self.steps)
            z = shrink(slack - rate * grad, active.x, self.beta, low, high)
            ahead = (z + k / (k + 3) * (z - old)).clamp(low, high)
            z = s.own["z"] = torch.where(broadcast_rows(s.live, z), z, old)
            s.own["slack"] = torch.where(broadcast_rows(s.live, z), ahead, slack)
            keep = minimal_norm.note(self, active, s, z, active.logits_no_grad(z), eps)
            if len(active) == 0:
                return s
            if keep is not None:
                s, loss = s.take(keep), loss[keep]
            if self.abort and (k + 1) % every == 0:
                s.settle(loss)
                if not s.live.any():
                    return s
        return s
