"""Attacks on few locations as the papers write them: one sample `(d,)`, lists, loops."""

from __future__ import annotations

import itertools
from collections.abc import Callable

Point = list[float]


def clip(v: float, low: float, high: float) -> float:
    """The nearest number in [low, high]."""
    return max(low, min(high, v))


def nearest(z: list[Point], x: list[Point], k: int) -> float:
    """Least squared distance of z from a point of [0, 1] that differs from x in k of its locations:
    every choice is tried. A location is a list of channels."""
    best = float("inf")
    for chosen in itertools.combinations(range(len(x)), min(k, len(x))):
        total = 0.0
        for i, (a, b) in enumerate(zip(x, z, strict=True)):
            to = [clip(v, 0.0, 1.0) for v in b] if i in chosen else a
            total += sum((v - t) ** 2 for v, t in zip(b, to, strict=True))
        best = min(best, total)
    return best


def share(query: int, queries: int, alpha_init: float) -> float:
    """alpha of Sparse-RS in L0 at a query, laid over 10 000."""
    i = int(query / queries * 10_000)
    if i <= 0:
        return alpha_init
    if i <= 50:
        return alpha_init / 2
    if i <= 200:
        return alpha_init / 4
    if i <= 500:
        return alpha_init / 5
    if i <= 1000:
        return alpha_init / 6
    if i <= 2000:
        return alpha_init / 8
    if i <= 4000:
        return alpha_init / 10
    if i <= 6000:
        return alpha_init / 12
    if i <= 8000:
        return alpha_init / 15
    return alpha_init / 20


def sparse_rs(
    loss: Callable[[Point], float],
    x: Point,
    uniform: Callable[[int], list[float]],
    *,
    k: int,
    queries: int,
    alpha_init: float,
) -> Point:
    """The best point of `queries`; `uniform(n)` gives the next n numbers in [0, 1)."""
    n = len(x)

    def pick(of: int, m: int) -> list[int]:
        if m == 1:
            return [int(uniform(1)[0] * of)]
        u = uniform(of)
        return sorted(range(of), key=lambda i: -u[i])[:m]

    def corner(u: float) -> float:
        return 1.0 if u < 0.5 else 0.0

    u = uniform(n)
    order = sorted(range(n), key=lambda i: u[i])
    inside, outside = order[:k], order[k:]
    best = list(x)
    for place, v in zip(inside, uniform(k), strict=True):
        best[place] = corner(v)
    record = loss(best)
    for query in range(1, queries):
        m = max(int(share(query, queries, alpha_init) * k), 1)
        leave, come = pick(len(inside), m), pick(len(outside), m)
        z = list(best)
        for i in leave:
            z[inside[i]] = x[inside[i]]
        for j, v in zip(come, uniform(m), strict=True):
            z[outside[j]] = corner(v)
        value = loss(z)
        if value > record:
            best, record = z, value
            for i, j in zip(leave, come, strict=True):
                inside[i], outside[j] = outside[j], inside[i]
    return best


def jsma(slope: Callable[[Point], Point], x: Point, *, k: int) -> Point:
    """k times: the untouched place of largest |gradient|·room goes to the end of the box."""
    z, touched = list(x), set[int]()
    for _ in range(min(k, len(x))):
        grad = slope(z)
        gains = {
            i: (g * (1 - z[i]) if g > 0 else -g * z[i])
            for i, g in enumerate(grad)
            if i not in touched
        }
        i = max(gains, key=lambda i: gains[i])
        if gains[i] > 0:
            z[i] = 1.0 if grad[i] > 0 else 0.0
            touched.add(i)
    return z
