"""DeepFool: from one linearised decision boundary to the next, until the class changes."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..batch import Model
from ..component import require
from ..functional.geometry import broadcast_rows, nearest_hyperplane, step_to_hyperplane
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search, run_restarts


class DeepFool(Search):
    """x' ← clip(x' + (1 + overshoot)·d(x')) from x until x' is wrong: d(x') is the shortest way
    within the box to the plane z_k = z_y, linearised at x', of the class k for which it is nearest.

    The point found is returned where it lies within eps, else x. `distances` ignores eps.

    Arguments:
        threat: an Linf or L2 ball: its norm is what is kept small.
        steps: steps at most, ≥ 1; a sample stops at its first wrong point.
        overshoot: share by which each step goes beyond its plane, ≥ 0.
        classes: y and the highest other logits at x, as many together, ≥ 2; each costs a backward
            pass a step.
        precision, channels_last: how the model runs while searching.
        seed: of its own generator; nothing is drawn.

    Source: Moosavi-Dezfooli et al. 2016, alg. 2, eq. 11. Differs: there is no box in the paper, and
    merely clipped steps stall before the plane; the overshoot is part of each step, as in the
    authors' code.

    >>> from sparring.threats import L2
    >>> model = lambda x: torch.stack([x.sum(1), 1.8 - x.sum(1)], 1)
    >>> DeepFool(L2(0.1)).distances(model, torch.full((1, 2), 0.5), torch.tensor([0]))[0]
    tensor([[0.4490, 0.4490]])
    """

    paper = "moosavi2016deepfool"
    norms = (2, torch.inf)

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 50,
        overshoot: float = 0.02,
        classes: int = 10,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        require(steps >= 1, "steps", steps, "an integer ≥ 1")
        require(overshoot >= 0, "overshoot", overshoot, "a share ≥ 0")
        require(classes >= 2, "classes", classes, "an integer ≥ 2")
        self.threat, self.steps = self.ball(threat), steps
        self.p: float = getattr(threat, "p", torch.inf)
        self.overshoot, self.classes = overshoot, classes

    def distances(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The wrong points found `(b, *d)`, at whatever distance, and that distance `(b,)` in the
        threat's norm: 0 where x itself is wrong, inf (and x) where none was found."""
        point, wrong = self.walk(model, x, y)
        point = torch.where(broadcast_rows(wrong, point), point, x.detach())
        return point, torch.where(wrong, self.threat.distance(point, x.detach()), torch.inf)

    def walk(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where each walk ends `(b, *d)`, at its first wrong point or after all its steps, and
        whether it is wrong there `(b,)`."""
        x = x.detach()
        walks: list[tuple[Tensor, Tensor]] = []

        def search(active: ActiveSet, turn: int) -> None:
            walks.append(self._walk(active))

        run_restarts(self, model, x, y, search, num_rounds=self.num_rounds, look=False)
        return walks[0] if walks else (x.clone(), x.new_zeros(len(x), dtype=torch.bool))

    def search(self, active: ActiveSet, turn: int) -> None:
        point, wrong = self._walk(active)
        near = self.threat.distance(point, active.x) <= (self.threat.eps or 0.0)
        z = torch.where(broadcast_rows(wrong & near, point), point, active.x)
        active.record(z, active.logits_no_grad(z))

    def _walk(self, active: ActiveSet) -> tuple[Tensor, Tensor]:
        """The first wrong points `(a, *d)`, or the last ones; and whether there is one `(a,)`."""
        point, wrong = active.x.clone(), torch.zeros_like(active.y, dtype=torch.bool)
        rows = torch.arange(len(point), device=point.device)
        z, rivals = active.x, None
        for step in range(self.steps + 1):
            y, z = active.y[rows], z.detach().requires_grad_()
            with torch.enable_grad():
                logits = active.logits(z)
            hit = active.is_adversarial(logits, y)
            point[rows], wrong[rows] = z.detach(), hit
            if step == self.steps or bool(hit.all()):
                break
            rivals = self._rivals(logits, y) if rivals is None else rivals
            with torch.enable_grad():
                leads = logits.gather(1, rivals) - logits.gather(1, y.clamp_min(0)[:, None])
            lead, slope, _ = nearest_hyperplane(leads, z, self.p)
            on = ~hit
            rows, rivals = rows[on], rivals[on]
            z = self._next(z[on].detach(), lead[on], slope[on])
        if active.low and wrong.any():
            wrong[wrong.clone()] = active.is_adversarial(
                active.exact(point[wrong]), active.y[wrong]
            )
        return point, wrong

    def _next(self, z: Tensor, lead: Tensor, slope: Tensor) -> Tensor:
        """A little beyond the plane lead + slope·(· − z) = 0."""
        low, high = self.threat.low, self.threat.high
        way = step_to_hyperplane(z.flatten(1), slope.flatten(1), lead, self.p, low, high)
        return (z + (1 + self.overshoot) * way.view_as(z)).clamp(low, high)

    def _rivals(self, logits: Tensor, y: Tensor) -> Tensor:
        """The wrong classes to consider `(a, m)`, by their logits."""
        others = logits.detach().scatter(1, y.clamp_min(0)[:, None], -torch.inf)
        return others.topk(min(self.classes, logits.shape[1]) - 1, dim=1).indices
