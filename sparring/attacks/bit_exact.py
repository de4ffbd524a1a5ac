"""LinearBits and MonotoneBits: the exact answers for simple models, from their scores alone."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..component import require_at_least
from ..functional.losses import margin
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search
from .flip_sets import CHUNK, FlipSets, ask, check_bits
from .rows import wrong_classes

ROUNDING = 1e-5  # of the predicted margin, relative to its largest term


def single_gains(active: ActiveSet, sets: FlipSets, chunk: int) -> tuple[Tensor, Tensor]:
    """Return the logits at x `(a, k)`, and their change by each flip alone `(a, d, k)`, 0 where it
    may not flip: one query per flip, and one."""
    logits = active.logits_no_grad(active.x).double()
    row, column = sets.flippable.nonzero(as_tuple=True)
    change = logits.new_zeros(*sets.x.shape, logits.shape[1])

    def single(part: slice) -> Tensor:
        flips = torch.zeros(len(row[part]), change.shape[1], dtype=torch.bool, device=row.device)
        return flips.scatter(1, column[part][:, None], True)

    if len(row):
        change[row, column] = ask(active, sets, row, single, chunk).logits.double() - logits[row]
    return logits, change.nan_to_num(0, 0, 0)


class LinearBits(Search):
    """Flip the bits that gain most one by one: the exact optimum where scores add up over bits.

    For each class t, s_j is the gain of z_t − z_y by flip j alone, from one query. The flips of
    positive s_j, the eps largest and one per group at most, maximise a sum. So the answer is exact
    for linear models, naive Bayes and boosted stumps, under a mask, `add_only`, a budget and
    groups. It tries the fewest of these flips that cross the boundary, then all.

    Arguments:
        targets: number of likeliest other classes, ≥ 1.
        chunk: points per call of the model.

    Source: the closed form of a linear adversary on bits, as in Al-Dujaili et al. 2018.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([2 + 0 * x[:, 0], x @ torch.tensor([1.0, -1.0, 3.0])], 1)
    >>> LinearBits(Bits(1))(lambda x: model(x).detach(), torch.zeros(1, 3), torch.tensor([0]))
    tensor([[0., 0., 1.]])
    """

    norms = ("bits",)  # type: ignore[assignment]

    def __init__(
        self,
        threat: Threat,
        *,
        targets: int = 9,
        chunk: int = CHUNK,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        require_at_least(1, targets=targets, chunk=chunk)
        self.threat = check_bits(self, threat)
        self.targets, self.chunk = targets, chunk

    def search(self, active: ActiveSet, round_index: int) -> None:
        sets = FlipSets.from_threat(self.threat, active.batch)
        logits, change = single_gains(active, sets, self.chunk)
        targets = wrong_classes(logits.nan_to_num(), active.y)[:, : self.targets]
        for t in range(targets.shape[1]):
            for fewest in (True, False):
                flips = self.flips(sets, logits, change, targets[:, t], active.y, fewest=fewest)
                z = sets.point(flips)
                keep = active.record(z, active.logits_no_grad(z))
                if len(active) == 0:
                    return
                if keep is not None:
                    sets, logits, change, targets = (
                        sets.take(keep),
                        *(part[keep] for part in (logits, change, targets)),
                    )

    def flips(
        self,
        sets: FlipSets,
        logits: Tensor,
        change: Tensor,
        target: Tensor,
        y: Tensor,
        *,
        fewest: bool,
    ) -> Tensor:
        """Return the flips `(a, d)` that raise z_target − z_y most, or the fewest that make it
        positive; all of them where none do."""
        y = y.clamp_min(0)
        d = change.shape[1]
        pair = [t[:, None, None].expand(-1, d, 1) for t in (target, y)]
        gain = (change.gather(2, pair[0]) - change.gather(2, pair[1]))[:, :, 0]
        best = sets.highest(gain, gain > 0)
        if not fewest:
            return best
        start = (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None]))[:, 0]
        order = gain.masked_fill(~best, -torch.inf).sort(dim=1, descending=True, stable=True)
        reached = start[:, None] + order.values.clamp_min(0).cumsum(1)
        enough = reached > ROUNDING * start.abs()[:, None]
        count = torch.where(enough.any(1), enough.long().argmax(1) + 1, d)
        chosen = torch.arange(d, device=y.device) < count[:, None]
        return best & torch.zeros_like(best).scatter(1, order.indices, chosen)


class MonotoneBits(Search):
    """Flip all that may come, or all that may leave: the exact answer for monotone models.

    Where a class's score never falls when a feature comes, all additions, or all removals, maximise
    the margin. So without a budget this is exact for monotone networks and monotone boosted trees.
    A budget keeps the flips that gain most alone, which need a query each; the answer is then a
    lower bound on the optimum.

    Arguments:
        chunk: points per call of the model.

    Source: Fleshman et al. 2019, for additions to a non-negative network.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([2 + 0 * x[:, 0], x.sum(1)], 1)
    >>> MonotoneBits(Bits())(lambda x: model(x).detach(), torch.zeros(1, 3), torch.tensor([0]))
    tensor([[1., 1., 1.]])
    """

    norms = ("bits",)  # type: ignore[assignment]

    def __init__(
        self, threat: Threat, *, chunk: int = CHUNK, **execution: Unpack[Execution]
    ) -> None:
        super().__init__(**execution)
        require_at_least(1, chunk=chunk)
        self.threat, self.chunk = check_bits(self, threat), chunk

    def search(self, active: ActiveSet, round_index: int) -> None:
        sets = FlipSets.from_threat(self.threat, active.batch)
        absent = sets.x == sets.absent(sets.x, sets.other)
        directions, gain = [absent & sets.flippable, ~absent & sets.flippable], sets.x
        scarce = any(bool((flips.sum(1) > sets.eps).any()) for flips in directions)
        if scarce or sets.grouped:
            logits, change = single_gains(active, sets, self.chunk)
            a, d, k = change.shape
            moved = (logits[:, None] + change).view(a * d, k)
            gain = margin(moved, active.y.repeat_interleave(d)).view(a, d)
        for flips in directions:
            z = sets.point(sets.highest(gain, flips))
            keep = active.record(z, active.logits_no_grad(z))
            if len(active) == 0:
                return
            if keep is not None:
                sets, gain = sets.take(keep), gain[keep]
                directions[1] = directions[1][keep]
