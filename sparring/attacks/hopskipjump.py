"""HopSkipJump: a walk along the decision boundary that sees labels only."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor

from ..batch import Model
from ..component import require
from ..functional.geometry import broadcast_rows, expand, norm, unit
from ..introspect import freeze
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search, check_inputs

HALVINGS = 15  # of a jump, at most
BLENDS = 10  # halvings of the first point's way to x
FINEST = 1e-3  # the search to the boundary is at least as fine as this part of the distance


def between(x: Tensor, z: Tensor, part: Tensor, p: float) -> Tensor:
    """The point on z's way to x: x + part·(z − x), in Linf z clipped to part·‖z − x‖_∞ around x."""
    if p == 2:
        return x + expand(part, x) * (z - x)
    radius = expand(part * norm(z - x, p), x)
    return torch.minimum(torch.maximum(z, x - radius), x + radius)


class HopSkipJump(Search):
    """Walks along the boundary towards x; asks only which class the model says.

    A start: uniform noise that the model gets wrong. Then in turn: bisect towards x to the
    boundary; estimate its normal, v = unit(Σ_i (φ_i − mean φ)·u_i), φ = ±1 wrong or right at z +
    δu_i; jump along v by ‖z − x‖/√t, halved until the model is wrong. In Linf v is a sign. As an
    attack it ends, a sample, at the first boundary point within eps; `distances` ignores eps.

    Arguments:
        threat: an Linf or L2 ball.
        queries: points asked for a sample, at most. Published: 1000 to 25 000.
        samples: B₀ directions in the first iteration, then B₀·√t. Published: 100.
        tries: of uniform noise for a start; a sample without one is given up. Published: 10 000.
        chunk: points the model is asked about at once, at least one a sample.
        precision, channels_last: how the model runs while searching.
        seed: of its own generator.

    Source: Chen et al. 2020, alg. 2. Differs: the boundary is searched to a part θ = min(d^(−3/2),
    0.001) of the distance (Linf: d^(−2)), also where d is small.

    >>> from sparring.threats import L2
    >>> model = lambda x: torch.stack([x.sum(1), 1.2 - x.sum(1)], 1).argmax(1)
    >>> labels = lambda x: torch.eye(2)[model(x)]
    >>> _, far = HopSkipJump(L2(0.1)).distances(labels, torch.full((1, 2), 0.4), torch.tensor([0]))
    >>> far.round(decimals=2)
    tensor([0.1400])
    """

    paper = "chen2020hopskipjump"
    norms = (math.inf, 2)

    def __init__(
        self,
        threat: Threat,
        *,
        queries: int = 5000,
        samples: int = 100,
        tries: int = 100,
        chunk: int = 4096,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        self.threat = self.require_ball(threat)
        require(queries >= 1, "queries", queries, "an integer ≥ 1")
        require(samples >= 1, "samples", samples, "an integer ≥ 1")
        require(tries >= 1, "tries", tries, "an integer ≥ 1")
        require(chunk >= 1, "chunk", chunk, "an integer ≥ 1")
        self.queries, self.samples, self.tries, self.chunk = queries, samples, tries, chunk

    @property
    def p(self) -> float:
        """The norm of its ball."""
        return self.threat.p  # type: ignore[attr-defined]

    def search(self, active: ActiveSet, turn: int) -> None:
        eps: float = self.threat.eps  # type: ignore[attr-defined]
        if eps > 0:
            on = torch.ones(len(active), dtype=torch.bool, device=active.x.device)
            self._walk(active, on, eps)

    def distances(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The closest adversarial points found and their distances `(b,)`, inf (and x) where none
        is.

        eps is ignored, and the model runs in its own precision; a sample that is wrong at x has
        distance 0.
        """
        check_inputs(x, y, self.threat)
        if len(x) == 0:
            return x.clone(), x.new_zeros(0)
        with freeze.frozen(model, self.mode):
            active = ActiveSet(model, x, y)
            wrong = active.is_adversarial(active.logits_float32(x), y)
            point, far = self._walk(active, ~wrong, None)
        return point, torch.where(wrong, 0.0, far)

    def _walk(self, active: ActiveSet, on: Tensor, eps: float | None) -> tuple[Tensor, Tensor]:
        """All iterations for the rows `on (a,)`: the closest points and how far they are; with eps,
        a row leaves once it is broken inside."""
        d = max(math.prod(active.x.shape[1:]), 1)
        fine = min(d**-1.5 if self.p == 2 else d**-2.0, FINEST)
        halvings = math.ceil(math.log2(1 / fine))
        z, on, spent = self._begin(active, on)
        point, best = active.x, active.x.new_full((len(on),), math.inf)
        t = 0
        while on.any() and spent + halvings <= self.queries:
            t, spent = t + 1, spent + halvings
            z = self._bisect(active, z, on, halvings, self.p)
            far = norm(z - active.x, self.p)
            closer = on & (far < best)
            point = torch.where(broadcast_rows(closer, z), z, point)
            best = torch.where(closer, far, best)
            keep = None if eps is None else tell(active, z, on & (far <= eps))
            if keep is not None:
                z, on, far, point, best = z[keep], on[keep], far[keep], point[keep], best[keep]
            left = self.queries - spent - halvings - HALVINGS
            asks = min(int(self.samples * math.sqrt(t)), left)
            if asks < 1 or not on.any():
                break
            reach = fine * far * (math.sqrt(d) if self.p == 2 else d)
            if t == 1:
                reach = torch.full_like(far, 0.1 * (self.threat.high - self.threat.low))
            v = self._normal(active, z, reach, on, asks)
            z = self._jump(active, z, v, far / math.sqrt(t), on)
            spent += asks + HALVINGS
        return point, best

    def _ask(self, active: ActiveSet, z: Tensor, on: Tensor) -> Tensor:
        """Where the model is wrong at z `(a, *d)`, asked for the rows `on` only."""
        wrong = torch.zeros_like(on)
        if on.any():
            wrong[on] = active.is_adversarial(active.logits_no_grad(z[on]), active.y[on])
        return wrong

    def _begin(self, active: ActiveSet, on: Tensor) -> tuple[Tensor, Tensor, int]:
        """Adversarial points far from x, the rows that have one, and what was asked for a row."""
        x, low, high = active.x, self.threat.low, self.threat.high
        z, wants, spent = x, on, 0
        while spent < min(self.tries, self.queries) and wants.any():
            noise = torch.empty_like(x).uniform_(generator=self.generator(x.device))
            noise = low + (high - low) * noise
            hit = self._ask(active, noise, wants)
            z, wants, spent = torch.where(broadcast_rows(hit, z), noise, z), wants & ~hit, spent + 1
        on = on & ~wants
        if spent + BLENDS <= self.queries:
            z, spent = self._bisect(active, z, on, BLENDS, 2), spent + BLENDS
        return z, on, spent

    def _bisect(self, active: ActiveSet, z: Tensor, on: Tensor, halvings: int, p: float) -> Tensor:
        """The wrong point nearest to x on z's way to x, by that many halvings."""
        x, near = active.x, z
        low, high = torch.zeros_like(on, dtype=x.dtype), torch.ones_like(on, dtype=x.dtype)
        for _ in range(halvings):
            half = (low + high) / 2
            middle = between(x, z, half, p).clamp(self.threat.low, self.threat.high)
            wrong = self._ask(active, middle, on)
            near = torch.where(broadcast_rows(wrong, near), middle, near)
            low, high = torch.where(wrong, low, half), torch.where(wrong, half, high)
        return near

    def _normal(self, active: ActiveSet, z: Tensor, reach: Tensor, on: Tensor, asks: int) -> Tensor:
        """The boundary's direction at z `(a, *d)`, from that many signs at `reach (a,)`; 0 where
        not `on`."""
        x, y, r = z[on], active.y[on], reach[on].clamp_min(torch.finfo(z.dtype).tiny)
        b, left = len(x), asks
        total, turned, signs = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(r)
        wide = broadcast_rows(r, x)
        while left:
            n = min(left, max(self.chunk // b, 1))
            u = self._directions((n, *x.shape), x)
            asked = (x + wide * u).clamp(self.threat.low, self.threat.high)
            u = (asked - x) / wide
            wrong = active.is_adversarial(
                active.logits_no_grad(asked.flatten(0, 1)), y.repeat(n)
            ).reshape(n, b)
            sign = 2 * wrong.to(x.dtype) - 1
            total, signs = total + u.sum(0), signs + sign.sum(0)
            turned = turned + (sign.reshape(n, b, *[1] * (x.ndim - 1)) * u).sum(0)
            left -= n
        mean = signs / asks
        mixed = turned - expand(mean, x) * total
        v = torch.where(broadcast_rows(mean.abs() < 1, x), mixed, turned)
        out = torch.zeros_like(z)
        out[on] = unit(v, 2) if self.p == 2 else v.sign()
        return out

    def _directions(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Random unit vectors `(n, b, *d)`: Gaussian in L2, from a cube in Linf."""
        u, draw = (
            torch.empty(shape, dtype=like.dtype, device=like.device),
            self.generator(like.device),
        )
        u = u.normal_(generator=draw) if self.p == 2 else u.uniform_(-1, 1, generator=draw)
        return unit(u.flatten(0, 1), 2).reshape(shape)

    def _jump(self, active: ActiveSet, z: Tensor, v: Tensor, length: Tensor, on: Tensor) -> Tensor:
        """z + length·v, the length halved until the model is wrong there; else z."""
        waits = on
        for _ in range(HALVINGS):
            if not waits.any():
                break
            moved = (z + expand(length, z) * v).clamp(self.threat.low, self.threat.high)
            wrong = self._ask(active, moved, waits)
            z, waits, length = (
                torch.where(broadcast_rows(wrong, z), moved, z),
                waits & ~wrong,
                length / 2,
            )
        return z


def tell(active: ActiveSet, z: Tensor, broken: Tensor) -> Tensor | None:
    """Note the rows `broken (a,)` at z, known from their labels; returns as `ActiveSet.tell`."""
    y, k = active.y, int(active.y.max()) + 2
    said = torch.nn.functional.one_hot(torch.where(broken, (y + 1) % k, y), k).to(z.dtype)
    return active.record(z, said, torch.full_like(said[:, 0], -math.inf))
