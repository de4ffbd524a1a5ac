"""BitSearch: a search for few bits by gradients, by trials, and from the relaxation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Unpack

import torch
from torch import Tensor

from ..batch import Batch, Model
from ..component import require_at_least
from ..functional.geometry import topk_mask
from ..functional.losses import cross_entropy, margin
from ..runtime import distributed
from ..threats.base import Threat
from .base import ActiveSet, Execution, Gain, Maximizer, run_restarts
from .bit_flips import (
    BitSearchState,
    TrainingBatch,
    check_bit_attack,
    flippable_bits,
    flipped,
    max_flips,
)

GAIN_THRESHOLDS = (0.0, 0.03, 0.15, 0.5, 1.0)  # τ of a step, as shares of the largest s_j
ROUNDING_THRESHOLDS = (0.5, 0.2, 0.05)  # a relaxed bit above it is flipped
ANY_CLASS = -1  # a target that stands for cross-entropy
SIGNED_CLIMB = 2  # the climb by signed steps
CLIMB_LENGTH = 2.0  # steps times step size of a relaxed climb: e^-2 of its start remains


class BitSearch(Maximizer):
    """Search locally over sets of flips F, from x and from roundings of the relaxation.

    A step linearises the margin, s_j = (x̄_j − x_j)·g_j with x̄ the flipped x. It tries the sets
    F_τ, the eps highest of s_j + τ·(1 if j ∈ F else −1) that are ≥ 0, for several τ ≥ 0: from one
    flip or swap to the optimum of the linear model. If no F_τ gains, it tries single flips and
    swaps one by one, those of steepest gradient first. It ends when none gains either.

    The first round starts at x. With more than two classes, a round for cross-entropy follows, and
    one per target t for z_t − z_y. Later rounds take these losses in turn, climb the relaxation
    f ∈ [0, 1]^d, round f at thresholds and at random, and start at the best rounding.

    Later rounds climb in turn by f ← f + (2/steps)·(F* − f), with F* the linear optimum within the
    budget; by f ← clip(f + (2/steps)·sign s), without the budget; and by the first from random
    flips.

    In training the trainer's gain replaces these losses, `restarts` counts all rounds, and single
    flips are not tried: a round takes 7·steps passes, a later one 2·steps + 3 + `roundings`
    more, and the point of highest gain counts. `BitSearch(threat, steps=2, restarts=1)` is cheap.

    Arguments:
        steps: gradients of each climb and each local search, ≥ 1.
        restarts: rounds, ≥ 1, beside those of the other losses.
        targets: number of likeliest other classes to aim at, if there are several, ≥ 0.
        tries: single flips, and swaps, tried once gradients fail, ≥ 0.
        roundings: random roundings of each relaxed climb, ≥ 0.

    Source: our own; the relaxed climb follows the continuous greedy of Calinescu et al. 2011.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([2 + 0 * x[:, 0], x @ torch.tensor([1.0, -1.0, 3.0])], 1)
    >>> BitSearch(Bits(1))(model, torch.zeros(1, 3), torch.tensor([0]))
    tensor([[0., 0., 1.]])
    """

    norms = ("bits",)

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 20,
        restarts: int = 3,
        targets: int = 3,
        tries: int = 8,
        roundings: int = 3,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        check_bit_attack(self, threat, steps)
        require_at_least(1, restarts=restarts)
        require_at_least(0, targets=targets, tries=tries, roundings=roundings)
        self.threat, self.steps, self.restarts = threat, steps, restarts
        self.targets, self.tries, self.roundings = targets, tries, roundings

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search)

    def num_rounds(self, active: ActiveSet) -> int:
        if not len(active):
            return self.restarts
        return self.restarts + self._num_other_losses(active.logits_no_grad(active.x))

    def _num_other_losses(self, logits: Tensor) -> int:
        """Return the number of losses beside the margin: cross-entropy, and one per target."""
        return 1 + min(self.targets, logits.shape[1] - 1) if logits.shape[1] > 2 else 0

    def search(self, active: ActiveSet, round_index: int) -> None:
        sets = _FlipSets.from_threat(self.threat, active.batch)
        flips, num_losses = torch.zeros_like(sets.flippable), 0
        if round_index:
            logits = active.logits_no_grad(active.x).nan_to_num()
            if num_losses := self._num_other_losses(logits):
                others = logits.scatter(1, active.y.clamp_min(0)[:, None], -torch.inf)
                likeliest = others.topk(num_losses - 1, dim=1).indices
                k = (round_index - 1) % num_losses
                sets.target = likeliest[:, k - 1] if k else torch.full_like(active.y, ANY_CLASS)
        if round_index > num_losses:
            sets, flips = self.climb_relaxation(active, sets, round_index - num_losses)
        if len(active):
            self.improve(active, sets, flips)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        """Return the point of highest gain `(b, *d)` that the rounds visit."""
        active, sets = TrainingBatch(f, batch), _FlipSets.from_threat(self.threat, batch)
        for round_index in range(self.restarts):
            flips = torch.zeros_like(sets.flippable)
            if round_index:
                _, flips = self.climb_relaxation(active, sets, round_index)
            for _ in range(self.steps):
                value, grad, _ = active.value_and_grad(sets.gain, sets.point(flips))
                best = self.offer_linear(active, sets, flips, value, grad)
                flips = best.flips
                active.record(sets.point(flips), best.value)
                # no move now means no move later; not checked on a GPU, where it would wait
                if not value.is_cuda and not best.moved.any():
                    break
        return active.best.detach()

    def climb_relaxation(
        self, active: BitSearchState, sets: _FlipSets, climb_number: int
    ) -> tuple[_FlipSets, Tensor]:
        """Return the sets of the rows still active, and the best rounding `(a, d)` of a climb.

        Climb 1 is within the budget from x; 2: by signed steps, without a budget; 3 and more:
        within the budget from random flips.
        """
        generator = self.generator(sets.x.device)
        f = slope = torch.zeros_like(sets.x)
        if climb_number > SIGNED_CLIMB:
            share = distributed.draw("uniform", f[:, :1], generator).sqrt()
            f = sets.top_flips(distributed.draw("uniform", f, generator) - 1 + share).to(f.dtype)
        for _ in range(self.steps):
            _, grad, _ = active.value_and_grad(sets.gain, sets.relaxed_point(f))
            slope = sets.delta * grad.flatten(1)
            if climb_number == SIGNED_CLIMB:
                f = (f + CLIMB_LENGTH / self.steps * slope.sign()).clamp(0, 1)
            else:
                optimum = sets.top_flips(slope).to(f.dtype)
                f = f + min(1.0, CLIMB_LENGTH / self.steps) * (optimum - f)
        # signed steps leave many f at 1 together: the last slope says which of them to keep
        score = slope if climb_number == SIGNED_CLIMB else f
        flips, value = torch.zeros_like(sets.flippable), f.new_full((len(f),), -torch.inf)
        for threshold in (*ROUNDING_THRESHOLDS, *[None] * self.roundings):
            u = distributed.draw("uniform", f, generator) if threshold is None else threshold
            tried = sets.top_flips(torch.where(f > u, score, -torch.inf), f > u)
            point = sets.point(tried)
            logits = active.logits_no_grad(point)
            gain = sets.gain(logits)
            flips = torch.where((gain > value)[:, None], tried, flips)
            value = torch.where(gain > value, gain, value)
            keep = active.record(point, logits)
            if len(active) == 0:
                break
            if keep is not None:
                sets, f, score = sets.take(keep), f[keep], score[keep]
                flips, value = flips[keep], value[keep]
        return sets, flips

    def improve(self, active: ActiveSet, sets: _FlipSets, flips: Tensor) -> None:
        """Search locally from these flips `(a, d)`; a row takes steps as long as it gains."""
        # rows that still gain, as positions in the active rows: `record` needs all of these
        live = torch.arange(len(flips), device=flips.device)
        value = sets.x.new_zeros(len(flips))
        logits = value[:, None]
        for _ in range(self.steps):
            live_sets = sets.take(live)
            point = live_sets.point(flips[live])
            gain, grad, live_logits = active.value_and_grad(live_sets.gain, point)
            if logits.shape != (len(value), live_logits.shape[1]):
                logits = live_logits.new_zeros(len(value), live_logits.shape[1])
            logits = logits.index_copy(0, live, live_logits)
            value = value.index_copy(0, live, gain)
            keep = active.record(sets.point(flips), logits)
            if len(active) == 0:
                return
            if keep is not None:
                is_kept = torch.zeros_like(value, dtype=torch.bool).index_fill(0, keep, True)
                stays = is_kept[live]
                live_sets, gain, grad = live_sets.take(stays), gain[stays], grad[stays]
                live = (is_kept.cumsum(0) - 1)[live[stays]]
                sets, flips = sets.take(keep), flips[keep]
                logits, value = logits[keep], value[keep]
            better, moved = self.step(active, live_sets, flips[live], gain, grad)
            flips, live = flips.index_copy(0, live, better), live[moved]
            if len(live) == 0:
                return
        point = sets.point(flips)
        active.record(point, active.logits_no_grad(point))

    def step(
        self, active: ActiveSet, sets: _FlipSets, flips: Tensor, value: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the best flips `(a, d)` of one step, and which rows gained `(a,)`."""
        best = self.offer_linear(active, sets, flips, value, grad)
        # single changes cost a pass each: only for rows where the gradient fails
        stuck = (~best.moved).nonzero()[:, 0]
        if len(stuck) and self.tries:
            slope = sets.delta * grad.flatten(1)
            single = _BestFlips(active, sets.take(stuck), flips[stuck], value[stuck])
            for tried in single.sets.single_changes(flips[stuck], slope[stuck], self.tries):
                single.offer(tried)
            best.flips[stuck], best.moved[stuck] = single.flips, single.moved
        return best.flips, best.moved

    def offer_linear(
        self, active: BitSearchState, sets: _FlipSets, flips: Tensor, value: Tensor, grad: Tensor
    ) -> _BestFlips:
        """Return the best of the sets F_τ, and which rows gained."""
        slope = sets.delta * grad.flatten(1)
        best = _BestFlips(active, sets, flips, value)
        top = sets.toggle_gain(flips, slope).amax(1, keepdim=True).clamp_min(0)
        for share in GAIN_THRESHOLDS:
            inertia = torch.where(flips, share * top, -share * top)
            best.offer(sets.top_flips(slope + inertia, (slope > 0) | flips))
        return best


class _BestFlips:
    """Keep the best flips offered so far `(a, d)`, and which rows gained `(a,)`."""

    def __init__(
        self, active: BitSearchState, sets: _FlipSets, flips: Tensor, value: Tensor
    ) -> None:
        self.active, self.sets, self.flips = active, sets, flips.clone()
        self.value = value.nan_to_num(-torch.inf)
        self.moved = torch.zeros(len(flips), dtype=torch.bool, device=flips.device)

    def offer(self, flips: Tensor) -> None:
        """Run the model at these flips, and keep them in the rows that gain."""
        gain = self.sets.gain(self.active.logits_no_grad(self.sets.point(flips)))
        better = gain > self.value
        self.flips = torch.where(better[:, None], flips, self.flips)
        self.value = torch.where(better, gain, self.value)
        self.moved = self.moved | better


@dataclass
class _FlipSets:
    """Sets of flips for a batch of `a` rows with `d` bits.

    Arguments:
        x, other: the bits and their opposites `(a, d)`.
        flippable: which bits may flip `(a, d)`.
        delta: other − x, 0 where a bit may not flip `(a, d)`.
        eps: how many bits may flip, d if all may.
        target: the class to reach `(a,)`, or ANY_CLASS for cross-entropy; None for the margin.
    """

    x: Tensor
    other: Tensor
    flippable: Tensor
    delta: Tensor
    y: Tensor
    eps: int
    shape: torch.Size
    target: Tensor | None = None

    @classmethod
    def from_threat(cls, threat: Threat, batch: Batch) -> _FlipSets:
        """Return the sets that a threat allows.

        Raises:
            ValueError: for an x that is not binary.
        """
        flippable = flippable_bits(threat, batch).flatten(1)
        x, other = batch.x.flatten(1), flipped(batch.x, threat).flatten(1)
        delta = torch.where(flippable, other - x, 0)
        eps = int(min(max_flips(threat, batch.x), x.shape[1]))
        return cls(x, other, flippable, delta, batch.y, eps, batch.x.shape[1:])

    def take(self, rows: Tensor) -> _FlipSets:
        """Return the sets of some rows."""
        kept = {n: value[rows] for n, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **kept)

    def gain(self, logits: Tensor) -> Tensor:
        """Return the margin; with a target t, z_t − z_y, or cross-entropy `(a,)`. In training the
        trainer's gain `(a,)` comes in place of logits, and goes through."""
        if logits.ndim == 1:
            return logits
        if self.target is None:
            return margin(logits, self.y)
        reached = logits.gather(1, self.target.clamp_min(0)[:, None])
        difference = (reached - logits.gather(1, self.y.clamp_min(0)[:, None]))[:, 0]
        return torch.where(self.target == ANY_CLASS, cross_entropy(logits, self.y), difference)

    def point(self, flips: Tensor) -> Tensor:
        """Return the point with these flips `(a, *d)`."""
        return torch.where(flips, self.other, self.x).reshape(-1, *self.shape)

    def relaxed_point(self, f: Tensor) -> Tensor:
        """Return x + f·delta, the point with the share f of every flip `(a, *d)`."""
        return (self.x + f * self.delta).reshape(-1, *self.shape)

    def top_flips(self, score: Tensor, among: Tensor | None = None) -> Tensor:
        """Return the eps flips of highest score: of positive scores, or, `among` some, of scores
        ≥ 0."""
        flips = self.flippable & ((score > 0) if among is None else (score >= 0) & among)
        if self.eps == flips.shape[1]:
            return flips
        return flips & topk_mask(torch.where(flips, score, -torch.inf), self.eps)

    def toggle_gain(self, flips: Tensor, slope: Tensor) -> Tensor:
        """Return the first-order gain `(a, d)` of adding or removing each flip, −inf where that is
        not allowed."""
        gain = torch.where(flips, -slope, slope).masked_fill(~self.flippable, -torch.inf)
        full = flips.sum(1, keepdim=True) >= self.eps
        return gain.masked_fill(full & ~flips, -torch.inf)

    def single_changes(self, flips: Tensor, slope: Tensor, tries: int) -> Iterator[Tensor]:
        """Yield flips that differ in one; within a budget also swaps: add one, remove one."""
        top = self.toggle_gain(flips, slope).topk(min(tries, flips.shape[1]), dim=1)
        for gain, j in zip(top.values.unbind(1), top.indices.unbind(1), strict=True):
            yield _toggle(flips, j, gain > -torch.inf)
        if self.eps in (0, flips.shape[1]):
            return
        num_removed = min(math.isqrt(tries), self.eps)
        num_added = min(tries // num_removed, flips.shape[1])
        added = torch.where(self.flippable & ~flips, slope, -torch.inf).topk(num_added, dim=1)
        removed = torch.where(flips, -slope, -torch.inf).topk(num_removed, dim=1)
        for i, j in itertools.product(range(num_added), range(num_removed)):
            ok = (added.values[:, i] > -torch.inf) & (removed.values[:, j] > -torch.inf)
            yield _toggle(_toggle(flips, added.indices[:, i], ok), removed.indices[:, j], ok)


def _toggle(flips: Tensor, j: Tensor, ok: Tensor) -> Tensor:
    """Return the flips `(a, d)` with bit `j (a,)` changed where `ok (a,)`."""
    return flips.scatter(1, j[:, None], flips.gather(1, j[:, None]) ^ ok[:, None])
