"""Square attack: random search with windows that shrink, from the model's outputs alone."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..component import require
from ..functional.geometry import broadcast_scale, norm
from ..introspect.local import LocalQueries, local_forward
from ..threats.base import Threat
from . import random_search
from .base import ActiveSet, Execution, Search
from .random_search import Proposer

P_HALVES_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10 000 queries
NUM_TILES = 5  # bumps along a side of the first L2 or L1 point


class Square(Search):
    """Search at random: change one random window of z, and keep a proposal that raises the loss.

    Linf: a window becomes x ± eps, with one sign per channel. The search starts at vertical stripes
    of x ± eps.

    L2 and L1: the budget of two windows, and the unused budget, move into the first window. There
    two opposite bumps are added to the perturbation. The search starts at a tiling with bumps.

    On a CPU, in Linf, only what sees a small window is computed: see `introspect.local`. Float32
    passes of the model itself confirm what such a search finds.

    Each sample draws its windows and signs. If x is not an image `(b, c, h, w)`, a window is a
    block of consecutive coordinates.

    Arguments:
        queries: points per restart, the first one included; the clean x costs one more.
        p_init: share of the image that the first windows cover; halved on the way.
        plan: queries that the schedule of p is laid over; default: `queries`. AutoAttack takes 5000
            of 10000 queries, and so leaves out the last two halvings.
        loss: climbed: `"ce"`, `"margin"` or `"dlr"`.
        restarts: independent searches; later ones get only samples not yet broken.
        targeted: y is the class to reach.

    Raises:
        ValueError: for a value that its entry above does not allow.

    Source: Andriushchenko et al. 2020, alg. 1 to 3, and sec. 5 for the schedule. Differs: windows
    per sample, not per batch; they reach the last row and column; a window wider than the image
    fills it in that direction; L1 as L2, with norms in L1.

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
        random_search.check_arguments(self)

    def share(self, query: int) -> float:
        """Return p, a share of pixels: p_init, halved after query 10, 50, 200, … of 10 000."""
        return self.p_init / 2 ** random_search.count_passed(self, query, P_HALVES_AFTER)

    def size(self, query: int) -> float:
        """Return the share of the image that the window of a query covers."""
        return self.share(query - 1)

    def search(self, active: ActiveSet, round_index: int) -> None:
        linf = getattr(self.threat, "p", None) == torch.inf
        kind = _SignProposer if linf else _BumpProposer
        proposer = kind(active.x, self.threat, self.generator(active.x.device))
        if isinstance(proposer, _SignProposer):
            model, dtype = active.view.model, active.view.dtype or torch.float32
            proposer.local = local_forward(model, active.x, dtype)
            active.lower_precision |= proposer.local is not None  # equal up to rounding
        random_search.keep_better(self, active, proposer)


def window_sides(share: float, h: int, w: int, *, least: int = 1) -> tuple[int, int]:
    """Return height and width of a window that covers a share of the image: a square if it fits.

    >>> window_sides(0.8, 28, 28), window_sides(0.25, 1, 40), window_sides(0.001, 28, 28)
    ((25, 25), (1, 10), (1, 1))
    """
    s = max(round((share * h * w) ** 0.5), least)
    if s > h:
        return h, min(max(round(share * w), least), w)
    if s > w:
        return min(max(round(share * h), least), h), w
    return s, s


def bump(h: int, w: int, p: float, device: torch.device | None = None) -> Tensor:
    """Return a hill `(h, w)` of ‖·‖_p = 1: at distance r from the centre, Σ_{k ≥ r} 1/(k + 1)².

    The distance counts rectangles around the centre; the sum ends at the outermost.

    >>> bump(1, 3, 1)
    tensor([[0.1429, 0.7143, 0.1429]], dtype=torch.float64)
    """
    rows, columns = ((torch.arange(n, device=device) - n // 2).abs() for n in (h, w))
    distance = torch.maximum(rows[:, None], columns)
    outermost = max(h // 2, w // 2)
    rings = torch.arange(1, outermost + 2, dtype=torch.float64, device=device) ** -2
    hill = rings.flip(0).cumsum(0).flip(0)[distance]
    return hill / torch.linalg.vector_norm(hill, ord=p)


def bump_pairs(h: int, w: int, p: float, device: torch.device | None = None) -> Tensor:
    """Return a hill above a valley, and a hill left of a valley: `(2, h, w)`, each of ‖·‖_p = 1."""

    def pair(a: int, b: int) -> Tensor:
        hills = [] if a < 2 else [bump(a // 2, b, p, device)]
        both = torch.cat([*hills, -bump(a - a // 2, b, p, device)])
        return both / torch.linalg.vector_norm(both, ord=p)

    return torch.stack([pair(h, w), pair(w, h).T])


def within(offset: Tensor, length: int) -> Tensor:
    """Return where an offset from a window's corner lies in the window."""
    return (offset >= 0) & (offset < length)


class _WindowProposer(Proposer):
    """Propose points that differ from the best in windows of the image."""

    def __init__(self, x: Tensor, threat: Threat, generator: torch.Generator) -> None:
        # a vector of n numbers is an image of 1 by 1 by n
        self.c, self.h, self.w = x.shape[1:] if x.ndim == 4 else (1, 1, x[0].numel())
        super().__init__(x.reshape(-1, self.c, self.h, self.w), generator)
        self.shape, self.threat = x.shape[1:], threat
        self.eps: float = threat.eps  # type: ignore[attr-defined]
        self.p: float = threat.p  # type: ignore[attr-defined]
        self.rows = torch.arange(self.h, device=x.device)
        self.columns = torch.arange(self.w, device=x.device)

    def corner(self, u: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return the corner of a window from `u (a, 2)`: its top row and left column `(a, 1)`."""
        top = (u[:, :1] * (self.h - height + 1)).long().clamp_max(self.h - height)
        left = (u[:, 1:2] * (self.w - width + 1)).long().clamp_max(self.w - width)
        return top, left

    def window(self, u: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return a window with its corner from `u (a, 2)`: its mask `(a, 1, h, w)`, and the offsets
        of all rows `(a, h)` and columns `(a, w)` from the corner."""
        top, left = self.corner(u, height, width)
        rows, columns = self.rows - top, self.columns - left
        inside = within(rows, height)[:, None, :, None] & within(columns, width)[:, None, None]
        return inside, rows, columns


class _SignProposer(_WindowProposer):
    """Propose points of an Linf ball: every coordinate is at an end of its range.

    Attributes:
        local: answers queries in small windows, where the model has such a form.
    """

    local: LocalQueries | None = None

    def __init__(self, x: Tensor, threat: Threat, generator: torch.Generator) -> None:
        super().__init__(x, threat, generator)
        self.changed: tuple[Tensor, tuple[int, int], tuple[Tensor, Tensor]] | None = None
        self.lower = (self.x - self.eps).clamp(threat.low, threat.high)
        self.upper = (self.x + self.eps).clamp(threat.low, threat.high)

    def first(self) -> Tensor:
        """Return vertical stripes, one column wide; for a vector, blocks of √w coordinates."""
        stripe = round(self.w**0.5) if self.h == 1 else 1
        up = self.draw(self.c, 1, -(-self.w // stripe))[..., self.columns // stripe] < 0.5
        return torch.where(up, self.upper, self.lower).reshape(-1, *self.shape)

    def propose(self, best: Tensor, size: float) -> Tensor:
        """Return `best` with one window at x ± eps, one sign per channel."""
        height, width = window_sides(size, self.h, self.w)
        u = self.draw(2 + self.c)
        inside, _, _ = self.window(u, height, width)
        self.changed = best, (height, width), self.corner(u, height, width)
        ends = torch.where(u[:, 2:, None, None] < 0.5, self.upper, self.lower)
        return torch.where(inside, ends, best.view_as(ends)).reshape(-1, *self.shape)

    def logits(self, active: ActiveSet, z: Tensor) -> Tensor:
        """Return the logits `(a, k)` of the last proposal, by its window alone if that pays."""
        if self.local is None or self.changed is None:
            return super().logits(active, z)
        best, sides, (top, left) = self.changed
        if self.local.prepare(best, sides):
            return self.local(z, top[:, 0], left[:, 0])
        return self.local.whole(z)

    def accept(self, rows: Tensor) -> None:
        if self.local is not None:
            self.local.accept(rows)

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        if self.local is not None:
            self.local.keep(rows)
        self.lower, self.upper = self.lower[rows], self.upper[rows]


class _BumpProposer(_WindowProposer):
    """Propose points of an L2 or L1 ball: they spend the whole budget, and move it around."""

    def __init__(self, x: Tensor, threat: Threat, generator: torch.Generator) -> None:
        super().__init__(x, threat, generator)
        self.cached_bumps: dict[tuple[int, int], Tensor] = {}

    def first(self) -> Tensor:
        """Return a tiling with bumps in the middle of the image."""
        height, width = max(self.h // NUM_TILES, 1), max(self.w // NUM_TILES, 1)
        num_down, num_along = self.h // height, self.w // width
        u = self.draw(1 + self.c, num_down, num_along)
        flip, sign = (u[:, 0] < 0.5).long(), self._signs(u[:, 1:])
        rows = self.rows - (self.h - num_down * height) // 2
        columns = self.columns - (self.w - num_along * width) // 2
        inside = within(rows, num_down * height)[:, None] & within(columns, num_along * width)
        rows = rows.clamp(0, num_down * height - 1)
        columns = columns.clamp(0, num_along * width - 1)
        tile = rows[:, None] // height, columns // width
        offset = rows[:, None] % height, columns % width
        pairs = self._bump_pairs(height, width)
        delta = sign[:, :, *tile] * pairs[flip[:, *tile], *offset][:, None]
        return self._spend_budget(delta * inside)

    def propose(self, best: Tensor, size: float) -> Tensor:
        """Return `best` with the budget of two windows moved into the first."""
        height, width = window_sides(size, self.h, self.w, least=3)
        # an odd side has a centre, as published; at the full width of the image there is no room
        if height == width and width % 2 == 0 and width < min(self.h, self.w):
            height, width = height + 1, width + 1
        u, p, delta = self.draw(5 + self.c), self.p, best.view_as(self.x) - self.x
        first, rows, columns = self.window(u[:, :2], height, width)
        second, _, _ = self.window(u[:, 2:4], height, width)
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        flip = (u[:, 4] < 0.5).long()[:, None, None]
        form = self._bump_pairs(height, width)[flip, rows[:, :, None], columns[:, None]][:, None]
        form = self._signs(u[:, 5:])[:, :, None, None] * form + self._unit(delta * first)
        freed = self._channel_norm(delta * (first | second)) ** p
        spent = broadcast_scale(norm(delta, p), delta) ** p
        unused = (self.eps**p - spent).clamp_min(0) / self.c
        form = self._unit(form * first) * (unused + freed) ** (1 / p)
        return self._spend_budget(torch.where(first, form, delta * ~second))

    def _bump_pairs(self, height: int, width: int) -> Tensor:
        if (height, width) not in self.cached_bumps:
            pairs = bump_pairs(height, width, self.p, self.x.device)
            self.cached_bumps[height, width] = pairs.to(self.x.dtype)
        return self.cached_bumps[height, width]

    def _signs(self, u: Tensor) -> Tensor:
        return (u < 0.5).to(self.x.dtype) * 2 - 1

    def _channel_norm(self, delta: Tensor) -> Tensor:
        """Return ‖δ‖_p of each channel `(a, c, 1, 1)`."""
        return torch.linalg.vector_norm(delta, ord=self.p, dim=(2, 3), keepdim=True)

    def _unit(self, delta: Tensor) -> Tensor:
        """Return δ/‖δ‖_p of each channel, 0 where δ is 0."""
        size = self._channel_norm(delta)
        return delta / torch.where(size > 0, size, 1.0)

    def _spend_budget(self, delta: Tensor) -> Tensor:
        """Return x + δ with δ scaled to ‖δ‖_p = eps, clipped to the box."""
        size = norm(delta, self.p)
        scale = self.eps / torch.where(size > 0, size, 1.0)
        point = self.x + delta * broadcast_scale(scale, delta)
        return point.clamp(self.threat.low, self.threat.high).reshape(-1, *self.shape)
