"""Run EAD: minimize an elastic net of L1 and L2 by iterated shrinkage and thresholding."""

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
from .minimal_norm import SearchState


def shrink(z: Tensor, x: Tensor, beta: float, low: float, high: float) -> Tensor:
    """Move z towards x by β in each coordinate, onto x where it is no further, and into the box:
    the proximal step of β‖z − x‖₁.

    >>> shrink(torch.tensor([[0.9, 0.52, 1.5]]), torch.tensor([[0.5, 0.5, 0.5]]), 0.1, 0.0, 1.0)
    tensor([[0.8000, 0.5000, 1.0000]])
    """
    delta = z - x
    moved = delta.sign() * (delta.abs() - beta).clamp_min(0)
    return torch.where(moved == 0, x, (x + moved).clamp(low, high))


class EAD(Search):
    """Minimize an elastic-net perturbation plus a hinge on the margin, by FISTA in the box.
    min_z c·max(κ − margin(z), 0) + ‖z − x‖₂² + β‖z − x‖₁.

    z⁺ = shrink(s − α·∇(the first two terms at s), β), s = z⁺ + k/(k+3)·(z⁺ − z), α = size·√(1 −
    k/steps); bisection searches c, ×10 until one succeeds. Of the adversarial iterates the one
    nearest in L1 counts. A call stops a sample at the first one within eps; `distances` ignores eps
    and returns how far the closest one is.

    Arguments:
        threat: an L1 ball.
        steps: of each round, ≥ 1. Published: 1000.
        search_steps: rounds, ≥ 1. Published: 9.
        size: α of the first step. Published: 0.01.
        beta: β of the L1 term, ≥ 0, in input units. Published: 0.001.
        c: weight of the hinge in the first round. Published: 0.001.
        confidence: κ, the margin that an adversarial point must have, ≥ 0, in logits.
        abort: end a sample's round when its loss falls by less than 0.01 % in a tenth of the steps.
        precision, channels_last, seed: as in `Execution`; this attack draws nothing.

    Source: Chen et al. 2018, eq. 4-6 and alg. 1, the L1 decision rule. Differs: s is clipped to the
    box before a pass.

    >>> from sparring.threats import L1
    >>> model = lambda x: torch.stack([x @ torch.tensor([3.0, 1.0]), 1.3 + 0 * x[:, 0]], 1)
    >>> _, distance = EAD(L1(0.1)).distances(model, torch.full((1, 2), 0.4), torch.tensor([0]))
    >>> distance.round(decimals=1)
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
        require(beta >= 0, "beta", beta, "a length ≥ 0 in input units")
        self.threat, self.steps, self.size = self.require_ball(threat), steps, size
        self.search_steps, self.c, self.confidence, self.abort = search_steps, c, confidence, abort
        self.beta = beta
        minimal_norm.check_keywords(self)

    def search(self, active: ActiveSet, round_index: int) -> None:
        minimal_norm.search_ball(self, active)

    def distances(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the closest adversarial points and how far they are: `minimal_norm.distances`."""
        return minimal_norm.distances(self, model, x, y)

    def start(self, active: ActiveSet, eps: float | None) -> SearchState:
        return SearchState(self, active, eps)

    def update_weight(self, state: SearchState) -> None:
        state.bisect_weight()

    def descend(self, state: SearchState) -> None:
        low, high, active, extra = self.threat.low, self.threat.high, state.active, state.extra
        extra["z"] = extra["extrapolated"] = active.x
        for k in range(self.steps):
            previous, extrapolated = extra["z"], extra["extrapolated"]
            hinge, hinge_grad, _ = state.hinge(extrapolated)
            delta = extrapolated - active.x
            grad = 2 * delta + broadcast_scale(state.c, delta) * hinge_grad
            loss = state.c * hinge + norm(delta, 2).square() + self.beta * norm(delta, 1)
            rate = self.size * math.sqrt(1 - k / self.steps)
            z = shrink(extrapolated - rate * grad, active.x, self.beta, low, high)
            ahead = (z + k / (k + 3) * (z - previous)).clamp(low, high)
            falling = broadcast_rows(state.falling, z)
            z = extra["z"] = torch.where(falling, z, previous)
            extra["extrapolated"] = torch.where(falling, ahead, extrapolated)
            # A second pass, at z: only z is sparse, the extrapolated point is not.
            if state.ends_round(k + 1, z, active.logits_no_grad(z), loss):
                return
