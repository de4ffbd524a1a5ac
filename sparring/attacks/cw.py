"""Run Carlini and Wagner's attacks: minimize a penalty on δ plus a hinge on the margin."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor

from ..batch import Model
from ..functional.geometry import broadcast_rows, broadcast_scale, norm
from ..threats.base import Threat
from . import minimal_norm
from .base import ActiveSet, Execution, Search
from .minimal_norm import SearchState

TANH_LIMIT = 0.999999  # x at the box's edge would lie at atanh(±1) = ±inf
TAU_DECAY = 0.9  # factor of the Linf bound τ after a success


def square(delta: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """Compute ‖δ‖₂² `(b,)` and its gradient: the penalty in L2, which has no bound τ."""
    return norm(delta, 2).square(), 2 * delta


def excess(delta: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """Compute Σ_i max(|δ_i| − τ, 0) `(b,)` and its gradient: the penalty in Linf, with one bound τ
    per sample."""
    over = delta.abs() - broadcast_scale(tau, delta)
    return over.clamp_min(0).flatten(1).sum(1), delta.sign() * (over > 0)


class CW(Search):
    """Minimize the perturbation plus a hinge on the margin, by Adam in tanh space.
    min_w penalty(δ) + c·max(κ − margin(z), 0) with z = tanh(w) in the box, δ = z − x.

    L2: the penalty is ‖δ‖₂²; bisection searches c, ×10 until one succeeds. Linf: the penalty is
    Σ_i max(|δ_i| − τ, 0); a success shrinks τ to 0.9 of the distance reached, a failure takes 10c,
    and the next round goes on from there. A call stops a sample at its first adversarial point
    within eps; `distances` ignores eps and returns how far the closest one is.

    Arguments:
        threat: an Linf or L2 ball.
        steps: of Adam in each round, ≥ 1. Published: 10 000 (L2), 1000 (Linf).
        search_steps: rounds, ≥ 1. Published: 9 (L2), until τ < 1/256 (Linf).
        size: Adam's rate, in tanh space. Published: 0.01 (L2), 0.005 (Linf).
        c: weight of the hinge in the first round. Published: 0.001 (L2), 0.00001 (Linf).
        confidence: κ, the margin that an adversarial point must have, ≥ 0, in logits.
        abort: end a sample's round when its loss falls by less than 0.01 % in a tenth of the steps.
        precision, channels_last, seed: as in `Execution`; this attack draws nothing.

    Source: Carlini and Wagner 2017, sec. V.B, V.C and VI. Differs: Linf runs all samples in rounds,
    each with its own τ and c, where the authors' code takes one sample through all c for every τ;
    inside a ball τ starts at 0.9·eps and stays.

    >>> from sparring.threats import L2
    >>> model = lambda x: torch.stack([x.sum(1), 1.2 - x.sum(1)], 1)
    >>> attack = CW(L2(0.1), steps=200)
    >>> _, distance = attack.distances(model, torch.full((1, 2), 0.4), torch.tensor([0]))
    >>> distance.round(decimals=2)
    tensor([0.1400])
    """

    paper = "carlini2017cw"
    norms = (math.inf, 2)

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 100,
        search_steps: int = 5,
        size: float = 0.02,
        c: float = 0.01,
        confidence: float = 0.0,
        abort: bool = True,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        self.threat, self.steps, self.size = self.require_ball(threat), steps, size
        self.p: float = getattr(threat, "p", math.inf)
        self.search_steps, self.c, self.confidence, self.abort = search_steps, c, confidence, abort
        minimal_norm.check_keywords(self)

    def search(self, active: ActiveSet, round_index: int) -> None:
        minimal_norm.search_ball(self, active)

    def distances(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the closest adversarial points and how far they are: `minimal_norm.distances`."""
        return minimal_norm.distances(self, model, x, y)

    def start(self, active: ActiveSet, eps: float | None) -> SearchState:
        x, low, high = active.x, self.threat.low, self.threat.high
        w = (TANH_LIMIT * (2 * (x - low) / (high - low) - 1)).clamp(-TANH_LIMIT, TANH_LIMIT).atanh()
        tau = x.new_full((len(x),), TAU_DECAY * (high - low if eps is None else eps))
        return SearchState(self, active, eps, start=w, w=w, tau=tau)

    def update_weight(self, state: SearchState) -> None:
        if self.p == 2:
            state.bisect_weight()
            return
        state.c = torch.where(state.improved, state.c, 10 * state.c)
        if state.eps is None:
            # inside a ball τ stays just below eps: any point within eps is as good as a closer one
            tau = torch.minimum(state.extra["tau"] / TAU_DECAY, state.distance)
            state.extra["tau"] = TAU_DECAY * tau

    def descend(self, state: SearchState) -> None:
        penalty = square if self.p == 2 else excess
        low, high, extra = self.threat.low, self.threat.high, state.extra
        # Adam begins afresh: its moments belong to the loss of the last c and τ
        extra["mean"] = extra["mean_square"] = 0 * extra["w"]
        if self.p == 2:
            extra["w"] = extra["start"]
        for step in range(1, self.steps + 1):
            t = extra["w"].tanh()
            z = (low + (high - low) * (t + 1) / 2).clamp(low, high)
            hinge, hinge_grad, logits = state.hinge(z)
            length, length_grad = penalty(z - state.active.x, extra["tau"])
            grad = length_grad + broadcast_scale(state.c, z) * hinge_grad
            # the chain rule through z(w)
            extra["grad"] = grad * (high - low) / 2 * (1 - t.square())
            if state.ends_round(step, z, logits, length + state.c * hinge):
                return
            grad = extra["grad"]
            extra["mean"] = 0.9 * extra["mean"] + 0.1 * grad
            extra["mean_square"] = 0.999 * extra["mean_square"] + 0.001 * grad.square()
            scale = (extra["mean_square"] / (1 - 0.999**step)).sqrt() + 1e-8
            moved = extra["w"] - self.size * extra["mean"] / (1 - 0.9**step) / scale
            extra["w"] = torch.where(broadcast_rows(state.falling, moved), moved, extra["w"])
