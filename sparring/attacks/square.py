"""Square attack: random search with windows that shrink; asks for outputs only."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..component import require
from ..functional.geometry import expand, norm
from ..threats.base import Threat
from . import random_search
from .base import ActiveSet, Execution, Search
from .random_search import Walk

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of p, in a plan of 10 000 queries
TILES = 5  # bumps along a side of the first L2 or L1 point


class Square(Search):
    """z ← the proposal, if its loss is higher; a proposal changes one random window of z.

    Linf: a window becomes x ± eps, one sign a channel; the search starts at vertical stripes of
    x ± eps. L2 and L1: the budget of two windows, and what is unused, moves into the first of them,
    in the shape of two opposite bumps added to what was there; the search starts at a tiling with
    bumps. Each sample has windows and signs of its own. Where x is no image `(b, c, h, w)`, a
    window is a block of consecutive coordinates.

    Arguments:
        threat: an Linf, L2 or L1 ball.
        queries: points asked in each restart, the first one included; one more asks at x.
        p_init: share of the image that the first windows cover; halved on the way.
        plan: queries the schedule of p is laid over; None is `queries`. AutoAttack asks 5000 of
            10000, and so never halves p for the eighth and ninth time.
        loss: what it climbs: `"ce"`, `"margin"` or `"dlr"`.
        restarts: independent searches; later ones see only the samples that still stand.
        targeted: y is the class to reach.
        precision, channels_last: how the model runs while searching.
        seed: of its own generator.

    Raises:
        ValueError: for a value outside what is said above.

    Source: Andriushchenko et al. 2020, alg. 1 to 3, and sec. 5 for the schedule. Differs: windows a
    sample, not a batch; they reach the last row and column; a window wider than the image fills it
    in that direction; L1 as L2, with norms in L1.

    >>> from sparring.threats import Linf
    >>> model = lambda x: torch.stack([x.sum(1), -x.sum(1)], 1)
    >>> Square(Linf(0.1), queries=50)(model, torch.full((1, 2), 0.5), torch.tensor([0]))
    tensor([[0.4000, 0.4000]])
    """

    paper = "andriushchenko2020square"

    def __init__(
        self,
        threat: Threat,
        *,
        queries: int = 5000,
        p_init: float = 0.8,
        plan: int | None = None,
        loss: str = "margin",
        restarts: int = 1,
        targeted: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        self.threat = self.require_ball(threat)
        require(0 < p_init <= 1, "p_init", p_init, "in (0, 1]")
        self.queries, self.p_init, self.plan, self.loss = queries, p_init, plan, loss
        self.restarts, self.targeted = restarts, targeted
        random_search.limits(self)

    def share(self, query: int) -> float:
        """p at a proposal, counted from 0: p_init, halved at 10, 50, 200, … of 10 000."""
        return self.p_init / 2 ** sum(
            random_search.planned(self, query) > limit for limit in HALVINGS
        )

    def size(self, query: int) -> float:
        return self.share(query - 1)

    def search(self, active: ActiveSet, turn: int) -> None:
        moves = _Signs if getattr(self.threat, "p", None) == torch.inf else _Bumps
        walk = moves(active.x, self.threat, self.generator(active.x.device))
        random_search.climb(self, active, walk)


def plane(x: Tensor) -> tuple[int, int, int]:
    """Channels, height and width of the image plane; of what is no image 1, 1 and all it has."""
    c, h, w = x.shape[1:] if x.ndim == 4 else (1, 1, x[0].numel())
    return c, h, w


def sides(share: float, h: int, w: int, *, least: int = 1) -> tuple[int, int]:
    """Height and width of a window of that share of a plane: a square if it fits.

    >>> sides(0.8, 28, 28), sides(0.25, 1, 40), sides(0.001, 28, 28)
    ((25, 25), (1, 10), (1, 1))
    """
    s = max(round((share * h * w) ** 0.5), least)
    if s > h:
        return h, min(max(round(share * w), least), w)
    if s > w:
        return min(max(round(share * h), least), h), w
    return s, s


def bump(h: int, w: int, p: float) -> Tensor:
    """A hill `(h, w)` of ‖·‖_p = 1: Σ_k 1/(k + 1)² over the rectangles around the centre that hold
    a place, k from its distance to the centre upwards.

    >>> bump(1, 3, 1)
    tensor([[0.1429, 0.7143, 0.1429]], dtype=torch.float64)
    """
    away = torch.maximum(
        (torch.arange(h) - h // 2).abs()[:, None], (torch.arange(w) - w // 2).abs()
    )
    rings = torch.arange(1, int(away.max()) + 2, dtype=torch.float64) ** -2
    hill = rings.flip(0).cumsum(0).flip(0)[away]
    return hill / torch.linalg.vector_norm(hill, ord=p)


def bumps(h: int, w: int, p: float) -> Tensor:
    """A hill beside a valley, one below the other and one beside the other: `(2, h, w)`, each of
    ‖·‖_p = 1."""

    def pair(a: int, b: int) -> Tensor:
        hills = [] if a < 2 else [bump(a // 2, b, p)]
        both = torch.cat([*hills, -bump(a - a // 2, b, p)])
        return both / torch.linalg.vector_norm(both, ord=p)

    return torch.stack([pair(h, w), pair(w, h).T])


def within(at: Tensor, length: int) -> Tensor:
    """Where a place, counted from a window's corner, lies in it."""
    return (at >= 0) & (at < length)


class _Windows(Walk):
    """A walk by windows of the image plane."""

    def __init__(self, x: Tensor, threat: Threat, generator: torch.Generator) -> None:
        self.c, self.h, self.w = plane(x)
        super().__init__(x.reshape(-1, self.c, self.h, self.w), generator)
        self.shape, self.threat = x.shape[1:], threat
        self.eps: float = threat.eps  # type: ignore[attr-defined]
        self.p: float = threat.p  # type: ignore[attr-defined]
        self.down = torch.arange(self.h, device=x.device)
        self.along = torch.arange(self.w, device=x.device)

    def window(self, u: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """A random window, its corner from `u (a, 2)`: where it is `(a, 1, h, w)`, and the place of
        each row `(a, h)` and column `(a, w)` counted from the corner."""
        top = (u[:, :1] * (self.h - height + 1)).long().clamp_max(self.h - height)
        left = (u[:, 1:2] * (self.w - width + 1)).long().clamp_max(self.w - width)
        rows, columns = self.down - top, self.along - left
        inside = within(rows, height)[:, None, :, None] & within(columns, width)[:, None, None]
        return inside, rows, columns


class _Signs(_Windows):
    """Linf: every coordinate stands at an end of what it may be."""

    def __init__(self, x: Tensor, threat: Threat, generator: torch.Generator) -> None:
        super().__init__(x, threat, generator)
        low, high = threat.low, threat.high
        self.least = (self.x - self.eps).clamp(low, high)
        self.most = (self.x + self.eps).clamp(low, high)

    def first(self) -> Tensor:
        stripe = round(self.w**0.5) if self.h == 1 else 1
        up = self.draw(self.c, 1, -(-self.w // stripe)) < 0.5
        up = up[..., self.along // stripe]
        return torch.where(up, self.most, self.least).reshape(-1, *self.shape)

    def propose(self, best: Tensor, size: float) -> Tensor:
        height, width = sides(size, self.h, self.w)
        u = self.draw(2 + self.c)
        inside, _, _ = self.window(u, height, width)
        up = (u[:, 2:] < 0.5)[:, :, None, None]
        ends = torch.where(up, self.most, self.least)
        return torch.where(inside, ends, best.view_as(ends)).reshape(-1, *self.shape)

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self.least, self.most = self.least[rows], self.most[rows]


class _Bumps(_Windows):
    """L2 and L1: the whole budget is spent, and moves about."""

    def __init__(self, x: Tensor, threat: Threat, generator: torch.Generator) -> None:
        super().__init__(x, threat, generator)
        self.known: dict[tuple[int, int], Tensor] = {}

    def first(self) -> Tensor:
        height, width = max(self.h // TILES, 1), max(self.w // TILES, 1)
        down, along = self.h // height, self.w // width
        u = self.draw(1 + self.c, down, along)
        flip, sign = (u[:, 0] < 0.5).long(), self._signs(u[:, 1:])
        rows = self.down - (self.h - down * height) // 2
        columns = self.along - (self.w - along * width) // 2
        inside = within(rows, down * height)[:, None] & within(columns, along * width)
        rows, columns = rows.clamp(0, down * height - 1), columns.clamp(0, along * width - 1)
        tile = rows[:, None] // height, columns // width
        place = rows[:, None] % height, columns % width
        hills = self._hills(height, width)
        delta = sign[:, :, *tile] * hills[flip[:, *tile], *place][:, None]
        return self._spend(delta * inside)

    def propose(self, best: Tensor, size: float) -> Tensor:
        height, width = sides(size, self.h, self.w, least=3)
        if height == width and width % 2 == 0 and width < min(self.h, self.w):
            height, width = height + 1, width + 1
        u, p, delta = self.draw(5 + self.c), self.p, best.view_as(self.x) - self.x
        gets, rows, columns = self.window(u[:, :2], height, width)
        gives, _, _ = self.window(u[:, 2:4], height, width)
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        hills = self._hills(height, width)
        flip = (u[:, 4] < 0.5).long()[:, None, None]
        form = hills[flip, rows[:, :, None], columns[:, None]][:, None]
        form = self._signs(u[:, 5:])[:, :, None, None] * form + self._unit(delta * gets)
        freed = self._size(delta * (gets | gives)) ** p
        spent = expand(norm(delta, p), delta) ** p
        unused = (self.eps**p - spent).clamp_min(0) / self.c
        form = self._unit(form * gets) * (unused + freed) ** (1 / p)
        return self._spend(torch.where(gets, form, delta * ~gives))

    def _hills(self, height: int, width: int) -> Tensor:
        """`bumps` of that size, made once."""
        if (height, width) not in self.known:
            self.known[height, width] = bumps(height, width, self.p).to(self.x)
        return self.known[height, width]

    def _signs(self, u: Tensor) -> Tensor:
        return (u < 0.5).to(self.x.dtype) * 2 - 1

    def _size(self, delta: Tensor) -> Tensor:
        """‖δ‖_p of each channel `(a, c, 1, 1)`."""
        return torch.linalg.vector_norm(delta, ord=self.p, dim=(2, 3), keepdim=True)

    def _unit(self, delta: Tensor) -> Tensor:
        """δ/‖δ‖_p of each channel, 0 where it is 0."""
        size = self._size(delta)
        return delta / torch.where(size > 0, size, 1.0)

    def _spend(self, delta: Tensor) -> Tensor:
        """x + δ with ‖δ‖_p = eps, clipped to the box."""
        size = norm(delta, self.p)
        scale = self.eps / torch.where(size > 0, size, 1.0)
        point = (self.x + delta * expand(scale, delta)).clamp(self.threat.low, self.threat.high)
        return point.reshape(-1, *self.shape)
