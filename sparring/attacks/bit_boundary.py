"""BitBoundary: a search for few flips by predicted classes alone."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..component import require_at_least
from ..runtime import distributed
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search
from .flip_sets import CHUNK, FlipSets, ask, check_bits

SHARES = (0.5, 0.25, 0.75, 0.1, 0.9)  # of the flips of a random start, in turn
ADDED = 0.2  # share of the other flips that join the smallest set before it shrinks again


class BitBoundary(Search):
    """Shrink an evading set of flips as long as the model stays wrong, by predicted classes alone.

    It starts at all flips that the threat allows but for the budget, at all additions, at all
    removals, or at random sets. Then it takes back flips in halves, quarters, and so on to single
    ones, wherever the model stays wrong, until the budget is kept. A set that is still too large
    grows by random flips and shrinks again in another order; the smallest stays.

    Arguments:
        queries: points per sample, at most.
        tries: random sets tried for a start; without one a sample is given up, ≥ 0.

    Source: our own; the shrinking is delta debugging, Zeller and Hildebrandt 2002, fig. 5.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([2 + 0 * x[:, 0], x @ torch.tensor([1.0, -1.0, 3.0])], 1)
    >>> labels = lambda x: torch.eye(2)[model(x).argmax(1)]
    >>> BitBoundary(Bits(1))(labels, torch.zeros(1, 3), torch.tensor([0]))
    tensor([[0., 0., 1.]])
    """

    norms = ("bits",)  # type: ignore[assignment]

    def __init__(
        self,
        threat: Threat,
        *,
        queries: int = 5000,
        tries: int = 50,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        require_at_least(1, queries=queries)
        require_at_least(0, tries=tries)
        self.threat = check_bits(self, threat)
        self.queries, self.tries = queries, tries

    def search(self, active: ActiveSet, round_index: int) -> None:
        state = _Shrinking(self, active)
        state.start(self.tries)
        while len(active) and state.left > 0 and state.shrink():
            pass


class _Shrinking:
    """The sets of flips of each row, and which of them evade `evading (a,)`.

    Attributes:
        smallest: the smallest evading set of each row so far `(a, d)`.
        left: queries left for each row.
        rounds: how often the sets were shrunk.
    """

    def __init__(self, attack: BitBoundary, active: ActiveSet) -> None:
        self.active, self.left, self.rounds = active, attack.queries, 0
        self.generator = attack.generator(active.x.device)
        self.sets = FlipSets.from_threat(attack.threat, active.batch)
        self.evading = torch.zeros_like(active.y, dtype=torch.bool)
        self.smallest = torch.zeros_like(self.sets.flippable)

    def draw(self) -> Tensor:
        """Return a random order of the flips of each row `(a, d)`, in [0, 1)."""
        return distributed.draw("uniform", self.sets.x, self.generator)

    def start(self, tries: int) -> None:
        """Find evading sets, whatever their size."""
        absent = self.sets.x == self.sets.absent(self.sets.x, self.sets.other)
        for among in (torch.ones_like(absent), absent, ~absent):
            self.offer(among[None])
        shares = [SHARES[k % len(SHARES)] for k in range(min(tries, self.left))]
        if shares:
            self.offer(torch.stack([self.draw() < share for share in shares]))

    def offer(self, among: Tensor) -> None:
        """Try these flips `(m, a, d)` where no set evades yet, and keep the smallest that does."""
        need = ~self.evading & self.sets.flippable.any(1)
        if self.left < len(among) or not need.any():
            return
        d = among.shape[2]
        flips = torch.stack([self.sets.highest(self.draw(), one, eps=d) for one in among])
        wrong = self.are_wrong(flips, need & flips.any(2))
        size = flips.sum(2).masked_fill(~wrong, d + 1)
        first = size.argmin(0)
        smallest = flips[first, torch.arange(len(first), device=first.device)]
        broken = wrong.any(0)
        self.smallest = torch.where(broken[:, None], smallest, self.smallest)
        self.evading = self.evading | broken

    def are_wrong(self, flips: Tensor, rows: Tensor) -> Tensor:
        """Return where the model is wrong `(m, a)` with m sets for each row `(m, a, d)` of a mask
        `(m, a)`; m queries."""
        self.left -= len(flips)
        wrong = torch.zeros(flips.shape[:2], dtype=torch.bool, device=flips.device)
        number, row = rows.expand_as(wrong).nonzero(as_tuple=True)
        if len(row):
            answers = ask(self.active, self.sets, row, lambda p: flips[number[p], row[p]], CHUNK)
            wrong[number, row] = answers.adversarial
        return wrong

    def is_wrong(self, flips: Tensor, rows: Tensor) -> Tensor:
        """Return in which rows `(a,)` of a mask the model is wrong with these flips; one query."""
        return self.are_wrong(flips[None], rows[None])[0]

    def shrink(self) -> bool:
        """Take back flips of each row's smallest set, grown at random if it was shrunk before;
        return whether a row is left that is over its budget."""
        self.record()
        rows = self.evading & (self.smallest.sum(1) > self.sets.eps)
        if not rows.any():
            return False
        flips, order = self.smallest, self.draw()
        if self.rounds:
            flips = self.grown(rows)
            # those that joined leave last: first the old ones get a chance
            order = order + (flips & ~self.smallest)
        self.rounds += 1
        chunk = max(int(flips[rows].sum(1).max()) // 2, 1)
        while self.left > 0:
            flips, rows = self.take_back(flips, rows, order, chunk)
            if not rows.any() or chunk == 1:
                break
            chunk //= 2
        smaller = flips.sum(1) <= self.smallest.sum(1)
        self.smallest = torch.where(smaller[:, None], flips, self.smallest)
        self.record()
        return len(self.active) > 0

    def take_back(
        self, flips: Tensor, rows: Tensor, order: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        """Take back runs of `chunk` flips in an order, where the model stays wrong; return the
        flips `(a, d)`, and which rows are still over their budget.

        One call tries every run alone. Those that can go alone are then joined: a bisection finds
        how many of them can go together, so a forest is called a few times and not once a run.
        """
        number = order.masked_fill(~flips, torch.inf).argsort(dim=1).argsort(dim=1) // chunk
        count = min(-(-int(flips[rows].sum(1).max()) // chunk), self.left)
        runs = torch.arange(count, device=flips.device)[:, None, None] == number
        fewer = flips & ~runs
        tried = rows & (fewer != flips).any(2) & fewer.any(2)
        removable = self.are_wrong(fewer, tried)
        while self.left > 0 and rows.any() and removable.any():
            position = removable.long().cumsum(0) * removable
            high, low = position.amax(0), torch.zeros_like(position[0])
            middle = high
            while self.left > 0 and (low < high).any():
                without = flips & ~self.joined(runs, removable & (position <= middle))
                wrong = self.is_wrong(without, rows & (low < high) & without.any(1))
                low = torch.where(wrong, middle, low)
                high = torch.where(wrong, high, torch.where(low < high, middle - 1, high))
                middle = (low + high + 1) // 2
            flips = flips & ~self.joined(runs, removable & (position <= low) & rows)
            removable = removable & (position > low + 1)
            rows = rows & (flips.sum(1) > self.sets.eps)
        return flips, rows

    @staticmethod
    def joined(runs: Tensor, chosen: Tensor) -> Tensor:
        """Return the flips `(a, d)` in the chosen `(m, a)` of the runs `(m, a, d)`."""
        return (runs & chosen[:, :, None]).any(0)

    def grown(self, rows: Tensor) -> Tensor:
        """Return the smallest sets with random flips added, where the model stays wrong."""
        among = self.smallest | (self.draw() < ADDED)
        # those of the set first: of a group they keep their column
        score = self.draw() + 2 * self.smallest
        flips = self.sets.highest(score, among, eps=among.shape[1])
        wrong = self.is_wrong(flips, rows)
        return torch.where(wrong[:, None], flips, self.smallest)

    def record(self) -> None:
        """Record the sets that keep the budget; rows without an evading set have none."""
        within = self.evading & (self.smallest.sum(1) <= self.sets.eps)
        if not within.any():
            return
        z = self.sets.point(self.smallest & within[:, None])
        y, k = self.active.y, int(self.active.y.max()) + 2
        logits = torch.nn.functional.one_hot(torch.where(within, (y + 1) % k, y), k).to(z.dtype)
        # of the others only the decision is known, so no value ranks their points
        value = torch.full_like(logits[:, 0], -torch.inf)
        keep = self.active.record(z, logits, value)
        if keep is not None:
            self.sets = self.sets.take(keep)
            self.evading, self.smallest = self.evading[keep], self.smallest[keep]
