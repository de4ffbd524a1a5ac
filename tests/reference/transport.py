"""Transport between clouds in Python floats: `a`, `b` lists of points, `theta` a list of slices."""

from __future__ import annotations

import math

Point = list[float]
Matrix = list[list[float]]


def dot(u: Point, v: Point) -> float:
    """Σ_k u_k v_k."""
    return sum(p * q for p, q in zip(u, v, strict=True))


def moves(a: list[Point], b: list[Point], theta: Point) -> list[float]:
    """For each point of a, how far its projection is from that of its partner by rank."""
    s, t = [dot(p, theta) for p in a], sorted(dot(q, theta) for q in b)
    result = [0.0] * len(a)
    for rank, i in enumerate(sorted(range(len(a)), key=lambda i: s[i])):
        result[i] = t[rank] - s[i]
    return result


def sliced(a: list[Point], b: list[Point], slices: list[Point]) -> float:
    """1/(K·B) Σ_k Σ_i δ_{k,i}²."""
    total = sum(step**2 for theta in slices for step in moves(a, b, theta))
    return total / (len(slices) * len(a))


def movement(a: list[Point], b: list[Point], slices: list[Point]) -> list[Point]:
    """Δ_i = Σ_k δ_{k,i} θ_k, one slice and one point after the other."""
    result = [[0.0] * len(p) for p in a]
    for theta in slices:
        for i, step in enumerate(moves(a, b, theta)):
            result[i] = [old + step * t for old, t in zip(result[i], theta, strict=True)]
    return result


def squared(a: list[Point], b: list[Point]) -> Matrix:
    """C_ij = Σ_k (a_ik − b_jk)²."""
    return [[sum((u - v) ** 2 for u, v in zip(p, q, strict=True)) for q in b] for p in a]


def entropic(cost: Matrix, eps: float, steps: int = 2000) -> float:
    """Σ_ij π_ij C_ij + eps Σ_ij π_ij log(π_ij n m): Sinkhorn's scaling of exp(−C/eps), as first
    published."""
    n, m = len(cost), len(cost[0])
    kernel = [[math.exp(-c / eps) for c in row] for row in cost]
    u, v = [1.0] * n, [1.0] * m
    for _ in range(steps):
        u = [1 / n / sum(kernel[i][j] * v[j] for j in range(m)) for i in range(n)]
        v = [1 / m / sum(kernel[i][j] * u[i] for i in range(n)) for j in range(m)]
    total = 0.0
    for i in range(n):
        for j in range(m):
            mass = u[i] * kernel[i][j] * v[j]
            total += mass * (cost[i][j] + eps * math.log(mass * n * m))
    return total


def divergence(a: list[Point], b: list[Point], eps: float) -> float:
    """OT(a, b) − ½ OT(a, a) − ½ OT(b, b) with the squared cost."""
    cross, first, second = squared(a, b), squared(a, a), squared(b, b)
    return entropic(cross, eps) - entropic(first, eps) / 2 - entropic(second, eps) / 2
