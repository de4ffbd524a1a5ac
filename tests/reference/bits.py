"""The five attacks on bits as armor.md §4 writes them: one sample, lists of 0 and 1, loops.

`gain(z)` gives the loss at a list of floats and its gradient there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Point = list[float]
Slope = Callable[[Point], tuple[float, Point]]


def put_back(z: Point, x: Point) -> Point:
    """z OR x: what x has stays."""
    return [1.0 if a == 1.0 or b == 1.0 else 0.0 for a, b in zip(z, x, strict=True)]


def fgsm(gain: Slope, x: Point, steps: int, thresholds: Point) -> Point:
    """dFGSM with thresholds of ½, rFGSM with random ones; x if the loss fell."""
    z = list(x)
    for _ in range(steps):
        _, g = gain(z)
        for j in range(len(z)):
            sign = 1 if g[j] > 0 else -1 if g[j] < 0 else 0
            z[j] = min(1.0, max(0.0, z[j] + sign / steps))
    bits = [1.0 if v > u else 0.0 for v, u in zip(z, thresholds, strict=True)]
    bits = put_back(bits, x)
    return bits if gain(bits)[0] > gain(x)[0] else x


def best_of(gain: Slope, x: Point, steps: int, move: Callable[[Point, Point], Point]) -> Point:
    """The first iterate only evaluates, the last is not moved any more; the best one is kept."""
    z, best, record = list(x), list(x), -math.inf
    for step in range(steps):
        value, g = gain(z)
        if value > record:
            best, record = list(z), value
        if step < steps - 1:
            z = put_back(move(z, g), x)
    return best


def bga(gain: Slope, x: Point, steps: int) -> Point:
    def move(z: Point, g: Point) -> Point:
        size = math.sqrt(sum(v * v for v in g))
        out = list(z)
        for j in range(len(z)):
            if math.sqrt(len(z)) * (1 - 2 * z[j]) * g[j] >= size:
                out[j] = 1 - z[j]
        return out

    return best_of(gain, x, steps, move)


def bca(gain: Slope, x: Point, steps: int) -> Point:
    def move(z: Point, g: Point) -> Point:
        first, most = 0, -math.inf
        for j in range(len(z)):
            if (1 - 2 * z[j]) * g[j] > most:
                first, most = j, (1 - 2 * z[j]) * g[j]
        out = list(z)
        out[first] = 1 - z[first]
        return out

    return best_of(gain, x, steps, move)


def grosse(gain: Slope, x: Point, steps: int) -> Point:
    """`gain` is the log-probability of the class to reach."""

    def move(z: Point, g: Point) -> Point:
        first, most = -1, 0.0
        for j in range(len(z)):
            if z[j] == 0.0 and g[j] > most:
                first, most = j, g[j]
        out = list(z)
        if first >= 0:
            out[first] = 1.0
        return out

    return best_of(gain, x, steps, move)


def best_flips(w: Point, x: Point, eps: float, *, add_only: bool, mutable: list[int]) -> float:
    """max w·(x' − x): the eps largest gains that are positive."""
    gains = []
    for j in range(len(w)):
        if mutable[j] and (x[j] == 0.0 or not add_only):
            gains.append(w[j] if x[j] == 0.0 else -w[j])
    total = 0.0
    for rank, gain in enumerate(sorted(gains, reverse=True)):
        if rank < eps and gain > 0:
            total += gain
    return total
