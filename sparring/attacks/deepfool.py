"""Run DeepFool: step from one linearised decision boundary to the next until the class changes."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..batch import Model
from ..component import require, require_at_least
from ..functional.geometry import broadcast_rows, nearest_hyperplane, step_to_hyperplane
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search, begin_call, run_restarts
from .rows import split_rows


class DeepFool(Search):
    """Step onto the nearest linearised boundary until the model is wrong.
    x' ← clip(x' + (1 + overshoot)·d(x')) from x: d(x') is the shortest way within the box to the
    plane z_k = z_y, linearised at x', of the class k for which it is nearest. A call returns the
    wrong point where it lies within eps, else x. `distances` ignores eps.

    Arguments:
        threat: an Linf or L2 ball: its norm is the length of a step.
        steps: steps at most, ≥ 1; a sample stops at its first wrong point.
        overshoot: share by which each step goes beyond its plane, ≥ 0.
        classes: number of classes that compete, y and the highest other logits at x, ≥ 2; each
            costs one backward pass per step.
        precision, channels_last, seed: as in `Execution`; this attack draws nothing.

    Source: Moosavi-Dezfooli et al. 2016, alg. 2, eq. 11. Differs: the paper has no box, and
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
        require_at_least(1, steps=steps)
        require_at_least(2, classes=classes)
        require(overshoot >= 0, "overshoot", overshoot, "a share ≥ 0")
        self.threat, self.steps = self.require_ball(threat), steps
        self.p: float = getattr(threat, "p", torch.inf)
        self.overshoot, self.classes = overshoot, classes

    def distances(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the wrong points `(b, *d)`, at any distance, and that distance `(b,)` in the
        threat's norm: 0 where x itself is wrong, inf (and x) without a wrong point."""
        with begin_call(model, x, y, threat=self.threat, mode=self.mode) as (x, y):
            point, wrong = self.walk(model, x, y)
            point = torch.where(broadcast_rows(wrong, point), point, x)
            return point, torch.where(wrong, self.threat.distance(point, x), torch.inf)

    def walk(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the end of each walk `(b, *d)`, its first wrong point or its last, and whether it
        is wrong there `(b,)`."""
        walks: list[tuple[Tensor, Tensor]] = []
        search = lambda active, round_index: walks.append(self._walk(active))  # noqa: E731
        x = run_restarts(self, model, x, y, search, skip_misclassified=False)
        return walks[0] if walks else (x.clone(), x.new_zeros(len(x), dtype=torch.bool))

    def search(self, active: ActiveSet, round_index: int) -> None:
        point, wrong = self._walk(active)
        near = self.threat.distance(point, active.x) <= (self.threat.eps or 0.0)
        z = torch.where(broadcast_rows(wrong & near, point), point, active.x)
        active.record(z, active.logits_no_grad(z))

    def _walk(self, active: ActiveSet) -> tuple[Tensor, Tensor]:
        # Rows are tracked here, not by `active.record`: points beyond eps count in a walk.
        point, wrong = active.x.clone(), torch.zeros_like(active.y, dtype=torch.bool)
        rows = torch.arange(len(point), device=point.device)
        z, rivals = active.x, None
        for step in range(self.steps + 1):
            z, y = z.detach().requires_grad_(step < self.steps), active.y[rows]
            with torch.enable_grad():
                logits = active.logits(z)
            is_wrong = active.is_adversarial(logits, y)
            point[rows], wrong[rows] = z.detach(), is_wrong
            _, right = split_rows(is_wrong)
            if step == self.steps or len(right) == 0:
                break
            rivals = self._rivals(logits, y) if rivals is None else rivals
            # Walks end after a few steps, and each gradient costs a pass per class: where that is
            # cheaper, wrong rows leave before it, for one more forward pass of the others.
            passes = rivals.shape[1]
            if (1 + passes) * len(right) < passes * len(rows):
                z, y = z[right].detach().requires_grad_(), y[right]
                rows, rivals = rows[right], rivals[right]
                with torch.enable_grad():
                    logits = active.logits(z)
                right = torch.arange(len(rows), device=rows.device)
            with torch.enable_grad():
                margins = logits.gather(1, rivals) - logits.gather(1, y.clamp_min(0)[:, None])
            value, normal, _ = nearest_hyperplane(margins, z, self.p)
            rows, rivals = rows[right], rivals[right]
            z = self._step(z[right].detach(), value[right], normal[right])
        # points just beyond a boundary are where lower precision errs most
        return point, active.confirmed(wrong, point)

    def _step(self, z: Tensor, value: Tensor, normal: Tensor) -> Tensor:
        """Move a little beyond the plane value + normal·(· − z) = 0."""
        low, high = self.threat.low, self.threat.high
        way = step_to_hyperplane(z.flatten(1), normal.flatten(1), value, self.p, low, high)
        return (z + (1 + self.overshoot) * way.view_as(z)).clamp(low, high)

    def _rivals(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the wrong classes of highest logit `(a, m)`."""
        others = logits.detach().clamp_min(torch.finfo(logits.dtype).min)
        others = others.scatter(1, y.clamp_min(0)[:, None], -torch.inf)
        return others.topk(min(self.classes, logits.shape[1]) - 1, dim=1).indices
