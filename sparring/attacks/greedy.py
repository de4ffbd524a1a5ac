"""A search for few bits: by gradients, by trying, and from the relaxation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Unpack

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..functional.geometry import topk_mask
from ..functional.losses import cross_entropy, margin
from ..runtime import distributed
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search

SHARES = (0.0, 0.03, 0.15, 0.5, 1.0)  # of the largest first-order gain: what a flip must promise
CUTS = (0.5, 0.2, 0.05)  # how much of a bit the relaxation must have moved to be rounded up
ANY = -1  # in place of a class
PACE = 2.0  # a relaxed climb of k steps leaves e^-2 of its start


class BitSearch(Search):
    """Local search over sets of flips F, from x and from roundings of the relaxation.

    A step linearises the margin, s_j = (x̄_j − x_j)·g_j with x̄ the flipped x, and tries the sets
    F_τ = the eps highest of s_j + τ·(1 if j ∈ F else −1) that are ≥ 0, for several τ ≥ 0: from one
    flip or swap to the optimum of the linear model. Where none of them gains, it tries single flips
    and swaps that the gradient ranks first, one by one, until none gains either.

    The first round starts at x; with more than two classes, one for cross-entropy follows, and one
    a target t for z_t − z_y. Later ones, these losses in turn, climb the relaxation f ∈ [0, 1]^d,
    round f at thresholds and at random, and start at the best of these. The climbs, in turn:
    f ← f + (2/steps)·(F* − f) with F* the linear optimum in the budget, f ← clip(f + (2/steps)·sign
    s) without the budget, and the first from random flips.

    Arguments:
        threat: Bits.
        steps: gradients of each climb and each local search, ≥ 1.
        restarts: rounds, ≥ 1, beside those of the other losses.
        targets: how many of the likeliest other classes, where there is more than one, ≥ 0.
        tries: single flips, and swaps, tried where gradients end; 0 for none.
        roundings: random ones of each relaxed climb, ≥ 0.
        precision, channels_last: how the model runs while searching.
        seed: of its own generator.

    Source: our own; the relaxed climb follows the continuous greedy of Calinescu et al. 2011.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([2 + 0 * x[:, 0], x @ torch.tensor([1.0, -1.0, 3.0])], 1)
    >>> BitSearch(Bits(1))(model, torch.zeros(1, 3), torch.tensor([0]))
    tensor([[0., 0., 1.]])
    """

    norms = ("bits",)  # type: ignore[assignment]

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
        allowed = f"a ball of Bits for {type(self).__name__}"
        require(threat.binary and not threat.labels, "threat", threat, allowed)
        require(steps >= 1, "steps", steps, "an integer ≥ 1")
        require(restarts >= 1, "restarts", restarts, "an integer ≥ 1")
        require(targets >= 0, "targets", targets, "an integer ≥ 0")
        require(tries >= 0, "tries", tries, "an integer ≥ 0")
        require(roundings >= 0, "roundings", roundings, "an integer ≥ 0")
        self.threat, self.steps, self.restarts = threat, steps, restarts
        self.targets, self.tries, self.roundings = targets, tries, roundings

    def num_rounds(self, active: ActiveSet) -> int:
        """One a restart, and one a target."""
        if not len(active):
            return self.restarts
        return self.restarts + self._aims(active.logits_no_grad(active.x))

    def _aims(self, logits: Tensor) -> int:
        """Rounds with a loss of their own: cross-entropy, and the targets."""
        return 1 + min(self.targets, logits.shape[1] - 1) if logits.shape[1] > 2 else 0

    def search(self, active: ActiveSet, turn: int) -> None:
        space = _Space.of(self.threat, active.batch)
        flips, aims = torch.zeros_like(space.may), 0
        if turn:
            logits = active.logits_no_grad(active.x).nan_to_num()
            aims = self._aims(logits)
            if aims:
                others = logits.scatter(1, active.y.clamp_min(0)[:, None], -torch.inf)
                best = others.topk(aims - 1, dim=1).indices
                goals = torch.cat([torch.full_like(active.y[:, None], ANY), best], 1)
                space.goal = goals[:, (turn - 1) % aims]
        if turn > aims:
            space, flips = self.relax(active, space, turn - aims)
        if len(active):
            self.improve(active, space, flips)

    def relax(self, active: ActiveSet, space: _Space, kind: int) -> tuple[_Space, Tensor]:
        """The best rounding `(a, d)` of a relaxed climb, and the space of what still stands.

        Arguments:
            kind: 1 climbs within the budget from x, 2 without one, 3 and more within it from random
                flips.
        """
        generator = self.generator(space.x.device)
        f = slope = torch.zeros_like(space.x)
        if kind > 2:
            share = distributed.draw("uniform", f[:, :1], generator).sqrt()
            f = space.best(distributed.draw("uniform", f, generator) - 1 + share).to(f.dtype)
        for _ in range(self.steps):
            _, grad, _ = active.value_and_grad(space.gain, space.relaxed(f))
            slope = space.way * grad.flatten(1)
            if kind == 2:
                f = (f + PACE / self.steps * slope.sign()).clamp(0, 1)
            else:
                f = f + min(1.0, PACE / self.steps) * (space.best(slope).to(f.dtype) - f)
        score = f if kind != 2 else slope
        flips, value = torch.zeros_like(space.may), f.new_full((len(f),), -torch.inf)
        for cut in (*CUTS, *[None] * self.roundings):
            at = distributed.draw("uniform", f, generator) if cut is None else cut
            tried = space.best(torch.where(f > at, score, -torch.inf), f > at)
            point = space.at(tried)
            logits = active.logits_no_grad(point)
            gained = space.gain(logits)
            flips = torch.where((gained > value)[:, None], tried, flips)
            value = torch.where(gained > value, gained, value)
            keep = active.record(point, logits)
            if len(active) == 0:
                break
            if keep is not None:
                space, f, score = space.part(keep), f[keep], score[keep]
                flips, value = flips[keep], value[keep]
        return space, flips

    def improve(self, active: ActiveSet, space: _Space, flips: Tensor) -> None:
        """Local search from these flips `(a, d)`; it looks at a row as long as that row gains."""
        live = torch.arange(len(flips), device=flips.device)
        value = space.x.new_zeros(len(flips))
        logits = value[:, None]
        for _ in range(self.steps):
            part = space.part(live)
            gained, grad, said = active.value_and_grad(part.gain, part.at(flips[live]))
            if logits.shape != (len(value), said.shape[1]):
                logits = said.new_zeros(len(value), said.shape[1])
            logits, value = logits.index_copy(0, live, said), value.index_copy(0, live, gained)
            keep = active.record(space.at(flips), logits)
            if len(active) == 0:
                return
            if keep is not None:
                still = keep[live]
                part, gained, grad = part.part(still), gained[still], grad[still]
                live = (keep.cumsum(0) - 1)[live[still]]
                space, flips = space.part(keep), flips[keep]
                logits, value = logits[keep], value[keep]
            better, moved = self.step(active, part, flips[live], gained, grad)
            flips, live = flips.index_copy(0, live, better), live[moved]
            if len(live) == 0:
                return
        point = space.at(flips)
        active.record(point, active.logits_no_grad(point))

    def step(
        self, active: ActiveSet, space: _Space, flips: Tensor, value: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Better flips `(a, d)`, and which rows have some `(a,)`."""
        slope = space.way * grad.flatten(1)
        best = _Best(active, space, flips, value)
        top = space.toggles(flips, slope).amax(1, keepdim=True).clamp_min(0)
        for share in SHARES:
            stay = torch.where(flips, share * top, -share * top)
            best.offer(space.best(slope + stay, (slope > 0) | flips))
        stuck = (~best.moved).nonzero()[:, 0]
        if len(stuck) and self.tries:
            here = _Best(active, space.part(stuck), flips[stuck], value[stuck])
            for tried in here.space.singles(flips[stuck], slope[stuck], self.tries):
                here.offer(tried)
            best.flips[stuck], best.moved[stuck] = here.flips, here.moved
        return best.flips, best.moved


class _Best:
    """The best flips offered so far `(a, d)`, and which rows have gained `(a,)`."""

    def __init__(self, active: ActiveSet, space: _Space, flips: Tensor, value: Tensor) -> None:
        self.active, self.space, self.flips = active, space, flips.clone()
        self.value = value.nan_to_num(-torch.inf)
        self.moved = torch.zeros(len(flips), dtype=torch.bool, device=flips.device)

    def offer(self, flips: Tensor) -> None:
        """Ask at these flips."""
        gained = self.space.gain(self.active.logits_no_grad(self.space.at(flips)))
        better = gained > self.value
        self.flips = torch.where(better[:, None], flips, self.flips)
        self.value = torch.where(better, gained, self.value)
        self.moved = self.moved | better


@dataclass
class _Space:
    """The sets of flips of a batch of `a` rows with `d` bits.

    Arguments:
        x, other: the bits and their opposites `(a, d)`.
        may: which may flip `(a, d)`.
        way: other − x, 0 where it may not flip `(a, d)`.
        eps: how many may, d where all of them.
        goal: the class to reach `(a,)`, or ANY, by cross-entropy; None for any, by the margin.
    """

    x: Tensor
    other: Tensor
    may: Tensor
    way: Tensor
    y: Tensor
    eps: int
    shape: torch.Size
    goal: Tensor | None = None

    @classmethod
    def of(cls, threat: Threat, batch: Batch) -> _Space:
        """What a threat lets flip: the bits that projecting moves at all."""
        x = threat.discretize(batch.x, batch)  # which refuses an x that is not binary
        other = torch.where(x == threat.low, threat.high, threat.low).to(x.dtype)
        may = (threat.project(other, batch) != x).flatten(1)
        flat, other = x.flatten(1), other.flatten(1)
        eps = int(min(math.inf if threat.eps is None else threat.eps, flat.shape[1]))
        return cls(flat, other, may, torch.where(may, other - flat, 0), batch.y, eps, x.shape[1:])

    def part(self, rows: Tensor) -> _Space:
        """Some of the rows."""
        parts = {name: getattr(self, name)[rows] for name in ("x", "other", "may", "way", "y")}
        return replace(self, goal=None if self.goal is None else self.goal[rows], **parts)

    def gain(self, logits: Tensor) -> Tensor:
        """The margin; with a goal, the lead of that class, or cross-entropy `(a,)`."""
        if self.goal is None:
            return margin(logits, self.y)
        reach = logits.gather(1, self.goal.clamp_min(0)[:, None])
        lead = (reach - logits.gather(1, self.y.clamp_min(0)[:, None]))[:, 0]
        return torch.where(self.goal == ANY, cross_entropy(logits, self.y), lead)

    def at(self, flips: Tensor) -> Tensor:
        """The point with these flips `(a, *d)`."""
        return torch.where(flips, self.other, self.x).reshape(-1, *self.shape)

    def relaxed(self, f: Tensor) -> Tensor:
        """The point that has moved by the share f of every bit's way `(a, *d)`."""
        return (self.x + f * self.way).reshape(-1, *self.shape)

    def best(self, score: Tensor, among: Tensor | None = None) -> Tensor:
        """The eps flips of highest score that is positive, or, `among` some, not negative."""
        flips = self.may & ((score > 0) if among is None else (score >= 0) & among)
        if self.eps == flips.shape[1]:
            return flips
        return flips & topk_mask(torch.where(flips, score, -torch.inf), self.eps)

    def toggles(self, flips: Tensor, slope: Tensor) -> Tensor:
        """What putting or taking back each flip promises, −inf where that is not allowed."""
        gain = torch.where(flips, -slope, slope).masked_fill(~self.may, -torch.inf)
        if self.eps == flips.shape[1]:
            return gain
        full = flips.sum(1, keepdim=True) >= self.eps
        return gain.masked_fill(full & ~flips, -torch.inf)

    def singles(self, flips: Tensor, slope: Tensor, tries: int) -> Iterator[Tensor]:
        """Flips that differ in one, or within a budget in two of which one is taken back."""
        top = self.toggles(flips, slope).topk(min(tries, flips.shape[1]), dim=1)
        for gain, j in zip(top.values.unbind(1), top.indices.unbind(1), strict=True):
            yield _toggle(flips, j, gain > -torch.inf)
        if self.eps in (0, flips.shape[1]):
            return
        less = min(math.isqrt(tries), self.eps)
        more = min(tries // less, flips.shape[1])
        come = torch.where(self.may & ~flips, slope, -torch.inf).topk(more, dim=1)
        leave = torch.where(flips, -slope, -torch.inf).topk(less, dim=1)
        for i, j in itertools.product(range(more), range(less)):
            ok = (come.values[:, i] > -torch.inf) & (leave.values[:, j] > -torch.inf)
            yield _toggle(_toggle(flips, come.indices[:, i], ok), leave.indices[:, j], ok)


def _toggle(flips: Tensor, j: Tensor, ok: Tensor) -> Tensor:
    """The flips `(a, d)` with bit `j (a,)` changed where `ok (a,)`."""
    return flips.scatter(1, j[:, None], flips.gather(1, j[:, None]) ^ ok[:, None])
