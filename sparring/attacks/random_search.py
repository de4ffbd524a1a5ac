"""Random search, as Square and Sparse-RS share it: keep a proposal if its loss is higher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..component import did_you_mean, require, require_at_least
from ..functional import losses
from ..functional.geometry import broadcast_rows
from ..runtime import distributed
from ..threats.base import Threat
from .base import ActiveSet

PUBLISHED_QUERIES = 10_000  # the queries that the published schedules are laid over


class Proposer:
    """Propose the next points for the rows of a search, in the shape of x.

    Attributes:
        x: the rows that are left `(a, …)`.
    """

    def __init__(self, x: Tensor, generator: torch.Generator) -> None:
        self.x, self.generator = x, generator

    def first(self) -> Tensor:
        """Return the points where the search starts `(a, *d)`."""
        raise NotImplementedError

    def propose(self, best: Tensor, size: float) -> Tensor:
        """Return feasible points near `best (a, *d)`; each search defines its size."""
        raise NotImplementedError

    def logits(self, active: ActiveSet, z: Tensor) -> Tensor:
        """Return the logits `(a, k)` of the last proposal."""
        return active.logits_no_grad(z)

    def accept(self, rows: Tensor) -> None:
        """Make the last proposal the best point of these rows `(a,)`."""

    def keep(self, rows: Tensor) -> None:
        """Drop all but these rows."""
        self.x = self.x[rows]

    def draw(self, *shape: int) -> Tensor:
        """Draw uniform numbers `(a, *shape)`."""
        # float32 whatever x is, so that both precisions search the same points
        empty = torch.empty(len(self.x), *shape, dtype=torch.float32, device=self.x.device)
        return distributed.draw("uniform", empty, self.generator)


@runtime_checkable
class RandomSearch(Protocol):
    """Query the model at `queries` proposals, and stay at the best."""

    if TYPE_CHECKING:  # a submodule, which isinstance overlooks from Python 3.12 on
        threat: Threat
    queries: int
    plan: int | None
    loss: str
    restarts: int
    targeted: bool

    def size(self, query: int) -> float:
        """Return how much the proposal of a query changes; the first proposal is query 1."""
        ...


def check_arguments(attack: RandomSearch) -> None:
    """Raise `ValueError` for a number that is too small, or a loss that does not exist."""
    require_at_least(1, queries=attack.queries, restarts=attack.restarts)
    allowed = "an integer ≥ 1, or None for queries"
    require(attack.plan is None or attack.plan >= 1, "plan", attack.plan, allowed)
    if attack.loss not in losses.BY_NAME:
        raise ValueError(did_you_mean("loss", attack.loss, losses.BY_NAME))


def count_passed(attack: RandomSearch, query: int, limits: tuple[int, ...]) -> int:
    """Return how many limits of a published schedule the query of an attack has passed."""
    published = int(query / (attack.plan or attack.queries) * PUBLISHED_QUERIES)
    return sum(published > limit for limit in limits)


@torch.no_grad()
def keep_better(attack: RandomSearch, active: ActiveSet, proposer: Proposer) -> None:
    """Search from the first points: z ← the proposal, where its loss is higher."""
    z = best = proposer.first()
    value = z.new_full((len(z),), -torch.inf)
    for query in range(attack.queries):
        z = proposer.propose(best, attack.size(query)) if query else z
        logits = proposer.logits(active, z)
        gain = losses.BY_NAME[attack.loss](logits, active.y)
        gain = -gain if attack.targeted else gain
        keep = active.record(z, logits, gain)
        if len(active) == 0:
            return
        better = gain > value  # never where a loss is NaN
        best = torch.where(broadcast_rows(better, z), z, best)
        value = torch.where(better, gain, value)
        if query:
            proposer.accept(better)
        if keep is not None:
            best, value = best[keep], value[keep]
            proposer.keep(keep)
