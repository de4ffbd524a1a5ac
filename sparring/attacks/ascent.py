"""Hold the ascents of APGD, row by row: where the points are, and how their step lengths adapt."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..functional.geometry import SLACK, broadcast_rows, broadcast_scale, normalize

Project = Callable[[Tensor, Tensor], Tensor]  # points z and clean inputs x to feasible points


def checkpoints(steps: int) -> dict[int, int]:
    """Return the steps after which APGD may halve η, each with the length of its window.

    Windows shrink from 22 % of the steps by 3 % each, down to 6 %: long ones explore with large
    steps, short ones soon refine a point. Source: Croce and Hein 2020, sec. 3.1.

    >>> checkpoints(100)
    {22: 22, 41: 19, 57: 16, 70: 13, 80: 10, 87: 7, 93: 6, 99: 6}
    """
    # int, not round: floors of the floating-point products, as in the authors' code
    window, shortest, shrink = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    windows, checkpoint = {}, window
    while checkpoint <= steps:
        windows[checkpoint] = window
        window = max(window - shrink, shortest)
        checkpoint += window
    return windows


class Ascent:
    """Hold a gradient ascent, row by row: the current and the best points; a subclass moves them.

    Attributes:
        x: `(a, *d)` the clean inputs.
        z, previous: `(a, *d)` the points now and before the last move.
        grad, value: the gradient `(a, *d)` and the loss `(a,)` at z.
        best, best_grad, best_value: the same, of the highest loss.
        target: `(a,)` the class each row aims at.
        step_size: `(a,)` length of the next step.
        num_rises: `(a,)` steps since the last checkpoint that raised the loss.
    """

    def __init__(
        self, project: Project, x: Tensor, z: Tensor, target: Tensor, step_size: float
    ) -> None:
        self.project, self.x, self.z, self.target = project, x, z, target
        self.previous = self.best = z
        self.grad = self.best_grad = torch.zeros_like(z)
        # +inf: the start itself is not a rise
        self.value = x.new_full((len(x),), torch.inf)
        self.best_value, self.step_size = -self.value, torch.full_like(self.value, step_size)
        self.num_rises = torch.zeros_like(target)

    def take(self, rows: Tensor) -> None:
        """Restrict every tensor to these rows."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[rows])

    def update(self, value: Tensor, grad: Tensor) -> None:
        """Store the loss and gradient at z; count rises, and keep the best point."""
        self.num_rises = self.num_rises + (value > self.value)
        better = value > self.best_value
        mask = broadcast_rows(better, self.z)
        self.best = torch.where(mask, self.z, self.best)
        self.best_grad = torch.where(mask, grad, self.best_grad)
        self.best_value = torch.where(better, value, self.best_value)
        self.value, self.grad = value, grad

    def return_to_best(self, rows: Tensor) -> None:
        """Move these rows to their best point; its stored gradient saves a pass there."""
        mask = broadcast_rows(rows, self.z)
        self.z = torch.where(mask, self.best, self.z)
        self.grad = torch.where(mask, self.best_grad, self.grad)
        self.value = torch.where(rows, self.best_value, self.value)

    def move(self, step: int) -> None:
        """Take step number `step`, from 1."""
        raise NotImplementedError

    def adapt(self, step: int) -> None:
        """Adapt the step length, and return to the best point, if `step` is a checkpoint."""
        raise NotImplementedError


class MomentumAscent(Ascent):
    """Run the ascent of APGD in Linf and L2: momentum, and step lengths that halve."""

    def __init__(
        self,
        project: Project,
        x: Tensor,
        z: Tensor,
        target: Tensor,
        step_size: float,
        steps: int,
        p: float,
        rho: float,
    ) -> None:
        super().__init__(project, x, z, target, step_size)
        self.rho, self.p, self.windows = rho, p, checkpoints(steps)
        self.halved = torch.zeros_like(self.step_size, dtype=torch.bool)
        self.checkpoint_value = self.best_value

    def move(self, step: int) -> None:
        direction = self.grad.sign() if self.p == torch.inf else normalize(self.grad, 2)
        z = self.project(self.z + broadcast_scale(self.step_size, direction) * direction, self.x)
        if step > 1:  # the first step has no move before it
            z = self.z + 0.75 * (z - self.z) + 0.25 * (self.z - self.previous)
            # momentum may leave the ball: both terms can point outwards
            z = self.project(z, self.x)
        self.previous, self.z = self.z, z

    def adapt(self, step: int) -> None:
        if step == 0:
            self.checkpoint_value = self.best_value
        if step not in self.windows:
            return
        # Stuck: a whole window at the same η without a better point. After a halving a row gets
        # one window to profit from it, so `halved` of the last checkpoint excuses it.
        stuck = ~self.halved & (self.best_value <= self.checkpoint_value)
        # Too few rises: steps of this length overshoot a maximum instead of climbing to it.
        few_rises = self.num_rises < self.rho * self.windows[step]
        self.halved = few_rises | stuck
        self.step_size = torch.where(self.halved, self.step_size / 2, self.step_size)
        # shorter steps search around the best point, not where the long ones ended
        self.return_to_best(self.halved)
        self.checkpoint_value = self.best_value
        self.num_rises = torch.zeros_like(self.num_rises)


class SparseAscent(Ascent):
    """Run the ascent of L1-APGD; a step moves `num_moved (a,)` coordinates of each row.

    Arguments:
        sparse_start: z has few changed coordinates already; their number sets the first count.
    """

    def __init__(
        self,
        project: Project,
        x: Tensor,
        z: Tensor,
        target: Tensor,
        eps: float,
        steps: int,
        sparse_start: bool,
    ) -> None:
        super().__init__(project, x, z, target, eps)
        self.eps, self.period = eps, max(int(0.04 * steps), 1)
        d = math.prod(x.shape[1:])
        self.num_changed = self._count_changed(z) if sparse_start else torch.full_like(target, d)
        # a random start changes nearly all d coordinates, which says nothing: a fifth of d instead
        self._set_moved(
            2 * self.num_changed // 3 if sparse_start else torch.full_like(target, d // 5)
        )

    def _count_changed(self, z: Tensor) -> Tensor:
        # A projection leaves 1e-17 where the exact one leaves 0: such a rest is no change, else
        # processors that round otherwise would move another number of coordinates.
        return ((z - self.x).abs() > SLACK).flatten(1).sum(1)

    def _set_moved(self, count: Tensor) -> None:
        self.num_moved = count.clamp_min(1)
        # k of the one topk that serves all rows: all coordinates on a GPU, which k would wait for
        d = math.prod(self.x.shape[1:])
        self.max_moved = d if count.is_cuda else int(self.num_moved.amax())

    def move(self, step: int) -> None:
        size = self.grad.flatten(1).abs()
        least = size.topk(self.max_moved, dim=1).values.gather(1, self.num_moved[:, None] - 1)
        direction = normalize(torch.where(size >= least, self.grad.flatten(1).sign(), 0.0), 1)
        z = self.z + (self.step_size[:, None] * direction).view_as(self.z)
        self.z = self.project(z, self.x)

    def adapt(self, step: int) -> None:
        if step == 0 or step % self.period:
            return
        num_changed = self._count_changed(self.best)
        # integers: num_changed < 0.95·before without a rounding that could decide it
        sparser = 20 * num_changed < 19 * self.num_changed
        # While the best point still sheds coordinates, its support is unsettled: search widely
        # again. Once it is settled, shrinking steps place the mass within it.
        shrunk = (self.step_size / 1.5).clamp_min(self.eps / 10)
        self.step_size = torch.where(sparser, self.eps, shrunk)
        self.return_to_best(sparser)
        self.num_changed = num_changed
        self._set_moved(2 * num_changed // 3)
