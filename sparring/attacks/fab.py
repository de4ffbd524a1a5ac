"""FAB: steps onto the linearised decision boundary, drawn towards the clean input."""

from __future__ import annotations

from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from ..batch import Model
from ..component import require
from ..functional.geometry import (
    broadcast_rows,
    broadcast_scale,
    nearest_hyperplane,
    normalize,
    step_to_hyperplane,
)
from ..functional.losses import margin
from ..runtime import distributed
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search, check, run_restarts


class FAB(Search):
    """x' ← clip((1 − α)(x' + η·d(x')) + α(x + η·d(x))), where d(·) is the shortest way within the
    box to the plane where, linearised at x', another class wins, and α = min(‖d(x')‖ / (‖d(x')‖ +
    ‖d(x)‖), alpha_max). A wrong x' steps back to x + β(x' − x).

    Called as an attack it is done with a sample at the first wrong point within eps. `distances`
    ignores eps and looks for the nearest wrong point: for that FAB is made.

    Arguments:
        threat: a ball: its norm is what is made small.
        steps: gradients of each round, ≥ 1; each costs a forward pass more, to see what is wrong.
        restarts: rounds over all targets, ≥ 1: the first from x, others from points at eps/2 (or
            half of the nearest distance known, if less).
        targets: how many wrong classes to aim at one after another, highest logit at x first, at
            most k − 1; 0 aims at the nearest of all boundaries, at k − 1 backward passes a step.
        alpha_max: largest weight α of the clean input, in [0, 1].
        eta: extrapolation η beyond the plane, ≥ 1.
        beta: share β of its perturbation that a wrong point keeps, in (0, 1).
        final: steps of interpolation between x and the nearest wrong point that end a round, ≥ 0.
        precision, channels_last: how the model runs while searching.
        seed: of its own generator; only restarts draw.

    Source: Croce and Hein 2020, alg. 1; the budgets are AutoAttack's FAB-T. Differs: a sample
    leaves once broken within eps; each restart runs over all targets, not the other way round; a
    random start that is wrong counts; AutoAttack's code has no final search.

    >>> from sparring.threats import Linf
    >>> model = lambda x: torch.stack([x.sum(1), 1.8 - x.sum(1)], 1)
    >>> _, far = FAB(Linf(0.1)).distances(model, torch.full((1, 2), 0.5), torch.tensor([0]))
    >>> far.round(decimals=2)
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
        require(steps >= 1, "steps", steps, "an integer ≥ 1")
        require(restarts >= 1, "restarts", restarts, "an integer ≥ 1")
        require(targets >= 0, "targets", targets, "a number of classes, or 0 for all at once")
        require(0 <= alpha_max <= 1, "alpha_max", alpha_max, "a weight in [0, 1]")
        require(eta >= 1, "eta", eta, "a factor ≥ 1")
        require(0 < beta < 1, "beta", beta, "a share in (0, 1)")
        require(final >= 0, "final", final, "an integer ≥ 0")
        self.threat, self.steps, self.restarts = self.ball(threat), steps, restarts
        self.p: float = getattr(threat, "p", torch.inf)
        self.targets, self.final = targets, final
        self.alpha_max, self.eta, self.beta = alpha_max, eta, beta

    def distances(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest wrong points found `(b, *d)`, at whatever distance, and that distance `(b,)`
        in the threat's norm: 0 where x itself is wrong, inf (and x) where none was found."""
        check(x, y, self.threat)
        x = x.detach()
        seen = ClosestPoint(x, self.threat, 0.0)
        turn = partial(self._round, seen)
        run_restarts(self, model, x, y, turn, num_rounds=self.num_rounds, look=False)
        return seen.point, seen.far

    def num_rounds(self, active: ActiveSet) -> int:
        """One a restart and target; there are no more targets than wrong classes."""
        if not self.targets or not len(active):
            return self.restarts
        return self.restarts * self._aims(active.logits_no_grad(active.x))

    def search(self, active: ActiveSet, turn: int) -> None:
        eps = self.threat.eps or 0.0
        self._round(ClosestPoint(active.found, self.threat, eps), active, turn)

    def _aims(self, logits: Tensor) -> int:
        return min(self.targets, logits.shape[1] - 1)

    def _round(self, seen: ClosestPoint, active: ActiveSet, turn: int) -> None:
        """One search towards one target, or, untargeted, from one start."""
        rivals, restart = self._rivals(active, turn)
        z = self._start(seen, active) if restart else active.x
        for step in range(self.steps + 1):
            wrong, keep = seen.note(active, z, active.logits_no_grad(z))
            if len(active) == 0:
                return
            if step == self.steps:
                break
            if keep is not None:
                z, wrong, rivals = z[keep], wrong[keep], rivals[keep]
            back = active.x + self.beta * (z - active.x)
            z = torch.where(broadcast_rows(wrong, z), back, z).detach().requires_grad_()
            y = active.y.clamp_min(0)[:, None]
            with torch.enable_grad():
                logits = active.logits(z)
                leads = logits.gather(1, rivals) - logits.gather(1, y)
            lead, slope, _ = nearest_hyperplane(leads, z, self.p)
            z = self._next(z.detach(), active.x, lead, slope)
        self._interpolate(seen, active)

    def _rivals(self, active: ActiveSet, turn: int) -> tuple[Tensor, int]:
        """The classes to aim at, one `(a, 1)` or all wrong ones `(a, k - 1)`; and which restart it
        is."""
        logits = active.logits_no_grad(active.x)
        others = logits.scatter(1, active.y.clamp_min(0)[:, None], -torch.inf)
        order = others.sort(dim=1, descending=True, stable=True).indices[:, :-1]
        if not self.targets:
            return order, turn
        restart, nth = divmod(turn, self._aims(logits))
        return order[:, nth : nth + 1], restart

    def _start(self, seen: ClosestPoint, active: ActiveSet) -> Tensor:
        """x + δ in the box, ‖δ‖ half of eps or of the nearest distance known."""
        x, p = active.x, self.p
        kind = "uniform" if p == torch.inf else "normal"
        noise = distributed.draw(kind, x, self.generator(x.device))
        noise = normalize(2 * noise - 1 if p == torch.inf else noise, p)
        radius = seen.far[active.rows].clamp_max(self.threat.reach) / 2
        return (x + broadcast_scale(radius, x) * noise).clamp(self.threat.low, self.threat.high)

    def _next(self, z: Tensor, x: Tensor, lead: Tensor, slope: Tensor) -> Tensor:
        """The next point, from z, the plane lead + slope·(· − z) = 0, and the clean x."""
        low, high, p = self.threat.low, self.threat.high, self.p
        ends, w = torch.stack([z, x]).flatten(2), slope.flatten(1)
        gap = torch.stack([lead, lead + (w * (ends[1] - ends[0])).sum(1)])
        ways = step_to_hyperplane(ends, w, gap.nan_to_num(0.0, 0.0, 0.0), p, low, high)
        length = torch.linalg.vector_norm(ways, ord=p, dim=2, keepdim=True)
        length = length.clamp_min(1e-8)  # where there is no way, back towards x
        alpha = (length[0] / length.sum(0)).clamp_max(self.alpha_max)
        tips = ends + self.eta * ways
        return ((1 - alpha) * tips[0] + alpha * tips[1]).view_as(x).clamp(low, high)

    def _interpolate(self, seen: ClosestPoint, active: ActiveSet) -> None:
        """Between x and the nearest wrong point, go where the classes would tie were their logits
        linear."""
        if not self.final:
            return
        right, wrong = active.x, seen.point[active.rows]
        at_right, at_wrong = active.logits_no_grad(right), active.logits_no_grad(wrong)
        for _ in range(self.final):
            rival, y = at_wrong.argmax(1, keepdim=True), active.y.clamp_min(0)[:, None]
            ahead = (at_right.gather(1, y) - at_right.gather(1, rival))[:, 0]
            behind = (at_wrong.gather(1, rival) - at_wrong.gather(1, y))[:, 0]
            share = (ahead / (ahead + behind + 1e-10)).nan_to_num(1.0)
            share = broadcast_scale(torch.where((share >= 0) & (share <= 1), share, 1.0), right)
            z = ((1 - share) * right + share * wrong).clamp(self.threat.low, self.threat.high)
            logits = active.logits_no_grad(z)
            hit, keep = seen.note(active, z, logits)
            if len(active) == 0:
                return
            right, at_right = _swap(~hit, z, logits, right, at_right)
            wrong, at_wrong = _swap(hit, z, logits, wrong, at_wrong)
            if keep is not None:
                right, at_right, wrong, at_wrong = (
                    v[keep] for v in (right, at_right, wrong, at_wrong)
                )


class ClosestPoint:
    """The nearest wrong point seen of every sample of a batch; what is within a radius breaks its
    sample.

    Attributes:
        point: `(b, *d)` that point, x where there is none.
        far: `(b,)` its distance from x, inf where there is none.
    """

    def __init__(self, x: Tensor, threat: Threat, radius: float) -> None:
        self.point, self.far = x.clone(), x.new_full((len(x),), torch.inf)
        self.threat, self.radius = threat, radius

    def note(self, active: ActiveSet, z: Tensor, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Note points z `(a, *d)` of the box and their logits; tell those within the radius.

        Returns:
            Which are wrong `(a,)`, and which rows stay, as from `active.tell`.
        """
        rows, y = active.rows, active.y
        wrong, far = active.is_adversarial(logits, y), self.threat.distance(z, active.x)
        nearer = wrong & (far < self.far[rows])
        if active.low and nearer.any():
            nearer[nearer.clone()] = active.is_adversarial(active.exact(z[nearer]), y[nearer])
        self.point[rows] = torch.where(broadcast_rows(nearer, z), z, self.point[rows])
        self.far[rows] = torch.where(nearer, far, self.far[rows])
        inside = far <= self.radius  # a point outside is told with no success and no value
        right = torch.zeros_like(logits).scatter(1, y.clamp_min(0)[:, None], 1.0)
        value = torch.where(inside, margin(logits, y), -torch.inf)
        return wrong, active.record(z, torch.where(inside[:, None], logits, right), value)


def _swap(
    new: Tensor, z: Tensor, logits: Tensor, old: Tensor, at_old: Tensor
) -> tuple[Tensor, Tensor]:
    """The new points and logits where they are wanted."""
    return torch.where(broadcast_rows(new, z), z, old), torch.where(new[:, None], logits, at_old)
