"""What Square and Sparse-RS share: random search, which keeps a proposal whose loss is higher."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..component import did_you_mean, require
from ..functional import losses
from ..functional.geometry import broadcast_rows
from ..runtime import distributed
from ..threats.base import Threat
from .base import ActiveSet

PLAN = 10_000  # queries that the published schedules are laid over


class Walk:
    """What the rows of a search may be asked next. Points go in and out in the shape of x.

    Attributes:
        x: the rows that are left `(a, …)`.
    """

    def __init__(self, x: Tensor, generator: torch.Generator) -> None:
        self.x, self.generator = x, generator

    def first(self) -> Tensor:
        """Where the search starts."""
        raise NotImplementedError

    def propose(self, best: Tensor, size: float) -> Tensor:
        """A feasible point near `best (a, *d)`; the size is what its search says."""
        raise NotImplementedError

    def accept(self, rows: Tensor) -> None:
        """The last proposal is now the best of these rows `(a,)`."""

    def keep(self, rows: Tensor) -> None:
        """Forget the rows that left."""
        self.x = self.x[rows]

    def draw(self, *shape: int) -> Tensor:
        """Uniform numbers `(a, *shape)`, float32 whatever x is."""
        size = (len(self.x), *shape)
        empty = torch.empty(size, dtype=torch.float32, device=self.x.device)
        return distributed.draw("uniform", empty, self.generator)


@runtime_checkable
class Walker(Protocol):
    """An attack that asks `queries` points of a walk and stays at the best."""

    threat: Threat
    queries: int
    plan: int | None
    loss: str
    restarts: int
    targeted: bool

    def size(self, query: int) -> float:
        """How much the proposal of a query changes; the first proposal is query 1."""
        ...


def limits(attack: Walker) -> None:
    """Raise a `ValueError` for a number that is too small, or a loss that does not exist."""
    require(attack.queries >= 1, "queries", attack.queries, "an integer ≥ 1")
    allowed = "an integer ≥ 1, or None for queries"
    require(attack.plan is None or attack.plan >= 1, "plan", attack.plan, allowed)
    require(attack.restarts >= 1, "restarts", attack.restarts, "an integer ≥ 1")
    if attack.loss not in losses.BY_NAME:
        raise ValueError(did_you_mean("loss", attack.loss, losses.BY_NAME))


def planned(attack: Walker, query: int) -> int:
    """Where a query stands in a plan of 10 000."""
    return int(query / (attack.plan or attack.queries) * PLAN)


@torch.no_grad()
def climb(attack: Walker, active: ActiveSet, walk: Walk) -> None:
    """z ← the proposal, where its loss is higher."""
    z = best = walk.first()
    value = z.new_full((len(z),), -torch.inf)
    for query in range(attack.queries):
        z = walk.propose(best, attack.size(query)) if query else z
        logits = active.logits_no_grad(z)
        gained = losses.BY_NAME[attack.loss](logits, active.y)
        gained = -gained if attack.targeted else gained
        gained = torch.where(gained.isnan(), -torch.inf, gained)
        keep = active.record(z, logits, gained)
        if len(active) == 0:
            return
        better = gained > value
        best, value = (
            torch.where(broadcast_rows(better, z), z, best),
            torch.where(better, gained, value),
        )
        if query:
            walk.accept(better)
        if keep is not None:
            best, value = best[keep], value[keep]
            walk.keep(keep)
