"""Sparse-RS: random search for the few pixels to change; asks for outputs only."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..component import require
from ..functional.geometry import locations
from ..threats.base import Threat
from . import random_search
from .base import ActiveSet, Execution, Search
from .random_search import Walk

FALLS = (0, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # in a plan of 10 000 queries
SHARES = (1, 2, 4, 5, 6, 8, 10, 12, 15, 20)  # alpha_init over alpha, before and after each of them


class SparseRS(Search):
    """M ← (M − A) ∪ B if the loss is higher: of the eps locations M that differ from x, a few A go
    back to x and as many new ones B take random corners of the box.

    |A| = max(⌊alpha·eps⌋, 1), alpha falls from alpha_init/2 to alpha_init/20. A location is a pixel
    with all its channels in images `(b, c, h, w)`, else one coordinate.

    Arguments:
        threat: an L0 ball.
        queries: points asked in each restart, the first one included; one more asks at x.
            Published: 10000.
        alpha_init: share of the locations that the first proposals exchange, twice over.
        plan: queries the schedule of alpha is laid over; None is `queries`.
        loss: what it climbs: `"margin"`, `"ce"` or `"dlr"`.
        restarts: independent searches; later ones see only the samples that still stand.
        targeted: y is the class to reach.
        precision, channels_last: how the model runs while searching.
        seed: of its own generator.

    Raises:
        ValueError: for a value outside what is said above.

    Source: Croce et al. 2022, alg. 1 and 2 (L0). Differs: exchanges are drawn a sample, not a
    batch; where every location may change, corners are drawn again.

    >>> from sparring.threats import L0
    >>> model = lambda x: torch.stack([x.sum(1), -x.sum(1)], 1)
    >>> SparseRS(L0(1), queries=50)(model, torch.tensor([[0.75, 0.5]]), torch.tensor([0]))
    tensor([[0.0000, 0.5000]])
    """

    paper = "croce2022sparse"
    norms = (0,)

    def __init__(
        self,
        threat: Threat,
        *,
        queries: int = 1000,
        alpha_init: float = 0.3,
        plan: int | None = None,
        loss: str = "margin",
        restarts: int = 1,
        targeted: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        self.threat = self.require_ball(threat)
        require(0 < alpha_init <= 1, "alpha_init", alpha_init, "in (0, 1]")
        self.queries, self.alpha_init, self.plan, self.loss = queries, alpha_init, plan, loss
        self.restarts, self.targeted = restarts, targeted
        random_search.limits(self)

    def share(self, query: int) -> float:
        """alpha at a query; the first proposal is query 1."""
        return (
            self.alpha_init
            / SHARES[sum(random_search.planned(self, query) > limit for limit in FALLS)]
        )

    def size(self, query: int) -> int:
        return max(int(self.share(query) * int(self.threat.eps or 0)), 1)

    def search(self, active: ActiveSet, turn: int) -> None:
        eps = int(self.threat.eps or 0)
        if eps == 0:
            return
        walk = _Sets(active.x, eps, self.threat, self.generator(active.x.device))
        random_search.climb(self, active, walk)


class _Sets(Walk):
    """Which locations differ, row by row: the first `k` entries of an order of all, `(a, n)`."""

    def __init__(self, x: Tensor, eps: int, threat: Threat, generator: torch.Generator) -> None:
        super().__init__(locations(x), generator)
        self.shape, self.ends = x.shape[1:], x.new_tensor([threat.low, threat.high])
        self.n = self.x.shape[2]
        self.k = min(eps, self.n)
        self.order = self.draw(self.n).argsort(1)
        self.swap = self.order[:, :0], self.order[:, :0]

    def some(self, n: int, m: int) -> Tensor:
        """m different numbers below n `(a, m)`."""
        if m == 1:
            return (self.draw(1) * n).long().clamp_max(n - 1)
        return self.draw(n).topk(m, dim=1).indices

    def first(self) -> Tensor:
        """k random locations at corners of the box."""
        chosen = self.order[:, : self.k]
        return self.put(self.x, chosen, self.corners(chosen))

    def propose(self, best: Tensor, size: float) -> Tensor:
        """`best` with so many locations exchanged, or painted anew where there is no other."""
        m = min(int(size), self.k)
        m = min(m, self.n - self.k) or m
        leave = self.some(self.k, m)
        come = self.k + self.some(self.n - self.k, m) if self.n > self.k else leave
        self.swap = leave, come
        gone, new = self.order.gather(1, leave), self.order.gather(1, come)
        z = locations(best)
        z = z.scatter(2, self.spread(gone), self.x.gather(2, self.spread(gone)))
        return self.put(z, new, self.corners(new))

    def accept(self, rows: Tensor) -> None:
        """Make the last exchange of these rows."""
        leave, come = self.swap
        gone, new = self.order.gather(1, leave), self.order.gather(1, come)
        rows = rows[:, None]
        order = self.order.scatter(1, leave, torch.where(rows, new, gone))
        self.order = order.scatter(1, come, torch.where(rows, gone, new))

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self.order = self.order[rows]

    def corners(self, chosen: Tensor) -> Tensor:
        """Random colours `(a, c, m)` of these locations, each channel at an end of the box."""
        up = self.draw(self.x.shape[1], chosen.shape[1]) < 0.5
        return self.ends[up.long()]

    def spread(self, chosen: Tensor) -> Tensor:
        """The locations `(a, m)` for every channel."""
        return chosen.unsqueeze(1).expand(-1, self.x.shape[1], -1)

    def put(self, z: Tensor, chosen: Tensor, colours: Tensor) -> Tensor:
        return z.scatter(2, self.spread(chosen), colours).reshape(-1, *self.shape)
