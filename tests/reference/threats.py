"""Threats, in scalars and loops, from the papers' formulas."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

Row = Sequence[float]


def transport_cost(x: Row, z: Row, scale: float, p: float, power: float) -> float:
    """L·‖z − x‖_p^q."""
    moved = [abs(a - b) for a, b in zip(z, x, strict=True)]
    size = max(moved) if p == math.inf else sum(m**p for m in moved) ** (1 / p)
    return scale * size**power


def transport_gain(g: Row, multiplier: float, scale: float, p: float, power: float) -> float:
    """sup_δ g·δ − λL‖δ‖_p^q for q > 1: with r the best length, ‖g‖_*·r − λL·r^q."""
    dual = {1: math.inf, 2: 2, math.inf: 1}[p]
    slope = max(map(abs, g)) if dual == math.inf else sum(abs(v) ** dual for v in g) ** (1 / dual)
    r = (slope / (multiplier * scale * power)) ** (1 / (power - 1))
    return slope * r - multiplier * scale * r**power


def soft_step(
    z: Row, x: Row, g: Row, *, size: float, radius: float, multiplier: float, tau: float
) -> list[float]:
    """UDR: δ ← δ + a·sign g, then δ ← δ − λ(a/τ)(δ − r·sign δ) where |δ| > r."""
    moved = []
    for zj, xj, gj in zip(z, x, g, strict=True):
        d = zj - xj + size * ((gj > 0) - (gj < 0))
        if abs(d) > radius:
            d -= multiplier * (size / tau) * (d - math.copysign(radius, d))
        moved.append(xj + d)
    return moved


def soft_multiplier(distances: Row, *, radius: float, start: float, rate: float, every: int):
    """λ after each batch of mean distance |δ|."""
    multipliers, kept, multiplier = [], [], start
    for d in distances:
        kept.append(d)
        if len(kept) == every:
            multiplier = max(0.0, multiplier - rate * (radius - sum(kept) / every))
            kept = []
        multipliers.append(multiplier)
    return multipliers


def best_flips(
    w: Row, x: Sequence[int], *, budget: float, add_only: bool, mutable: Sequence[int]
) -> float:
    """max Σ w_j (x'_j − x_j) over every allowed x', one after another."""
    best = 0.0
    for other in itertools.product((0, 1), repeat=len(x)):
        flips = [j for j in range(len(x)) if other[j] != x[j]]
        if len(flips) > budget or any(not mutable[j] for j in flips):
            continue
        if add_only and any(x[j] == 1 for j in flips):
            continue
        best = max(best, sum(w[j] * (other[j] - x[j]) for j in flips))
    return best


def label_gain(
    losses: Row, y: int, *, multiplier: float, scale: float, delta: float, n: int = 400
) -> float:
    """max over a grid of labels q, three of them, of Σ q_j ℓ_j − λK·g(t), g(t) = t/(1 − t/δ) and
    t = 1 − Σ_j min(q_j, p_j) with p all on y."""
    others = [j for j in range(3) if j != y]
    best = -math.inf
    for i in range(n):
        t = delta * i / n
        for k in range(11):
            q = [0.0] * 3
            q[y], q[others[0]], q[others[1]] = 1 - t, t * k / 10, t * (10 - k) / 10
            moved = 1 - sum(min(a, float(j == y)) for j, a in enumerate(q))
            paid = multiplier * scale * moved / (1 - moved / delta)
            best = max(best, sum(a * b for a, b in zip(q, losses, strict=True)) - paid)
    return best


def lagging_soft_step(
    z: Row, x: Row, g: Row, *, size: float, radius: float, multiplier: float, tau: float
) -> list[float]:
    """ARMOR's code: δ ← δ + a·sign g − λ(a/τ)(δ − r·sign δ)[|δ| > r], all of the old δ."""
    moved = []
    for zj, xj, gj in zip(z, x, g, strict=True):
        d = zj - xj
        back = d - math.copysign(radius, d) if abs(d) > radius else 0.0
        moved.append(xj + d + size * ((gj > 0) - (gj < 0)) - multiplier * (size / tau) * back)
    return moved
