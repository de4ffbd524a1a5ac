"""BitBeam: a search for few flips by the model's scores alone."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..component import require_at_least
from ..runtime import distributed
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search
from .flip_sets import CHUNK, FlipSets, ask, best_of_rows, check_bits, record_best

JITTER = 1e-9  # orders equal margins at random: trees give many


class BitBeam(Search):
    """Grow sets of flips by the model's scores: single flips, a beam of the best sets, then swaps.

    Each step tries every flip that may join each of the `width` best sets, and keeps the best
    unions. Once the budget of flips is spent, swaps follow: one flip leaves and one joins, as long
    as the margin rises. It needs no gradient: scores of a forest serve.

    Arguments:
        width: sets in the beam, ≥ 1.
        queries: points per sample, at most.
        tries: flips tried per set, the most promising by their last gain, after one step that tries
            all, ≥ 1.
        chunk: points per call of the model.

    Source: our own; width 1 without swaps is the greedy search of Grosse et al. 2017 with exact
    gains in place of gradients.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([2 + 0 * x[:, 0], x @ torch.tensor([1.0, -1.0, 3.0])], 1)
    >>> BitBeam(Bits(1))(lambda x: model(x).detach(), torch.zeros(1, 3), torch.tensor([0]))
    tensor([[0., 0., 1.]])
    """

    norms = ("bits",)  # type: ignore[assignment]
    loss = "margin"  # it climbs: so `Transfer` goes on beyond the surrogate's boundary

    def __init__(
        self,
        threat: Threat,
        *,
        width: int = 3,
        queries: int = 10_000,
        tries: int = 64,
        chunk: int = CHUNK,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        require_at_least(1, width=width, queries=queries, tries=tries, chunk=chunk)
        self.threat = check_bits(self, threat)
        self.width, self.queries, self.tries, self.chunk = width, queries, tries, chunk

    def search(self, active: ActiveSet, round_index: int) -> None:
        state = _Beam(self, active)
        while len(active) and state.grow(self.width, self.tries):
            pass
        while len(active) and state.swap(self.tries):
            pass


class _Beam:
    """The best sets of each row `(a, w, d)`, and what their flips gained.

    Attributes:
        value: the margin of each set `(a, w)`; −inf for none.
        gain: what each flip gained last `(a, d)`, inf before it was tried.
        left: queries left for each row `(a,)`.
    """

    def __init__(self, attack: BitBeam, active: ActiveSet) -> None:
        self.active, self.chunk = active, attack.chunk
        self.sets = FlipSets.from_threat(attack.threat, active.batch)
        self.generator = attack.generator(active.x.device)
        self.flips = torch.zeros_like(self.sets.flippable)[:, None]
        self.value = active.x.new_zeros(len(active), 1).double()
        self.gain = torch.full_like(self.sets.x, torch.inf).double()
        self.left = torch.full_like(active.y, attack.queries)
        draws = torch.empty(self.sets.x.shape[1], dtype=torch.float64, device=active.x.device)
        # a sum of random numbers tells two sets apart, in whatever order they grew
        self.label = draws.uniform_(generator=self.generator)
        if len(active) and bool(self.sets.flippable.any()):
            logits = active.logits_no_grad(active.x)
            self.value = active.rank(logits, active.y).double().nan_to_num(-torch.inf)[:, None]
            self.left = self.left - 1

    def grow(self, width: int, tries: int) -> bool:
        """Add one flip to each set, and keep the `width` best; return whether any row could."""
        a, w, d = self.flips.shape
        may = self.sets.addable(self.flips, self.sets.flippable[:, None])
        may = may & (self.value > -torch.inf)[:, :, None]
        may = self.affordable(may, tries)
        row, set_number, column = may.nonzero(as_tuple=True)
        if not len(row):
            return False

        def union(points: slice | Tensor) -> Tensor:
            flips = self.flips[row[points], set_number[points]].clone()
            return flips.scatter(1, column[points][:, None], True)

        answers = ask(self.active, self.sets, row, union, self.chunk)
        self.left = self.left - may.flatten(1).sum(1)
        gained = answers.value.double() - self.value[row, set_number]
        fresh = torch.full_like(self.gain, -torch.inf).view(-1)
        fresh = fresh.scatter_reduce(0, row * d + column, gained, "amax").view_as(self.gain)
        self.gain = torch.where(fresh > -torch.inf, fresh, self.gain)
        value = self.value.new_full((a, w, d), -torch.inf)
        value[row, set_number, column] = answers.value.double()
        keep = record_best(self.active, self.sets, row, union, answers)
        self.choose(value, width)
        self.keep(keep)
        return len(self.active) > 0

    def affordable(self, may: Tensor, tries: int) -> Tensor:
        """Return those of the flips `(a, w, d)` that are tried: all where none was yet, else the
        most promising; as many as the row's queries allow."""
        promise = self.gain[:, None].expand_as(may).masked_fill(~may, -torch.inf)
        if tries < may.shape[2]:
            bar = promise.topk(tries, 2).values[:, :, -1:]
            # an untried flip has an infinite gain, and is tried first
            may = may & (promise >= bar)
        over = may.flatten(1).sum(1) > self.left
        if over.any():
            order = promise.masked_fill(~may, -torch.inf).flatten(1)
            rank = order.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            may = may & (rank < self.left.clamp_min(0)[:, None]).view_as(may)
        return may

    def choose(self, value: Tensor, width: int) -> None:
        """Make the `width` best different unions the sets: each is a set of the beam and one
        flip `(a, w, d)`; a row without any keeps its sets."""
        a, w, d = value.shape
        noise = distributed.draw("uniform", value, self.generator)
        key = value + JITTER * (1 + value.nan_to_num(0, 0, 0).abs()) * noise
        top = key.flatten(1).topk(min(4 * width, w * d), 1)
        parent, column = top.indices // d, top.indices % d
        label = (self.flips * self.label).sum(2).gather(1, parent) + self.label[column]
        same = (label[:, :, None] - label[:, None]).abs() < 1e-9
        repeated = same.tril(-1).any(2) | (top.values == -torch.inf)
        order = repeated.long().argsort(dim=1, stable=True)[:, :width]
        parent, column, lost = (t.gather(1, order) for t in (parent, column, repeated))
        flips = self.flips.gather(1, parent[:, :, None].expand(-1, -1, d))
        flips = flips.scatter(2, column[:, :, None], True)
        chosen = value.flatten(1).gather(1, top.indices.gather(1, order))
        chosen = chosen.masked_fill(lost, -torch.inf)
        moved = (chosen > -torch.inf).any(1)
        more = flips.shape[1] - self.flips.shape[1]
        if more > 0:
            blank = self.flips[:, :1].expand(-1, more, -1)
            self.flips = torch.cat([self.flips, blank], 1)
            none = self.value.new_full((a, more), -torch.inf)
            self.value = torch.cat([self.value, none], 1)
        w = flips.shape[1]
        self.flips = torch.where(moved[:, None, None], flips, self.flips[:, :w])
        self.value = torch.where(moved[:, None], chosen, self.value[:, :w])

    def swap(self, tries: int) -> bool:
        """Exchange one flip of the best set of each row for another, where that gains; return
        whether any did."""
        best = self.value.argmax(1)
        row = torch.arange(len(best), device=best.device)
        flips, value = self.flips[row, best], self.value[row, best]
        size = int(flips.sum(1).max()) if len(flips) else 0
        if size == 0:
            return False
        count = min(max(tries // size, 1), flips.shape[1])
        joins = self.gain.masked_fill(~self.sets.flippable | flips, -torch.inf).topk(count, 1)
        # flips first, in the order of their columns
        leaves = flips.long().argsort(dim=1, descending=True, stable=True)[:, :size]
        valid = flips.gather(1, leaves)[:, :, None] & (joins.values > -torch.inf)[:, None]
        spent = valid.flatten(1).cumsum(1).view_as(valid)
        valid = valid & (spent <= self.left.clamp_min(0)[:, None, None])
        row, i, j = valid.nonzero(as_tuple=True)
        out, into = leaves[row, i], joins.indices[row, j]

        def exchanged(points: slice | Tensor) -> Tensor:
            changed = flips[row[points]].scatter(1, out[points][:, None], False)
            if self.sets.grouped:  # a column that comes into a group takes the place of another
                number = self.sets.number
                same = (number == number[into[points]][:, None]) & (number >= 0)
                changed = changed & ~same
            return changed.scatter(1, into[points][:, None], True)

        if not len(row):
            return False
        answers = ask(self.active, self.sets, row, exchanged, self.chunk)
        self.left = self.left - valid.flatten(1).sum(1)
        point, answered = best_of_rows(row, answers, len(flips))
        better = answered & (answers.value[point].double() > value + JITTER)
        flips = torch.where(better[:, None], exchanged(point), flips)
        value = torch.where(better, answers.value[point].double(), value)
        # a row that no swap helps is done
        self.left = torch.where(better, self.left, 0)
        keep = record_best(self.active, self.sets, row, exchanged, answers)
        self.flips, self.value = flips[:, None], value[:, None]
        self.keep(keep)
        return bool((self.left > 0).any())

    def keep(self, rows: Tensor | None) -> None:
        """Drop all but these rows."""
        if rows is not None:
            self.sets = self.sets.take(rows)
            self.flips, self.value = self.flips[rows], self.value[rows]
            self.gain, self.left = self.gain[rows], self.left[rows]
