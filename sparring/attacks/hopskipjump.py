"""HopSkipJump: an attack along the decision boundary that sees only predicted classes."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor

from ..batch import Model
from ..component import require_at_least
from ..functional.geometry import broadcast_rows, broadcast_scale, norm, normalize
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search, begin_call

MAX_JUMP_HALVINGS = 15  # of the length of a jump
START_HALVINGS = 10  # of the path from the first point to x
MAX_TOLERANCE = 1e-3  # of the search for the boundary, as a share of the distance to x


def interpolate(x: Tensor, z: Tensor, share: Tensor, p: float) -> Tensor:
    """Return the point a share `(b,)` of the path from x to z.

    L2: x + share·(z − x). Linf: z clipped to share·‖z − x‖_∞ around x.
    """
    if p == 2:
        return x + broadcast_scale(share, x) * (z - x)
    radius = broadcast_scale(share * norm(z - x, p), x)
    return torch.minimum(torch.maximum(z, x - radius), x + radius)


class HopSkipJump(Search):
    """Follow the boundary towards x, from predicted classes alone.

    It starts at uniform noise that the model gets wrong. Iteration t has three steps. Bisect
    towards x to the boundary. Estimate its normal, v = unit(Σ_i (φ_i − mean φ)·u_i), with φ_i
    = 1 if the model is wrong at z + δu_i, else −1; in Linf v is the sign. Jump along v by ‖z −
    x‖/√t, halved until the model is wrong. A call ends a sample at its first boundary point within
    eps; `distances` ignores eps.

    Arguments:
        queries: points per sample, at most. Published: 1000 to 25 000.
        samples: B₀ directions in the first iteration, then B₀·√t. Published: 100.
        tries: draws of uniform noise for a start; without one a sample is given up. Published:
            10 000.
        chunk: points per call of the model, at least one per sample.

    Source: Chen et al. 2020, alg. 2. Differs: the bisection ends at a share θ = min(d^(−3/2),
    0.001) of the distance (Linf: d^(−2)), also if d is small.

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
        require_at_least(1, queries=queries, samples=samples, tries=tries, chunk=chunk)
        self.queries, self.samples, self.tries, self.chunk = queries, samples, tries, chunk

    @property
    def p(self) -> float:
        """Return the norm of the ball."""
        return self.threat.p  # type: ignore[attr-defined]

    def search(self, active: ActiveSet, round_index: int) -> None:
        eps: float = self.threat.eps  # type: ignore[attr-defined]
        if eps > 0:
            rows = torch.ones(len(active), dtype=torch.bool, device=active.x.device)
            self._follow_boundary(active, rows, eps)

    def distances(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the closest adversarial points and their distances `(b,)`; x and inf for a sample
        without one.

        eps is ignored, and the model runs in its own precision. A sample that is wrong at x has
        distance 0.
        """
        with begin_call(model, x, y, threat=self.threat, mode=self.mode) as (x, y):
            if len(x) == 0:
                return x.clone(), x.new_zeros(0)
            active = ActiveSet(model, x, y)
            wrong = active.is_adversarial(active.logits_float32(x), y)
            point, distance = self._follow_boundary(active, ~wrong, None)
        return point, torch.where(wrong, 0.0, distance)

    def _follow_boundary(
        self, active: ActiveSet, rows: Tensor, eps: float | None
    ) -> tuple[Tensor, Tensor]:
        """Run all iterations for a mask of rows `(a,)`; return the closest points and distances.

        With eps, a row leaves at its first boundary point within eps.
        """
        d = max(math.prod(active.x.shape[1:]), 1)
        tolerance = min(d**-1.5 if self.p == 2 else d**-2.0, MAX_TOLERANCE)
        halvings = math.ceil(math.log2(1 / tolerance))
        z, rows, queries_used = self._find_start(active, rows)
        point, closest = active.x, active.x.new_full((len(rows),), math.inf)
        t = 0
        while rows.any() and queries_used + halvings <= self.queries:
            t, queries_used = t + 1, queries_used + halvings
            z = self._bisect(active, z, rows, halvings, self.p)
            distance = norm(z - active.x, self.p)
            closer = rows & (distance < closest)
            point = torch.where(broadcast_rows(closer, z), z, point)
            closest = torch.where(closer, distance, closest)
            keep = None if eps is None else record_decisions(active, z, rows & (distance <= eps))
            if keep is not None:
                z, rows, distance = z[keep], rows[keep], distance[keep]
                point, closest = point[keep], closest[keep]
            # the next jump and bisection are paid first: a normal alone would be wasted
            queries_left = self.queries - queries_used - halvings - MAX_JUMP_HALVINGS
            directions = min(int(self.samples * math.sqrt(t)), queries_left)
            if directions < 1 or not rows.any():
                break
            delta = tolerance * distance * (math.sqrt(d) if self.p == 2 else d)
            if t == 1:  # as published: a share of the box, not of the distance
                delta = torch.full_like(distance, 0.1 * (self.threat.high - self.threat.low))
            v = self._estimate_normal(active, z, delta, rows, directions)
            z = self._jump(active, z, v, distance / math.sqrt(t), rows)
            queries_used += directions + MAX_JUMP_HALVINGS
        return point, closest

    def _is_adversarial(self, active: ActiveSet, z: Tensor, rows: Tensor) -> Tensor:
        """Return where the model is wrong at z `(a, *d)`; it runs on a mask of rows only."""
        wrong = torch.zeros_like(rows)
        numbers = rows.nonzero()[:, 0]  # one wait for the device, where each mask is another
        if len(numbers):
            logits = active.logits_no_grad(z[numbers])
            wrong[numbers] = active.is_adversarial(logits, active.y[numbers])
        return wrong

    def _find_start(self, active: ActiveSet, rows: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return adversarial points far from x, the rows that have one, and the queries per row."""
        x, low, high = active.x, self.threat.low, self.threat.high
        z, waiting, queries_used = x, rows, 0
        while queries_used < min(self.tries, self.queries) and waiting.any():
            noise = torch.empty_like(x).uniform_(generator=self.generator(x.device))
            noise = low + (high - low) * noise
            wrong = self._is_adversarial(active, noise, waiting)
            z, waiting = torch.where(broadcast_rows(wrong, z), noise, z), waiting & ~wrong
            queries_used += 1
        rows = rows & ~waiting
        if queries_used + START_HALVINGS <= self.queries:
            # along a line in Linf too, as published
            z = self._bisect(active, z, rows, START_HALVINGS, 2)
            queries_used += START_HALVINGS
        return z, rows, queries_used

    def _bisect(self, active: ActiveSet, z: Tensor, rows: Tensor, times: int, p: float) -> Tensor:
        """Return the adversarial point nearest to x on the path from z to x, by bisection."""
        x, nearest = active.x, z
        low, high = torch.zeros_like(rows, dtype=x.dtype), torch.ones_like(rows, dtype=x.dtype)
        for _ in range(times):
            half = (low + high) / 2
            middle = interpolate(x, z, half, p).clamp(self.threat.low, self.threat.high)
            wrong = self._is_adversarial(active, middle, rows)
            nearest = torch.where(broadcast_rows(wrong, nearest), middle, nearest)
            low, high = torch.where(wrong, low, half), torch.where(wrong, half, high)
        return nearest

    def _estimate_normal(
        self, active: ActiveSet, z: Tensor, delta: Tensor, rows: Tensor, directions: int
    ) -> Tensor:
        """Return the boundary's normal at z `(a, *d)`, 0 outside a mask of rows.

        It samples this number of directions per row, at a distance delta `(a,)` from z.
        """
        x, y, r = z[rows], active.y[rows], delta[rows].clamp_min(torch.finfo(z.dtype).tiny)
        b, left = len(x), directions
        sum_u, delta_column = torch.zeros_like(x), broadcast_rows(r, x)
        sum_signed_u, sum_sign = sum_u, torch.zeros_like(r)
        while left:
            n = min(left, max(self.chunk // b, 1))
            u = self._draw_directions((n, *x.shape), x)
            points = (x + delta_column * u).clamp(self.threat.low, self.threat.high)
            u = (points - x) / delta_column  # as clipped to the box
            logits = active.logits_no_grad(points.flatten(0, 1))
            wrong = active.is_adversarial(logits, y.repeat(n)).reshape(n, b)
            sign = 2 * wrong.to(x.dtype) - 1
            sum_u, sum_sign = sum_u + u.sum(0), sum_sign + sign.sum(0)
            sum_signed_u = sum_signed_u + (sign.reshape(n, b, *[1] * (x.ndim - 1)) * u).sum(0)
            left -= n
        mean = sum_sign / directions
        centred = sum_signed_u - broadcast_scale(mean, x) * sum_u
        # with one sign throughout, the centred sum is 0
        v = torch.where(broadcast_rows(mean.abs() < 1, x), centred, sum_signed_u)
        normal = torch.zeros_like(z)
        normal[rows] = normalize(v, 2) if self.p == 2 else v.sign()
        return normal

    def _draw_directions(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Draw unit vectors `(n, b, *d)`: Gaussian in L2, from a cube in Linf."""
        u = torch.empty(shape, dtype=like.dtype, device=like.device)
        draw = self.generator(like.device)
        u = u.normal_(generator=draw) if self.p == 2 else u.uniform_(-1, 1, generator=draw)
        return normalize(u.flatten(0, 1), 2).reshape(shape)

    def _jump(self, active: ActiveSet, z: Tensor, v: Tensor, size: Tensor, rows: Tensor) -> Tensor:
        """Return z + size·v, the size halved until the model is wrong there; else z."""
        waiting = rows
        for _ in range(MAX_JUMP_HALVINGS):
            if not waiting.any():
                break
            moved = (z + broadcast_scale(size, z) * v).clamp(self.threat.low, self.threat.high)
            wrong = self._is_adversarial(active, moved, waiting)
            z = torch.where(broadcast_rows(wrong, z), moved, z)
            waiting, size = waiting & ~wrong, size / 2
        return z


def record_decisions(active: ActiveSet, z: Tensor, wrong: Tensor) -> Tensor | None:
    """Record points z `(a, *d)` where only the decision is known: wrong or not `(a,)`.

    Returns as `ActiveSet.record`.
    """
    y, k = active.y, int(active.y.max()) + 2
    pred = torch.where(wrong, (y + 1) % k, y)
    logits = torch.nn.functional.one_hot(pred, k).to(z.dtype)
    return active.record(z, logits, torch.full_like(logits[:, 0], -math.inf))
