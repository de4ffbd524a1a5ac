"""Binary features: at most eps of them flipped, or only added."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..functional import column_groups
from ..functional.geometry import broadcast_rows, project_l1, topk_mask
from ..runtime import distributed
from .base import Threat, check_bounds


def project_l1_sparse(z: Tensor, x: Tensor, eps: float, low: float, high: float) -> Tensor:
    """Project as `project_l1`, for `z (b, d)` that differs from x in few coordinates.

    The time is that of the coordinates that differ.

    >>> project_l1_sparse(torch.tensor([[0.9, 0.0, 0.0, 0.6]]), torch.zeros(1, 4), 0.7, 0.0, 1.0)
    tensor([[0.5000, 0.0000, 0.0000, 0.2000]])
    """
    most = int((z != x).sum(1).max()) if len(z) else 0
    # from half of the coordinates on, gathering them costs more than sorting them all
    if 2 * most > z.shape[1] or most == 0:
        return project_l1(z, x, eps, low, high)
    columns = (z - x).abs().topk(most, 1).indices
    moved = project_l1(z.gather(1, columns), x.gather(1, columns), eps, low, high)
    return x.scatter(1, columns, moved)


class Bits(Threat):
    """Let the adversary flip at most eps binary features, and take none away.
    {x' ∈ {low, high}^d : at most eps features differ from x}. A search moves in the relaxation, z ∈
    [low, high]^d with Σ|z − x| ≤ eps·(high − low); `discretize` rounds to bits.

    Arguments:
        eps: number of features that may flip, a whole number ≥ 0, or inf.
        add_only: features that x has stay, as in software that must go on working.
        mutable: `d` zeros and ones, the features that an attacker can change; None is all.
        groups: lists of columns that move together, as those of one-hot words: at most one of a
            group is present, and another takes its place. That is one flip, and allowed with
            `add_only` too.
        low, high: value of an absent and of a present feature.
        scale, power: the cost is scale·h^power with h flips, Σ|z − x| in the relaxation: ARMOR's
            L‖x' − x‖_p^q with scale = L and power = q/p.

    A step moves by `size` (high − low at most) along sign(g) in the eps features of largest |g|
    that can go that way. It also moves back any feature that has left x and would gain by it.

    Raises:
        ValueError: for an argument out of its range, an x that is not binary, a mask of another
            length than x, a column in two groups, or an x with two columns of a group.

    Source: Al-Dujaili et al. 2018 for the relaxation and the rounding at ½. Differs: a budget, a
    mask, and groups. With groups, `project` shrinks the move instead of finding the nearest point.

    >>> x, y = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([0])
    >>> Bits(1).discretize(torch.tensor([[0.75, 0.0, 1.0]]), Batch(x, y))
    tensor([[0., 1., 1.]])
    """

    paper = "aldujaili2018adversarial"
    eps: float
    binary = True
    _mask: Tensor | None

    def __init__(
        self,
        eps: float = math.inf,
        *,
        add_only: bool = True,
        mutable: Sequence[int] | Sequence[bool] | None = None,
        groups: Sequence[Sequence[int]] | None = None,
        low: float = 0.0,
        high: float = 1.0,
        scale: float = 0.0,
        power: float = 1.0,
    ) -> None:
        super().__init__()
        whole = eps >= 0 and (eps == math.inf or float(eps).is_integer())
        require(whole, "eps", eps, "a whole number of flips ≥ 0, or inf")
        check_bounds(low, high)
        require(scale >= 0, "scale", scale, "a cost of a flip ≥ 0")
        require(power > 0, "power", power, "a power > 0 of the number of flips")
        odd = next((m for m in mutable or () if m not in (0, 1)), None)
        require(odd is None, "mutable", odd, "zeros and ones, one per feature")
        column_groups.check_groups(groups)
        free = scale == 0 or not groups
        require(free, "scale", scale, "0 with groups: a cost counts columns, and a group is one")
        self.eps, self.add_only, self.mutable, self.groups = eps, add_only, mutable, groups
        self.low, self.high, self.scale, self.power = low, high, scale, power
        mask = None if mutable is None else torch.tensor([bool(m) for m in mutable])
        # a buffer, to follow `.to(device)`; not saved, since the configuration has it
        self.register_buffer("_mask", mask, persistent=False)

    def require_binary(self, x: Tensor) -> Tensor:
        """Return x if it is binary.

        Only `random_start` and `discretize` call it: it waits for the GPU, so not at every step.

        Raises:
            ValueError: naming a value that is not a bit.
        """
        odd = (x != self.low) & (x != self.high)
        if odd.any():
            raise ValueError(
                f"x has the value {x[odd][0].item():g}: for Bits every feature must be "
                f"{self.low:g} or {self.high:g}"
            )
        return x

    def can_flip(self, x: Tensor) -> Tensor:
        """Return a mask `(b, *d)` of the features that may flip, whatever the budget.

        Raises:
            ValueError: if `mutable` has another length than a row of x.
        """
        absent = x == self.low if self.add_only else torch.ones_like(x, dtype=torch.bool)
        mask, d = self._mask, math.prod(x.shape[1:])
        if self.groups:
            absent = self._may_leave_group(x, absent)
        if mask is None:
            return absent
        if len(mask) != d:
            raise ValueError(
                f"mutable has {len(mask)} entries and x has {d} features: "
                "mutable must have one per feature"
            )
        return absent & mask.to(x.device).view(x.shape[1:])

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Draw eps of the features that may flip, each uniform between low and high."""
        x = self.require_binary(batch.x)
        free, opposite = self.can_flip(x), self._flipped(x)
        if self.eps < math.prod(x.shape[1:]):
            order = torch.where(free, distributed.draw("uniform", x, generator), -1)
            free = free & topk_mask(order.flatten(1), self.eps).view_as(x)
        share = distributed.draw("uniform", x, generator)
        return torch.where(free, x + (opposite - x) * share, x)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        x = batch.x
        gain = torch.where(x == self.low, grad, -grad)  # of going away from x
        away, back = self.can_flip(x) & (gain > 0), (z != x) & (gain < 0)
        if self.eps < math.prod(x.shape[1:]):
            away = away & topk_mask(torch.where(away, gain, 0).flatten(1), self.eps).view_as(z)
        along = torch.where(away | back, grad.sign(), 0)
        # an infinite size is a whole flip: never beyond the other bit
        return z + min(size, self.high - self.low) * along

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        x = batch.x
        z = torch.where(self.can_flip(x), z, x)
        near = z.clamp(self.low, self.high)
        if self.eps >= math.prod(x.shape[1:]):
            return near
        distance = self.distance(near, x)
        over = distance > self.eps
        if self.groups:
            # convex, and 0 at x: a shrunk move is inside
            share = broadcast_rows(torch.where(over, self.eps / distance, 1), x)
            return torch.where(share < 1, x + share * (near - x), near)
        radius = self.eps * (self.high - self.low)
        # z and not its clip: the nearest point of the ball in the box is not that of the clip
        if z.is_cuda:  # every row: to choose some would wait for the device
            inside = project_l1(z.flatten(1), x.flatten(1), radius, self.low, self.high)
            return torch.where(broadcast_rows(over, z), inside.view_as(x), near)
        if over.any():
            near[over] = project_l1_sparse(
                z[over].flatten(1), x[over].flatten(1), radius, self.low, self.high
            ).view_as(x[over])
        return near

    def discretize(self, z: Tensor, batch: Batch) -> Tensor:
        """Flip the features that went more than half the way, the eps furthest at most."""
        x = self.require_binary(batch.x)
        moved = torch.where(self.can_flip(x), (z - x).abs(), 0)
        flips, leaving = moved > (self.high - self.low) / 2, torch.zeros_like(x, dtype=torch.bool)
        if self.groups:
            flips, moved = self._one_flip_per_group(flips, moved, z, x)
        if self.eps < math.prod(x.shape[1:]):
            flips = flips & topk_mask(moved.flatten(1), self.eps).view_as(x)
        if self.groups:
            leaving = self._replaced(flips, x)
        return torch.where(flips != leaving, self._flipped(x), x)

    def cost(self, z: Tensor, batch: Batch) -> Tensor:
        if self.scale == 0:
            return super().cost(z, batch)
        x, width = batch.x, self.high - self.low
        # the box leaves one side of |z - x| only: without the abs it has a slope at x too
        flips = ((z - x) * (self._flipped(x) - x)).flatten(1).sum(1) / width**2
        if self.power >= 1:
            return self.scale * flips.clamp_min(0) ** self.power
        # the root of 0 has an infinite slope: where nothing moved, the inner `where` avoids it
        moves = flips > 0
        return self.scale * torch.where(moves, torch.where(moves, flips, 1) ** self.power, 0)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Count the features that differ `(b,)`; Σ|z − x|/(high − low) in the relaxation. A group
        counts once: max(Σ(z − x)₊, Σ(x − z)₊) over its columns."""
        moved = (x_adv - x).flatten(1)
        if not self.groups:
            return moved.abs().sum(1) / (self.high - self.low)
        number = self._group_numbers(moved)
        return column_groups.distance(moved, number) / (self.high - self.low)

    def _flipped(self, x: Tensor) -> Tensor:
        return torch.where(x == self.low, self.high, self.low).to(x.dtype)

    def check_samples(self, batch: Batch) -> None:
        x = batch.x.flatten(1)
        ones = column_groups.total((x == self.high).long(), self._group_numbers(x))
        rows = (ones > 1).any(1).nonzero()[:, 0]
        if len(rows):
            k = int((ones[rows[0]] > 1).nonzero()[0, 0])
            columns = list((self.groups or ())[k])[:8]
            raise ValueError(
                f"row {int(batch.index[rows[0]])} of the data has several of the columns {columns}:"
                " of a group that moves together at most one may be present"
            )

    def _group_numbers(self, flat: Tensor) -> Tensor:
        """Return the group of each column of `flat (b, d)`, −1 for a column that moves alone."""
        return column_groups.group_numbers(self.groups, flat.shape[1], flat.device)

    def _may_leave_group(self, x: Tensor, absent: Tensor) -> Tensor:
        """Return the mask `(b, *d)` of columns that may flip, with groups, before `mutable`.

        A column that is present may leave if it is mutable, and then all others may come; without
        one in its group, each may come.
        """
        flat, absent = x.flatten(1), absent.flatten(1)
        number, mask = self._group_numbers(flat), self._mask
        fixed = flat == self.high
        if mask is None or len(mask) != len(number):  # a mask of another length: `can_flip` raises
            fixed = torch.zeros_like(fixed)
        else:
            fixed = fixed & ~mask.to(x.device)
        free = column_groups.total(fixed.long(), number) == 0
        return torch.where(number >= 0, column_groups.spread(free, number, True), absent).view_as(x)

    def _one_flip_per_group(
        self, flips: Tensor, moved: Tensor, z: Tensor, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return flips `(b, *d)` with at most one column that comes in each group, and how far
        those that flip went."""
        shape, free = x.shape, self.can_flip(x).flatten(1)
        z, x, flips, moved = (t.flatten(1) for t in (z, x, flips, moved))
        number, present = self._group_numbers(x), x == self.high
        comes = column_groups.first_highest(z.masked_fill(present | ~free, -torch.inf), number)
        # against the column that is present; in an empty group, against half the way
        before = column_groups.total(torch.where(present, z, 0), number)
        filled = column_groups.total(present.long(), number) > 0
        bar = torch.where(filled, before, (self.low + self.high) / 2)
        comes = comes & (z > column_groups.spread(bar, number, torch.inf))
        flips = torch.where(number >= 0, comes, flips)
        return flips.view(shape), torch.where(flips, moved, 0).view(shape)

    def _replaced(self, flips: Tensor, x: Tensor) -> Tensor:
        """Return the columns that are present and give way to another of their group `(b, *d)`."""
        present, number = (x == self.high).flatten(1), self._group_numbers(x.flatten(1))
        comes = column_groups.total(flips.flatten(1).long(), number) > 0
        return (present & column_groups.spread(comes, number, False)).view_as(x)
