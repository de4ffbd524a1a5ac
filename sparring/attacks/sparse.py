"""Sparse-RS: random search for the few pixels to change, from the model's outputs alone."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..component import require
from ..functional.geometry import flatten_pixels
from ..threats.base import Threat
from . import random_search
from .base import ActiveSet, Execution, Search
from .random_search import Proposer

ALPHA_FALLS_AFTER = (0, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10 000 queries
ALPHA_DIVISORS = (1, 2, 4, 5, 6, 8, 10, 12, 15, 20)  # of alpha_init, before and after each fall


class SparseRS(Search):
    """Search at random for eps locations to change; keep a proposal that raises the loss.
    M ← (M − A) ∪ B if the loss is higher: of the locations M that differ from x, a few A return to
    x, and |A| new ones B take random corners of the box. |A| = max(⌊alpha·eps⌋, 1), alpha falls
    from alpha_init/2 to alpha_init/20. A location is a pixel with all its channels in images
    `(b, c, h, w)`, else one coordinate.

    Arguments:
        queries: points per restart, the first one included; the clean x costs one more.
            Published: 10000.
        alpha_init: twice the share of the locations that the first proposals exchange.
        plan: queries that the schedule of alpha is laid over; default: `queries`.
        loss: climbed: `"margin"`, `"ce"` or `"dlr"`.
        restarts: independent searches; later ones get only samples not yet broken.
        targeted: y is the class to reach.

    Raises:
        ValueError: for a value that its entry above does not allow.

    Source: Croce et al. 2022, alg. 1 and 2 (L0). Differs: exchanges are drawn per sample, not per
    batch; if every location may change, a proposal draws new corners.

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
        random_search.check_arguments(self)

    def share(self, query: int) -> float:
        """Return alpha at a query; the first proposal is query 1."""
        falls = random_search.count_passed(self, query, ALPHA_FALLS_AFTER)
        return self.alpha_init / ALPHA_DIVISORS[falls]

    def size(self, query: int) -> int:
        """Return the number of locations |A| that the proposal of a query exchanges."""
        return max(int(self.share(query) * int(self.threat.eps or 0)), 1)

    def search(self, active: ActiveSet, round_index: int) -> None:
        eps = int(self.threat.eps or 0)
        if eps == 0:
            return
        proposer = _LocationProposer(active.x, eps, self.threat, self.generator(active.x.device))
        random_search.keep_better(self, active, proposer)


class _LocationProposer(Proposer):
    """Propose points by exchanging locations.

    Attributes:
        order: all locations of each row `(a, n)`; its first k entries are those that differ.
    """

    def __init__(self, x: Tensor, eps: int, threat: Threat, generator: torch.Generator) -> None:
        super().__init__(flatten_pixels(x), generator)
        self.shape, self.ends = x.shape[1:], x.new_tensor([threat.low, threat.high])
        self.n = self.x.shape[2]
        self.k = min(eps, self.n)
        self.order = self.draw(self.n).argsort(1)
        self.exchange = self.order[:, :0], self.order[:, :0]  # positions in `order`

    def draw_distinct(self, n: int, m: int) -> Tensor:
        """Draw m different numbers below n `(a, m)`."""
        if m == 1:  # the usual case late in a search, without sorting
            return (self.draw(1) * n).long().clamp_max(n - 1)
        return self.draw(n).topk(m, dim=1).indices

    def first(self) -> Tensor:
        """Return x with k random locations at corners of the box."""
        chosen = self.order[:, : self.k]
        return self.paint(self.x, chosen, self.draw_corners(chosen))

    def propose(self, best: Tensor, size: float) -> Tensor:
        """Return `best` with `size` locations exchanged, or given new corners if none is left to
        exchange them for."""
        m = min(int(size), self.k)
        m = min(m, self.n - self.k) or m
        leave = self.draw_distinct(self.k, m)
        enter = self.k + self.draw_distinct(self.n - self.k, m) if self.n > self.k else leave
        self.exchange = leave, enter
        old, new = self.order.gather(1, leave), self.order.gather(1, enter)
        z = flatten_pixels(best)
        z = z.scatter(2, self.all_channels(old), self.x.gather(2, self.all_channels(old)))
        return self.paint(z, new, self.draw_corners(new))

    def accept(self, rows: Tensor) -> None:
        """Apply the last exchange to the order of these rows."""
        leave, enter = self.exchange
        old, new = self.order.gather(1, leave), self.order.gather(1, enter)
        rows = rows[:, None]
        order = self.order.scatter(1, leave, torch.where(rows, new, old))
        self.order = order.scatter(1, enter, torch.where(rows, old, new))

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self.order = self.order[rows]

    def draw_corners(self, chosen: Tensor) -> Tensor:
        """Draw colours `(a, c, m)` for these locations, each channel at an end of the box."""
        up = self.draw(self.x.shape[1], chosen.shape[1]) < 0.5
        return self.ends[up.long()]

    def all_channels(self, chosen: Tensor) -> Tensor:
        """Return the locations `(a, m)` repeated for every channel `(a, c, m)`."""
        return chosen.unsqueeze(1).expand(-1, self.x.shape[1], -1)

    def paint(self, z: Tensor, chosen: Tensor, colours: Tensor) -> Tensor:
        """Return z with these locations set to colours `(a, c, m)`, in the shape of x."""
        return z.scatter(2, self.all_channels(chosen), colours).reshape(-1, *self.shape)
