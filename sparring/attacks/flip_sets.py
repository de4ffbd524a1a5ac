"""Sets of flips that a threat on bits allows, and the model's answers to many of them at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..functional import column_groups
from ..functional.geometry import topk_mask
from ..functional.losses import margin
from ..threats.base import Threat
from .base import ActiveSet, Attack
from .bit_flips import flippable_bits, flipped, max_flips

CHUNK = 16_384  # points per call of the model: a forest takes as long for one as for a hundred


def check_bits(attack: Attack, threat: Threat) -> Threat:
    """Return the threat; raise `ValueError` unless its points are bits."""
    allowed = f"a ball of Bits for {type(attack).__name__}"
    require(threat.binary and not threat.labels, "threat", threat, allowed)
    return threat


@dataclass
class FlipSets:
    """Sets of flips for a batch of `a` rows with `d` bits.

    A flip is a column alone that changes, or a column of a group that comes: the one that was
    present in its group leaves.

    Arguments:
        x, other: the bits and their opposites `(a, d)`.
        flippable: which columns may flip `(a, d)`.
        number: the group of each column `(d,)`, −1 for none.
        eps: how many may flip.
    """

    x: Tensor
    other: Tensor
    flippable: Tensor
    number: Tensor
    eps: int
    shape: torch.Size

    @classmethod
    def from_threat(cls, threat: Threat, batch: Batch) -> FlipSets:
        """Return the sets that a threat allows.

        Raises:
            ValueError: for an x that is not binary.
        """
        may, x = flippable_bits(threat, batch).flatten(1), batch.x.flatten(1)
        other = flipped(batch.x, threat).flatten(1)
        number = column_groups.group_numbers(threat.groups, x.shape[1], x.device)
        may = may & ((number < 0) | (x == threat.low))  # of a group a column can only come
        eps = int(min(max_flips(threat, batch.x), x.shape[1]))
        return cls(x, other, may, number, eps, batch.x.shape[1:])

    def __len__(self) -> int:
        return len(self.x)

    @property
    def grouped(self) -> bool:
        """Return whether some columns move together."""
        return bool((self.number >= 0).any())

    def take(self, rows: Tensor) -> FlipSets:
        """Return the sets of some rows: a mask `(a,)` or row numbers."""
        kept = {key: getattr(self, key)[rows] for key in ("x", "other", "flippable")}
        return replace(self, **kept)

    def point(self, flips: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the points with these flips `(m, *d)`, of rows `(m,)`; default: of all, in
        order."""
        x, other = (t if rows is None else t[rows] for t in (self.x, self.other))
        changed = flips
        if self.grouped:
            comes = column_groups.total(flips.long(), self.number) > 0
            leaves = column_groups.spread(comes, self.number, False) & ~flips
            # of a group that changes, the columns that were present leave
            changed = flips | (leaves & (x != self.absent(x, other)))
        return torch.where(changed, other, x).reshape(-1, *self.shape)

    @staticmethod
    def absent(x: Tensor, other: Tensor) -> Tensor:
        """Return the value of an absent feature at each bit."""
        return torch.minimum(x, other)

    def addable(self, flips: Tensor, flippable: Tensor | None = None) -> Tensor:
        """Return which flips may join sets `(…, d)`: not in them, within the budget, and of a group
        none yet; `flippable` broadcasts to the sets, default: that of the rows."""
        flippable = self.flippable if flippable is None else flippable
        free = flippable & ~flips & (flips.sum(-1, keepdim=True) < self.eps)
        if self.grouped:
            flat = flips.reshape(-1, flips.shape[-1])
            busy = column_groups.total(flat.long(), self.number) > 0
            free = free & ~column_groups.spread(busy, self.number, False).view_as(flips)
        return free

    def highest(self, score: Tensor, among: Tensor, eps: int | None = None) -> Tensor:
        """Return the eps flips of highest score `(a, d)`, one of a group at most."""
        among, eps = among & self.flippable, self.eps if eps is None else eps
        score = score.masked_fill(~among, -torch.inf)
        if self.grouped:
            first = column_groups.first_highest(score, self.number)
            among = among & ((self.number < 0) | first)
            score = score.masked_fill(~among, -torch.inf)
        return among if eps >= score.shape[1] else among & topk_mask(score, eps)


@dataclass(frozen=True)
class Answers:
    """Hold the logits `(m, k)` at m points, their margins `(m,)`, and whether each is
    adversarial."""

    logits: Tensor
    value: Tensor
    adversarial: Tensor


def ask(
    active: ActiveSet, sets: FlipSets, rows: Tensor, flips: Callable[[slice], Tensor], chunk: int
) -> Answers:
    """Run the model at m points of rows `(m,)`, a chunk at a time.

    Arguments:
        flips: returns the sets of a slice of the points: all at once may not fit in memory.
    """
    parts = []
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        at = rows[part]
        logits = active.logits_no_grad(sets.point(flips(part), at))
        parts.append((logits, margin(logits, active.y[at])))
    if not parts:
        empty = active.x.new_zeros(0)
        return Answers(active.x.new_zeros(0, 2), empty, empty.bool())
    logits, value = (torch.cat(column) for column in zip(*parts, strict=True))
    adversarial = active.is_adversarial(logits, active.y[rows])
    return Answers(logits, value.nan_to_num(-torch.inf), adversarial)


def record_best(
    active: ActiveSet, sets: FlipSets, rows: Tensor, flips: Callable[[Tensor], Tensor], of: Answers
) -> Tensor | None:
    """Record the best of the points answered for each row: an adversarial one, else that of highest
    margin; return as `ActiveSet.record`.

    Arguments:
        flips: returns the sets of these of the m points `(a,)`.
    """
    best, answered = best_of_rows(rows, of, len(sets))
    if not answered.any():
        return None
    z = torch.where(answered.view(-1, *[1] * len(sets.shape)), sets.point(flips(best)), active.x)
    k = of.logits.shape[1]
    rest = torch.nn.functional.one_hot(active.y.clamp_min(0), k).to(of.logits.dtype)
    logits = torch.where(answered[:, None], of.logits[best], rest)
    return active.record(z, logits, torch.where(answered, of.value[best], -math.inf))


def best_of_rows(rows: Tensor, of: Answers, a: int) -> tuple[Tensor, Tensor]:
    """Return for each of `a` rows its best point, and which rows have any `(a,)`."""
    key = torch.where(of.adversarial, torch.inf, of.value.double())
    top = key.new_full((a,), -torch.inf).scatter_reduce(0, rows, key, "amax")
    number = torch.arange(len(rows), device=rows.device)
    first = torch.where(key == top[rows], number, len(rows))
    best = number.new_full((a,), len(rows)).scatter_reduce(0, rows, first, "amin")
    answered = best < len(rows)
    return torch.where(answered, best, 0), answered
