"""Carlini and Wagner: the smallest perturbation that a penalty and a hinge on the margin find."""

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
from .minimal_norm import State

INSIDE = 0.999999  # how far towards the box's edge tanh-space reaches
SHRINK = 0.9  # of the Linf bound τ after a success


def square(delta: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """‖δ‖₂² `(b,)` and its gradient: the penalty in L2, which has no bound τ."""
    return norm(delta, 2).square(), 2 * delta


def excess(delta: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_i max(|δ_i| − τ, 0) `(b,)` and its gradient: the penalty in Linf, with a bound τ a
    sample."""
    over = delta.abs() - broadcast_scale(tau, delta)
    return over.clamp_min(0).flatten(1).sum(1), delta.sign() * (over > 0)


class CW(Search):
    """min_w penalty(δ) + c·max(κ − margin(z), 0) with z = tanh(w) in the box, δ = z − x, by Adam.

    L2: the penalty is ‖δ‖₂²; c is searched by bisection, ×10 until something is found. Linf: it is
    Σ_i max(|δ_i| − τ, 0); a success shrinks τ to 0.9 of the distance reached, a failure takes 10c,
    and the next round goes on from there. Called as an attack it ends, a sample, at the first point
    within eps; `distances` ignores eps and tells how far the closest is.

    Arguments:
        threat: an Linf or L2 ball.
        steps: of Adam in each round, ≥ 1. Published: 10 000 (L2), 1000 (Linf).
        search_steps: rounds, ≥ 1. Published: 9 (L2), until τ < 1/256 (Linf).
        size: Adam's rate, in tanh space. Published: 0.01 (L2), 0.005 (Linf).
        c: weight of the hinge in the first round. Published: 0.001 (L2), 0.00001 (Linf).
        confidence: κ ≥ 0, in logits: by how much the model must be wrong.
        abort: a sample stops a round when its loss falls less than 0.01 % in a tenth of the steps.
        precision, channels_last: how the model runs while searching.
        seed: of its own generator; nothing is drawn.

    Source: Carlini and Wagner 2017, sec. V.B, V.C and VI. Differs: Linf runs all samples in rounds,
    each with its own τ and c, where the authors' code takes one sample through all c for every τ;
    inside a ball τ starts at 0.9·eps and stays.

    >>> from sparring.threats import L2
    >>> model = lambda x: torch.stack([x.sum(1), 1.2 - x.sum(1)], 1)
    >>> _, far = CW(L2(0.1), steps=200).distances(model, torch.full((1, 2), 0.4), torch.tensor([0]))
    >>> far.round(decimals=2)
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
        self.threat = self.ball(threat)
        self.steps, self.search_steps, self.size, self.c = steps, search_steps, size, c
        self.confidence, self.abort = confidence, abort
        minimal_norm.limits(self)

    def search(self, active: ActiveSet, turn: int) -> None:
        minimal_norm.search(self, active)

    def distances(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """As `closest.distances`: the closest points found, and how far they are."""
        return minimal_norm.distances(self, model, x, y)

    def begin(self, active: ActiveSet, eps: float | None) -> State:
        """In tanh space, at x."""
        x, low, high = active.x, self.threat.low, self.threat.high
        w = (INSIDE * (2 * (x - low) / (high - low) - 1)).clamp(-INSIDE, INSIDE).atanh()
        tau = x.new_full((len(x),), SHRINK * (high - low if eps is None else eps))
        return minimal_norm.at(x, self.c, start=w, w=w, mean=0 * w, power=0 * w, tau=tau)

    def weigh(self, s: State, eps: float | None) -> None:
        """c, and τ, of the next round."""
        if self.threat.p == 2:  # type: ignore[attr-defined]
            minimal_norm.bisect(s)
            return
        s.c = torch.where(s.nearer, s.c, 10 * s.c)
        if eps is None:
            s.own["tau"] = SHRINK * torch.minimum(s.own["tau"] / SHRINK, s.best)

    def descend(self, active: ActiveSet, s: State, eps: float | None) -> State:
        """One round of Adam; a row whose loss no longer falls stays where it is."""
        penalty = square if self.threat.p == 2 else excess  # type: ignore[attr-defined]
        low, high = self.threat.low, self.threat.high
        every = max(self.steps // 10, 1)
        s.own["mean"], s.own["power"] = 0 * s.own["w"], 0 * s.own["w"]
        if self.threat.p == 2:  # type: ignore[attr-defined]
            s.own["w"] = s.own["start"]
        for step in range(1, self.steps + 1):
            t = s.own["w"].tanh()
            z = (low + (high - low) * (t + 1) / 2).clamp(low, high)
            hinge, pull, logits = minimal_norm.hinge(self, active, z)
            paid, push = penalty(z - active.x, s.own["tau"])
            loss = paid + s.c * hinge
            grad = (push + broadcast_scale(s.c, z) * pull) * (high - low) / 2 * (1 - t.square())
            keep = minimal_norm.note(self, active, s, z, logits, eps)
            if len(active) == 0:
                return s
            if keep is not None:
                s, grad, loss = s.take(keep), grad[keep], loss[keep]
            if self.abort and step % every == 0:
                s.settle(loss)
                if not s.live.any():
                    return s
            mean = s.own["mean"] = 0.9 * s.own["mean"] + 0.1 * grad
            power = s.own["power"] = 0.999 * s.own["power"] + 0.001 * grad.square()
            scale = (power / (1 - 0.999**step)).sqrt() + 1e-8
            moved = s.own["w"] - self.size * mean / (1 - 0.9**step) / scale
            s.own["w"] = torch.where(broadcast_rows(s.live, moved), moved, s.own["w"])
        return s
