"""Run Auto-PGD: gradient ascent that sets its own step lengths, with a sparse form for L1 balls."""

from __future__ import annotations

import math
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from ..component import checked, did_you_mean, require, require_at_least
from ..functional import losses
from ..functional.geometry import normalize, project_l1, project_l2, project_linf
from ..runtime import distributed
from ..threats.base import Threat
from .ascent import Ascent, MomentumAscent, Project, SparseAscent
from .base import ActiveSet, Execution, Search
from .rows import wrong_classes

TARGETED = "dlr-targeted"
PROJECT = {torch.inf: project_linf, 2: project_l2, 1: project_l1}
ORDERS = ("logits", "linearity", "auto")
MANY = 100  # classes, from which on nine targets of highest logit leave out most
CANDIDATES = 30  # classes of highest logit that are put in the order of linearity
PHASES = ((3, 0.3), (2, 0.3), (1, 0.4))  # of `largereps`: radius in eps, share of the steps


class APGD(Search):
    """Climb by momentum steps whose length is halved where they no longer raise the loss:

    u ← project(z + η·d), z ← project(z + ¾(u − z) + ¼(z − z_before)), d the steepest direction, η =
    2·eps at first. At a checkpoint a row halves η and returns to its best point in two cases: too
    few of its steps rose, or neither η nor the best loss has changed since the last checkpoint.

    In L1 there is no momentum: d moves a few coordinates alike, those of largest gradient. Every
    0.04·steps their number becomes ⅔ of the number that the best point has changed. Where that fell
    by more than 5 %, η is eps again and the row returns to that point; else η is cut by 1.5, down
    to eps/10.

    Arguments:
        threat: a ball.
        steps: gradient steps of each round, ≥ 1.
        loss: to climb: `"ce"`, `"margin"`, `"probability-margin"`, `"dlr"` (the margin for two
            classes), or `"dlr-targeted"` (z_t − z_y for two or three).
        targets: for that loss, how many wrong classes t to aim at one after another, at most k − 1;
            any wrong class breaks a sample.
        order: of the targets: `"logits"`, highest at x first; `"linearity"`, as
            `likeliest_classes`; or `"auto"`, the latter from 100 classes on.
        restarts: rounds (over all targets), each from another random point of the ball's edge.
        eot: passes whose mean is used, for a model that draws random numbers.
        rho: share of a window's steps that must rise, in [0, 1].
        first: η of the first step, in eps; not in L1. Published: 2, the diameter of the ball, so
            that the first steps reach any part of it; of 10 steps too many are lost to that.
        largereps: in L1, search the balls of 3·eps, 2·eps and eps one after another, for 0.3, 0.3
            and 0.4 of the steps; as AutoAttack does there.
        precision, channels_last, seed: as in `Execution`.

    Raises:
        ValueError: for a value that these arguments do not allow.

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
        order: str = "logits",
        restarts: int = 1,
        eot: int = 1,
        rho: float = 0.75,
        first: float = 2.0,
        largereps: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        require_at_least(1, steps=steps, targets=targets, restarts=restarts, eot=eot)
        require(0 <= rho <= 1, "rho", rho, "a share in [0, 1]")
        if loss not in (*losses.BY_NAME, TARGETED):
            raise ValueError(did_you_mean("loss", loss, (*losses.BY_NAME, TARGETED)))
        require(order in ORDERS, "order", order, "one of " + ", ".join(ORDERS))
        self.threat, self.steps, self.loss = self.require_ball(threat), steps, loss
        self.order = order
        self.p: float = getattr(threat, "p", torch.inf)
        allowed = "False unless the threat is an L1 ball"
        require(not largereps or self.p == 1, "largereps", largereps, allowed)
        self.targets, self.restarts, self.eot = targets, restarts, eot
        require(first > 0, "first", first, "a length > 0 in eps")
        self.rho, self.first, self.largereps = rho, first, largereps

    def num_rounds(self, active: ActiveSet) -> int:
        if self.loss != TARGETED or not len(active):
            return self.restarts
        # Once, before the rounds: to sort very many classes in every round takes its time.
        self._targets = self._order_targets(active)
        return self.restarts * self._targets.shape[1]

    def rank(self, logits: Tensor, y: Tensor) -> Tensor:
        # targets differ between rounds: values of their losses could not be compared
        return losses.margin(logits, y) if self.loss == TARGETED else self._loss(logits, y, y)

    def search(self, active: ActiveSet, round_index: int) -> None:
        """Climb from a random point; with `largereps`, in three balls that shrink to the threat's.

        Points outside of the threat's ball are not recorded, so no row leaves before the last ball.
        """
        target, z = self._target(active, round_index), None
        for scale, steps in self.phases:
            ascent = self._ascent(active, target, z, scale, steps)
            for step in range(steps + 1):
                if step:
                    ascent.move(step)
                last = step == steps  # no step follows it, so it needs no gradient
                value, grad, logits = self._evaluate(active, ascent, with_grad=not last)
                keep = active.record(ascent.z, logits) if scale == 1 else None
                if len(active) == 0:
                    return
                if keep is not None:
                    ascent.take(keep)
                    value, grad = value[keep], grad[keep]
                ascent.update(value, grad)
                if not last:
                    ascent.adapt(step)
            z = ascent.best

    @property
    def phases(self) -> list[tuple[int, int]]:
        """Radius in eps and number of steps of each phase of a round."""
        if not self.largereps:
            return [(1, self.steps)]
        early = [math.ceil(share * self.steps) for _, share in PHASES[:-1]]
        counts = [*early, max(self.steps - sum(early), 0)]
        return [(scale, n) for (scale, _), n in zip(PHASES, counts, strict=True)]

    def _ascent(
        self, active: ActiveSet, target: Tensor, z: Tensor | None, scale: int, steps: int
    ) -> Ascent:
        """Begin an ascent in the ball of scale·eps, at z or at a random point."""
        eps = self.threat.eps or 0.0
        project = self._project(scale * eps)
        sparse_start = z is not None or self.largereps
        z = self._start(active, project) if z is None else project(z, active.x)
        if self.p == 1:
            return SparseAscent(project, active.x, z, target, scale * eps, steps, sparse_start)
        size = self.first * eps
        return MomentumAscent(project, active.x, z, target, size, steps, self.p, self.rho)

    def _evaluate(
        self, active: ActiveSet, ascent: Ascent, *, with_grad: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute loss `(a,)`, gradient and logits at z, means over `eot` passes.

        Without a gradient, the ascent's previous one stands in for it.
        """
        y, target, z = active.y, ascent.target, ascent.z
        f = lambda logits: self._loss(logits, y, target)  # noqa: E731
        passes = []
        for _ in range(self.eot):
            if with_grad:
                passes.append(active.value_and_grad(f, z))
            else:
                logits = active.logits_no_grad(z)
                passes.append((f(logits), ascent.grad, logits))
        value, grad, logits = (
            tensors[0] if self.eot == 1 else torch.stack(tensors).mean(0)
            for tensors in zip(*passes, strict=True)
        )
        # value > NaN is False: the step after a NaN would not count as a rise; after -inf it does
        return torch.where(value.isnan(), -torch.inf, value), grad, logits

    def _loss(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        if self.loss == TARGETED:
            return dlr_targeted(logits, y, target)
        few = self.loss == "dlr" and logits.shape[1] < 3
        return losses.BY_NAME["margin" if few else self.loss](logits, y)

    def _target(self, active: ActiveSet, round_index: int) -> Tensor:
        """Return the class each row aims at `(a,)`; its label if the loss has no target."""
        if self.loss != TARGETED:
            return active.y
        return self._targets[active.rows, round_index % self._targets.shape[1]]

    def _order_targets(self, active: ActiveSet) -> Tensor:
        """Return the targets of each row of the whole batch `(b, t)`; those of rows that are not
        active are never read."""
        logits = active.logits_no_grad(active.x)
        linear = self.order == "linearity" or (self.order == "auto" and logits.shape[1] >= MANY)
        count = max(self.targets, CANDIDATES) if linear else self.targets
        order = wrong_classes(logits, active.y)[:, :count]
        if linear:
            order = likeliest_classes(active, order, self.p)[:, : self.targets]
        out = order.new_zeros((len(active.broken), order.shape[1]))
        return out.index_copy(0, active.rows, order)

    def _project(self, eps: float) -> Project:
        return partial(PROJECT[self.p], eps=eps, low=self.threat.low, high=self.threat.high)

    def _start(self, active: ActiveSet, project: Project) -> Tensor:
        """Draw a point of the ball's edge, clipped to the box; in L1 project a normal one."""
        x, kind = active.x, "uniform" if self.p == torch.inf else "normal"
        noise = distributed.draw(kind, x, self.generator(x.device))
        if self.p != 1:
            noise = normalize(2 * noise - 1 if self.p == torch.inf else noise, self.p)
            noise = (self.threat.eps or 0.0) * noise
        return project(x + noise, x)


def likeliest_classes(active: ActiveSet, classes: Tensor, p: float) -> Tensor:
    """Return wrong `classes (a, c)` of each active row, the nearest first by a linear model of the
    logits at x: by (z_y − z_t) / ‖∇(z_y − z_t)‖_q, q dual to the p of the threat's ball.

    It costs c passes forward and backward.

    Source: arXiv 2407.02240 (MALT), for Linf, on the 100 classes of highest logit; here any ball.
    """
    dual = {torch.inf: 1.0, 2: 2.0, 1: torch.inf}[p]
    distances = []
    for target in classes.T:

        def lead(logits: Tensor, target: Tensor = target) -> Tensor:
            y = active.y.clamp_min(0)
            return (logits.gather(1, y[:, None]) - logits.gather(1, target[:, None]))[:, 0]

        value, grad, _ = active.value_and_grad(lead, active.x)
        slope = torch.linalg.vector_norm(grad.flatten(1), ord=dual, dim=1)
        # Without a slope a class is out of reach: the last, unless it leads already.
        distances.append(value / slope.clamp_min(1e-30))
    nearest = torch.stack(distances, 1).nan_to_num(torch.inf, torch.inf, -torch.inf)
    return classes.gather(1, nearest.sort(dim=1, stable=True).indices)


@checked
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
    """Build APGD on the targeted DLR loss. Source: Croce and Hein 2020, sec. 5.

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
    margin = (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None]))[:, 0]
    if logits.shape[1] < 4:
        return margin
    top = logits.topk(4, dim=1).values
    return margin / losses.finite_scale(top[:, 0] - (top[:, 2] + top[:, 3]) / 2)
