"""Run FAB: steps onto the linearised decision boundary, drawn towards the clean input."""

from __future__ import annotations

from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from ..batch import Model
from ..component import require, require_at_least
from ..functional import geometry
from ..functional.geometry import broadcast_rows, broadcast_scale, nearest_hyperplane
from ..functional.losses import margin
from ..runtime import distributed
from ..threats.base import Threat
from .base import (
    GPU_CONFIRM_PERIOD,
    ActiveSet,
    Execution,
    Search,
    begin_call,
    run_restarts,
)
from .rows import wrong_classes

WINDOW = 2 * GPU_CONFIRM_PERIOD  # updates whose points wait for float32 on a GPU


class FAB(Search):
    """Find the nearest adversarial point by steps onto the linearised boundary, biased towards x.
    x' ← clip((1 − α)(x' + η·d(x')) + α(x + η·d(x))), where d(·) is the shortest way within the box
    to the plane where, linearised at x', another class wins, and α = min(‖d(x')‖ / (‖d(x')‖ +
    ‖d(x)‖), alpha_max). A wrong x' steps back to x + β(x' − x). A call stops a sample at its first
    wrong point within eps; `distances`, which FAB is made for, ignores eps.

    Arguments:
        threat: a ball: its norm is the distance that FAB minimizes.
        steps: gradients of each round, ≥ 1; each also costs a forward pass, to see what is wrong.
        restarts: rounds over all targets, ≥ 1: the first from x, others from points at eps/2 (or
            half of the nearest distance known, if less).
        targets: how many wrong classes to aim at one after another, highest logit at x first, at
            most k − 1; 0 aims at the nearest of all boundaries, at k − 1 backward passes a step.
        alpha_max: largest weight α of the clean input, in [0, 1].
        eta: extrapolation η beyond the plane, ≥ 1.
        beta: share β of its perturbation that a wrong point keeps, in (0, 1).
        final: steps of interpolation between x and the nearest wrong point that end a round, ≥ 0.
        precision, channels_last, seed: as in `Execution`; only restarts draw.

    Source: Croce and Hein 2020, alg. 1; the budgets are AutoAttack's FAB-T. Differs: a sample
    leaves once broken within eps; each restart runs over all targets, not the other way round; a
    random start that is wrong counts; AutoAttack's code has no final search.

    >>> from sparring.threats import Linf
    >>> model = lambda x: torch.stack([x.sum(1), 1.8 - x.sum(1)], 1)
    >>> _, distance = FAB(Linf(0.1)).distances(model, torch.full((1, 2), 0.5), torch.tensor([0]))
    >>> distance.round(decimals=2)
    tensor([0.0500])
    """

    paper = "croce2020fab"

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 100,
        restarts: int = 1,
        targets: int = 9,
        alpha_max: float = 0.1,
        eta: float = 1.05,
        beta: float = 0.9,
        final: int = 3,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        require_at_least(1, steps=steps, restarts=restarts)
        require_at_least(0, final=final)
        require(targets >= 0, "targets", targets, "a number of classes, or 0 for all at once")
        require(0 <= alpha_max <= 1, "alpha_max", alpha_max, "a weight in [0, 1]")
        require(eta >= 1, "eta", eta, "a factor ≥ 1")
        require(0 < beta < 1, "beta", beta, "a share in (0, 1)")
        self.threat, self.steps, self.restarts = self.require_ball(threat), steps, restarts
        self.p: float = getattr(threat, "p", torch.inf)
        self.targets, self.final, self.alpha_max = targets, final, alpha_max
        self.eta, self.beta = eta, beta

    def distances(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest wrong points `(b, *d)`, at any distance, and that distance `(b,)` in
        the threat's norm: 0 where x itself is wrong, inf (and x) without a wrong point."""
        with begin_call(model, x, y, threat=self.threat, mode=self.mode) as (x, y):
            closest = ClosestPoint(x, self.threat, 0.0)
            run_restarts(self, model, x, y, partial(self._round, closest), skip_misclassified=False)
        return closest.point, closest.distance

    def num_rounds(self, active: ActiveSet) -> int:
        if not self.targets or not len(active):
            return self.restarts
        classes = active.logits_no_grad(active.x).shape[1]
        return self.restarts * min(self.targets, classes - 1)

    def search(self, active: ActiveSet, round_index: int) -> None:
        closest = ClosestPoint(active.best, self.threat, self.threat.eps or 0.0)
        self._round(closest, active, round_index)

    def _round(self, closest: ClosestPoint, active: ActiveSet, round_index: int) -> None:
        """Search towards one target, or, untargeted, from one start."""
        rivals, restart = self._rivals(active, round_index)
        z = self._start(closest, active) if restart else active.x
        for step in range(self.steps + 1):
            wrong, keep = closest.update(active, z, active.logits_no_grad(z))
            if len(active) == 0:
                return
            if step == self.steps:
                break
            if keep is not None:
                z, wrong, rivals = z[keep], wrong[keep], rivals[keep]
            # Backward step: a wrong point lies beyond the boundary. Nearer to x the linearisation
            # sees the part of the boundary that matters, and the distance shrinks.
            back = active.x + self.beta * (z - active.x)
            z = torch.where(broadcast_rows(wrong, z), back, z).detach().requires_grad_()
            y = active.y.clamp_min(0)[:, None]
            with torch.enable_grad():
                logits = active.logits(z)
                margins = logits.gather(1, rivals) - logits.gather(1, y)
            value, normal, _ = nearest_hyperplane(margins, z, self.p)
            z = self._step(z.detach(), active.x, value, normal)
        self._interpolate(closest, active)

    def _rivals(self, active: ActiveSet, round_index: int) -> tuple[Tensor, int]:
        """Return the classes to aim at, one `(a, 1)` or all wrong ones `(a, k - 1)`, and the number
        of the restart."""
        order = wrong_classes(active.logits_no_grad(active.x), active.y)
        if not self.targets:
            return order, round_index
        restart, target = divmod(round_index, min(self.targets, order.shape[1]))
        return order[:, target : target + 1], restart

    def _start(self, closest: ClosestPoint, active: ActiveSet) -> Tensor:
        """Draw x + δ in the box, ‖δ‖ half of eps or of the nearest distance known."""
        x, p = active.x, self.p
        kind = "uniform" if p == torch.inf else "normal"
        noise = distributed.draw(kind, x, self.generator(x.device))
        noise = geometry.normalize(2 * noise - 1 if p == torch.inf else noise, p)
        radius = closest.distance[active.rows].clamp_max(self.threat.reach) / 2
        return (x + broadcast_scale(radius, x) * noise).clamp(self.threat.low, self.threat.high)

    def _step(self, z: Tensor, x: Tensor, value: Tensor, normal: Tensor) -> Tensor:
        """Compute the next point from z, the plane value + normal·(· − z) = 0, and the clean x."""
        low, high, p = self.threat.low, self.threat.high, self.p
        ends, w = torch.stack([z, x]).flatten(2), normal.flatten(1)
        gap = torch.stack([value, value + (w * (ends[1] - ends[0])).sum(1)])
        ways = geometry.step_to_hyperplane(ends, w, gap.nan_to_num(0.0, 0.0, 0.0), p, low, high)
        length = torch.linalg.vector_norm(ways, ord=p, dim=2, keepdim=True)
        length = length.clamp_min(1e-8)  # not 0/0: where both ways are 0, back towards x
        # the bias towards x keeps the iterates near; capped, so that they still reach the plane
        alpha = (length[0] / length.sum(0)).clamp_max(self.alpha_max)
        # eta > 1 goes beyond the plane: on it the two classes only tie
        tips = ends + self.eta * ways
        return ((1 - alpha) * tips[0] + alpha * tips[1]).view_as(x).clamp(low, high)

    def _interpolate(self, closest: ClosestPoint, active: ActiveSet) -> None:
        """Run the final search between x and the nearest wrong point: go where their two classes
        would tie if the logits were linear. It costs `final` forward passes and no gradient, and
        takes back what eta and beta overshoot: the boundary lies between a right and a wrong point.
        """
        closest.confirm(active)
        if not self.final:
            return
        right, wrong = active.x, closest.point[active.rows]
        logits_right, logits_wrong = active.logits_no_grad(right), active.logits_no_grad(wrong)
        for _ in range(self.final):
            rival = logits_wrong.argmax(1, keepdim=True)
            y = active.y.clamp_min(0)[:, None]
            below = (logits_right.gather(1, y) - logits_right.gather(1, rival))[:, 0]
            above = (logits_wrong.gather(1, rival) - logits_wrong.gather(1, y))[:, 0]
            share = (below / (below + above + 1e-10)).nan_to_num(1.0)
            # a share outside [0, 1]: the two do not bracket the boundary, so stay at the wrong one
            share = broadcast_scale(torch.where((share >= 0) & (share <= 1), share, 1.0), right)
            z = ((1 - share) * right + share * wrong).clamp(self.threat.low, self.threat.high)
            logits = active.logits_no_grad(z)
            is_wrong, keep = closest.update(active, z, logits)
            if len(active) == 0:
                return
            mask = broadcast_rows(is_wrong, z)
            right, wrong = torch.where(mask, right, z), torch.where(mask, z, wrong)
            logits_right = torch.where(is_wrong[:, None], logits_right, logits)
            logits_wrong = torch.where(is_wrong[:, None], logits, logits_wrong)
            if keep is not None:
                right, logits_right = right[keep], logits_right[keep]
                wrong, logits_wrong = wrong[keep], logits_wrong[keep]
        closest.confirm(active)


class ClosestPoint:
    """Track the nearest wrong point of every sample of a batch; one within `radius` breaks it.

    In lower precision, float32 must confirm each. On a GPU it does so for the points of `WINDOW`
    updates at once, in their order: to ask in each step, the host would wait in each.

    Attributes:
        point: `(b, *d)` that point, x before there is one.
        distance: `(b,)` its distance from x, inf before there is one.
    """

    def __init__(self, x: Tensor, threat: Threat, radius: float) -> None:
        self.point, self.distance = x.clone(), x.new_full((len(x),), torch.inf)
        self.threat, self.radius = threat, radius
        # of each update since: rows, points, which may be kept, distances
        self._waiting: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def update(self, active: ActiveSet, z: Tensor, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Update with points z `(a, *d)` of the box and their logits, and record those within the
        radius; return which are wrong `(a,)`, and which rows stay, as `ActiveSet.record`."""
        rows, y = active.rows, active.y
        wrong, distance = active.is_adversarial(logits, y), self.threat.distance(z, active.x)
        nearer = wrong & (distance < self.distance[rows])
        # nearest points lie at the boundary, where lower precision errs most
        if active.lower_precision and active.confirm_period > 1:
            active.confirm_period = WINDOW  # the host also waits in `confirm`
            self._waiting.append((rows, z.detach(), nearer, distance))
        else:
            self._keep(rows, z, active.confirmed(nearer, z), distance)
        # Infeasible points must not count: record them as right, and at the lowest value.
        inside = distance <= self.radius
        right = torch.zeros_like(logits).scatter(1, y.clamp_min(0)[:, None], 1.0)
        value = torch.where(inside, margin(logits, y), -torch.inf)
        keep = active.record(z, torch.where(inside[:, None], logits, right), value)
        if len(self._waiting) == WINDOW or len(active) == 0:
            self.confirm(active)
        return wrong, keep

    def confirm(self, active: ActiveSet) -> None:
        """Keep the waiting points that are wrong in float32 too."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        rows, z, nearer, _ = (torch.cat(part) for part in zip(*waiting, strict=True))
        numbers = nearer.nonzero()[:, 0]
        # as many at a time as the search itself has, for which memory is there
        for part in numbers.split(len(self.point)):
            wrong = active.ends_adversarial(z[part], rows[part])
            nearer = nearer.index_put((part,), wrong)
        sizes = [len(part[0]) for part in waiting]
        for (rows, z, _, distance), confirmed in zip(waiting, nearer.split(sizes), strict=True):
            self._keep(rows, z, confirmed & (distance < self.distance[rows]), distance)

    def _keep(self, rows: Tensor, z: Tensor, mask: Tensor, distance: Tensor) -> None:
        """Keep points z `(a, *d)` of these rows where a mask `(a,)` says so."""
        self.point[rows] = torch.where(broadcast_rows(mask, z), z, self.point[rows])
        self.distance[rows] = torch.where(mask, distance, self.distance[rows])
