"""Auto-PGD: gradient ascent that sets its own step lengths, and its sparse form for the L1 ball."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from ..component import did_you_mean, require
from ..functional import losses
from ..functional.geometry import (
    broadcast_rows,
    broadcast_scale,
    normalize,
    project_l1,
    project_l2,
    project_linf,
)
from ..runtime import distributed
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search

TARGETED = "dlr-targeted"
PROJECT = {torch.inf: project_linf, 2: project_l2, 1: project_l1}
PHASES = ((3, 0.3), (2, 0.3), (1, 0.4))  # of `largereps`: radius in eps, share of the steps


class APGD(Search):
    """Momentum steps, halved and taken back to the best point where they no longer pay:

    u ← project(z + η·d), z ← project(z + ¾(u − z) + ¼(z − z_before)), d the steepest direction, η =
    2·eps at first. At a checkpoint a row halves η and returns to its best point if too few of its
    steps rose, or if neither η nor the best loss has changed since the last one.

    In L1 there is no momentum: d moves a few coordinates alike, those of largest gradient. Every
    0.04·steps their number becomes ⅔ of what the best point has changed; where that fell by more
    than 5 %, η is eps again and the row returns to that point, else η is cut by 1.5, down to
    eps/10.

    Arguments:
        threat: a ball.
        steps: gradient steps of each round, ≥ 1.
        loss: what it climbs: `"ce"`, `"margin"`, `"dlr"` (the margin for two classes), or
            `"dlr-targeted"` (the lead of the target for two or three).
        targets: for that loss, how many wrong classes to aim at one after another, highest logit
            at x first, at most k − 1; a sample is broken by any wrong class.
        restarts: rounds (over all targets), each from another random point of the ball's edge.
        eot: passes whose mean is used, for a model that draws random numbers.
        rho: share of a window's steps that must rise, in [0, 1].
        largereps: in L1, search the balls of 3·eps, 2·eps and eps one after another, for 0.3, 0.3
            and 0.4 of the steps; as AutoAttack does there.
        precision, channels_last: how the model runs while searching.
        seed: of its own generator.

    Raises:
        ValueError: for a value outside what is said above.

    Source: Croce and Hein 2020, alg. 1 and eq. 6, 7; Croce and Hein 2021 (L1-APGD), alg. 1; windows
    are rounded as the authors' code does. Differs from that code, as the paper does: strictly fewer
    rises than rho halve, the first step is compared with the start and the first after a return
    with the best point, and the L2 projection is exact. Differs from both: a broken sample leaves
    at once; no gradient at the last point; the number of coordinates in L1 is rounded down (rounded
    up it never falls below two); a restart runs over all targets, not the other way round.

    >>> from sparring.threats import Linf
    >>> model = lambda x: torch.stack([x.sum(1), -x.sum(1)], 1)
    >>> APGD(Linf(0.1), steps=5)(model, torch.full((1, 2), 0.5), torch.tensor([0]))
    tensor([[0.4000, 0.4000]])
    """

    paper = "croce2020autoattack"

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 100,
        loss: str = "ce",
        targets: int = 9,
        restarts: int = 1,
        eot: int = 1,
        rho: float = 0.75,
        largereps: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        counts = {"steps": steps, "targets": targets, "restarts": restarts, "eot": eot}
        for key, count in counts.items():
            require(count >= 1, key, count, "an integer ≥ 1")
        require(0 <= rho <= 1, "rho", rho, "a share in [0, 1]")
        if loss not in (*losses.BY_NAME, TARGETED):
            raise ValueError(did_you_mean("loss", loss, (*losses.BY_NAME, TARGETED)))
        self.threat, self.steps, self.loss = self.ball(threat), steps, loss
        self.p: float = getattr(threat, "p", torch.inf)
        require(not largereps or self.p == 1, "largereps", largereps, "False but for an L1 ball")
        self.targets, self.restarts, self.eot, self.rho = targets, restarts, eot, rho
        self.largereps = largereps

    def num_rounds(self, active: ActiveSet) -> int:
        """One a restart and target; there are no more targets than wrong classes."""
        if self.loss != TARGETED or not len(active):
            return self.restarts
        return self.restarts * self._aims(active.logits_no_grad(active.x))

    def rank(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.loss == TARGETED:
            return losses.margin(logits, y)
        return self._loss(logits, y, y)

    def search(self, active: ActiveSet, turn: int) -> None:
        eps = self.threat.eps or 0.0
        aim, z, phases = self._aim(active, turn), None, self.phases
        for scale, steps in phases:
            project = self._project(scale * eps)
            given = z is not None or self.largereps
            z = self._start(active, project) if z is None else project(z, active.x)
            if self.p == 1:
                walk = Sparse(project, active.x, z, aim, scale * eps, steps, given)
            else:
                walk = Halving(project, active.x, z, aim, eps, steps, self.p, self.rho)
            z = self._climb(active, walk, steps, scale == 1)

    @property
    def phases(self) -> list[tuple[int, int]]:
        """Radius in eps and number of steps of each phase of a round."""
        if not self.largereps:
            return [(1, self.steps)]
        early = [math.ceil(share * self.steps) for _, share in PHASES[:-1]]
        counts = [*early, max(self.steps - sum(early), 0)]
        return [(scale, n) for (scale, _), n in zip(PHASES, counts, strict=True)]

    def _climb(self, active: ActiveSet, walk: Walk, steps: int, feasible: bool) -> Tensor:
        """Walk to the end; the best points. What is not feasible is not told, so none leaves."""
        for step in range(steps + 1):
            if step:
                walk.move(step)
            value, grad, logits = self._see(active, walk, step < steps)
            keep = None
            if feasible:
                keep = active.record(walk.z, logits)
                if len(active) == 0:
                    break
            if keep is not None:
                walk.keep(keep)
                value, grad = value[keep], grad[keep]
            walk.note(value, grad)
            if step < steps:
                walk.check(step)
        return walk.best

    def _see(self, active: ActiveSet, walk: Walk, climb: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Loss `(a,)`, gradient (as it was, if not to climb) and logits at the points of a walk."""
        y, aim, z = active.y, walk.aim, walk.z
        f = lambda logits: self._loss(logits, y, aim)  # noqa: E731
        passes = []
        for _ in range(self.eot):
            if climb:
                passes.append(active.value_and_grad(f, z))
            else:
                logits = active.logits_no_grad(z)
                passes.append((f(logits), walk.grad, logits))
        value, grad, logits = (
            parts[0] if self.eot == 1 else torch.stack(parts).mean(0)
            for parts in zip(*passes, strict=True)
        )
        return torch.where(value.isnan(), -torch.inf, value), grad, logits

    def _loss(self, logits: Tensor, y: Tensor, aim: Tensor) -> Tensor:
        if self.loss == TARGETED:
            return dlr_targeted(logits, y, aim)
        few = self.loss == "dlr" and logits.shape[1] < 3
        return losses.BY_NAME["margin" if few else self.loss](logits, y)

    def _aims(self, logits: Tensor) -> int:
        return min(self.targets, logits.shape[1] - 1)

    def _aim(self, active: ActiveSet, turn: int) -> Tensor:
        """The class each row aims at `(a,)`; its label where there is no target."""
        if self.loss != TARGETED:
            return active.y
        logits = active.logits_no_grad(active.x)
        others = logits.scatter(1, active.y.clamp_min(0)[:, None], -torch.inf)
        order = others.sort(dim=1, descending=True, stable=True).indices
        return order[:, turn % self._aims(logits)]

    def _project(self, eps: float) -> Project:
        return partial(PROJECT[self.p], eps=eps, low=self.threat.low, high=self.threat.high)

    def _start(self, active: ActiveSet, project: Project) -> Tensor:
        """A random point of the ball's edge, clipped to the box; in L1 a projected normal one."""
        x, kind = active.x, "uniform" if self.p == torch.inf else "normal"
        noise = distributed.draw(kind, x, self.generator(x.device))
        if self.p != 1:
            noise = normalize(2 * noise - 1 if self.p == torch.inf else noise, self.p)
            noise = (self.threat.eps or 0.0) * noise
        return project(x + noise, x)


def APGDT(
    threat: Threat,
    *,
    steps: int = 100,
    targets: int = 9,
    restarts: int = 1,
    eot: int = 1,
    largereps: bool = False,
    **execution: Unpack[Execution],
) -> APGD:
    """APGD on the targeted DLR loss. Source: Croce and Hein 2020, sec. 5.

    >>> from sparring.threats import Linf
    >>> APGDT(Linf(0.1)).loss
    'dlr-targeted'
    """
    counts = {"steps": steps, "targets": targets, "restarts": restarts, "eot": eot}
    return APGD(threat, loss=TARGETED, largereps=largereps, **counts, **execution)


def dlr_targeted(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """(z_t − z_y) / (z_(1) − (z_(3) + z_(4))/2), and z_t − z_y for fewer than four classes.

    Source: Croce and Hein 2020, eq. 7.

    >>> dlr_targeted(torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([0]), torch.tensor([2]))
    tensor([-0.8000])
    """
    lead = (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None]))[:, 0]
    if logits.shape[1] < 4:
        return lead
    top = logits.topk(4, dim=1).values
    return lead / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp_min(1e-12)


def checkpoints(steps: int) -> dict[int, int]:
    """After which steps the halving of APGD looks back, and on how many steps.

    >>> checkpoints(100)
    {22: 22, 41: 19, 57: 16, 70: 13, 80: 10, 87: 7, 93: 6, 99: 6}
    """
    width, least, less = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    found, at = {}, width
    while at <= steps:
        found[at] = width
        width = max(width - less, least)
        at += width
    return found


Project = Callable[[Tensor, Tensor], Tensor]


class Walk:
    """Where the rows of a batch stand, and the best of where they were; a leaf says how they move.

    Attributes:
        x: `(a, *d)` the clean inputs.
        z, old: `(a, *d)` the points now and before the last move.
        grad, value: the gradient `(a, *d)` and the loss `(a,)` at z.
        best, best_grad, best_value: the same, of the highest loss.
        aim: `(a,)` the class each row aims at.
        size: `(a,)` length of the next step.
        rises: `(a,)` steps since the last checkpoint that raised the loss.
    """

    def __init__(self, project: Project, x: Tensor, z: Tensor, aim: Tensor, size: float) -> None:
        self.project, self.x, self.z, self.aim = project, x, z, aim
        self.old = self.best = z
        self.grad = self.best_grad = torch.zeros_like(z)
        self.value = x.new_full((len(x),), torch.inf)
        self.best_value, self.size = -self.value, torch.full_like(self.value, size)
        self.rises = torch.zeros_like(aim)

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows."""
        for name, held in vars(self).items():
            if isinstance(held, Tensor):
                setattr(self, name, held[rows])

    def note(self, value: Tensor, grad: Tensor) -> None:
        """Take what was seen at z."""
        self.rises = self.rises + (value > self.value)
        better = value > self.best_value
        wide = broadcast_rows(better, self.z)
        self.best = torch.where(wide, self.z, self.best)
        self.best_grad = torch.where(wide, grad, self.best_grad)
        self.best_value = torch.where(better, value, self.best_value)
        self.value, self.grad = value, grad

    def back(self, rows: Tensor) -> None:
        """These rows return to their best point."""
        wide = broadcast_rows(rows, self.z)
        self.z = torch.where(wide, self.best, self.z)
        self.grad = torch.where(wide, self.best_grad, self.grad)
        self.value = torch.where(rows, self.best_value, self.value)

    def move(self, step: int) -> None:
        """Take the step of this number, from 1."""
        raise NotImplementedError

    def check(self, step: int) -> None:
        """What a checkpoint after this step changes, if there is one."""
        raise NotImplementedError


class Halving(Walk):
    """The walk of APGD in Linf and L2."""

    def __init__(
        self,
        project: Project,
        x: Tensor,
        z: Tensor,
        aim: Tensor,
        eps: float,
        steps: int,
        p: float,
        rho: float,
    ) -> None:
        super().__init__(project, x, z, aim, 2 * eps)
        self.rho, self.p, self.marks = rho, p, checkpoints(steps)
        self.halved = torch.zeros_like(self.size, dtype=torch.bool)
        self.record = self.best_value

    def move(self, step: int) -> None:
        way = self.grad.sign() if self.p == torch.inf else normalize(self.grad, 2)
        to = self.project(self.z + broadcast_scale(self.size, way) * way, self.x)
        if step > 1:
            to = self.z + 0.75 * (to - self.z) + 0.25 * (self.z - self.old)
            to = self.project(to, self.x)
        self.old, self.z = self.z, to

    def check(self, step: int) -> None:
        if step == 0:
            self.record = self.best_value
        if step not in self.marks:
            return
        stuck = ~self.halved & (self.best_value <= self.record)
        self.halved = (self.rises < self.rho * self.marks[step]) | stuck
        self.size = torch.where(self.halved, self.size / 2, self.size)
        self.back(self.halved)
        self.record, self.rises = self.best_value, torch.zeros_like(self.rises)


class Sparse(Walk):
    """The walk of L1-APGD; `count (a,)` is how many coordinates a step moves."""

    def __init__(
        self,
        project: Project,
        x: Tensor,
        z: Tensor,
        aim: Tensor,
        eps: float,
        steps: int,
        given: bool,
    ) -> None:
        super().__init__(project, x, z, aim, eps)
        self.eps, self.every = eps, max(int(0.04 * steps), 1)
        d = math.prod(x.shape[1:])
        self.changed = self._changes(z) if given else torch.full_like(self.rises, d)
        self._choose(2 * self.changed // 3 if given else torch.full_like(aim, d // 5))

    def _changes(self, z: Tensor) -> Tensor:
        return (z != self.x).flatten(1).sum(1)

    def _choose(self, count: Tensor) -> None:
        self.count = count.clamp_min(1)
        self.most = int(self.count.amax())

    def move(self, step: int) -> None:
        size = self.grad.flatten(1).abs()
        least = size.topk(self.most, dim=1).values.gather(1, self.count[:, None] - 1)
        way = normalize(torch.where(size >= least, self.grad.flatten(1).sign(), 0.0), 1)
        z = self.z + (self.size[:, None] * way).view_as(self.z)
        self.z = self.project(z, self.x)

    def check(self, step: int) -> None:
        if step == 0 or step % self.every:
            return
        changed = self._changes(self.best)
        fell = 20 * changed < 19 * self.changed
        self.size = torch.where(fell, self.eps, (self.size / 1.5).clamp_min(self.eps / 10))
        self.back(fell)
        self.changed = changed
        self._choose(2 * changed // 3)
