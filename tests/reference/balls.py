"""Projections of one point onto a ball inside the box, by bisection on the multiplier: lists of
floats."""

from __future__ import annotations

import math
from collections.abc import Callable

Point = list[float]


def clip(v: float, low: float, high: float) -> float:
    """The nearest number in [low, high]."""
    return max(low, min(high, v))


def norm(delta: Point, p: float) -> float:
    """‖δ‖_p."""
    if p == math.inf:
        return max(abs(v) for v in delta)
    return sum(abs(v) ** p for v in delta) ** (1 / p)


def linf(z: Point, x: Point, eps: float, low: float, high: float) -> Point:
    """Clip to x ± eps, then to the box."""
    return [clip(clip(b, a - eps, a + eps), low, high) for a, b in zip(x, z, strict=True)]


def _bisect(at: Callable[[float], Point], x: Point, eps: float, p: float, top: float) -> Point:
    """The smallest multiplier in [0, top] whose point lies in the ball; `at` shrinks as it
    grows."""

    def size(m: float) -> float:
        return norm([b - a for a, b in zip(x, at(m), strict=True)], p)

    if size(0.0) <= eps:
        return at(0.0)
    least, most = 0.0, top
    for _ in range(200):
        middle = (least + most) / 2
        least, most = (middle, most) if size(middle) > eps else (least, middle)
    return at(most)


def l2(z: Point, x: Point, eps: float, low: float, high: float) -> Point:
    """argmin ½‖v − z‖² + μ/2·(‖v − x‖² − eps²) over the box is clip((z + μx)/(1 + μ)); with t =
    μ/(1 + μ) in [0, 1]."""
    return _bisect(
        lambda t: [clip(b + t * (a - b), low, high) for a, b in zip(x, z, strict=True)],
        x,
        eps,
        2,
        1.0,
    )


def l1(z: Point, x: Point, eps: float, low: float, high: float) -> Point:
    """argmin ½‖v − z‖² + τ·(‖v − x‖₁ − eps) over the box is the clipped soft threshold of z − x."""

    def at(tau: float) -> Point:
        result = []
        for a, b in zip(x, z, strict=True):
            size = max(abs(b - a) - tau, 0.0)
            result.append(clip(a + math.copysign(size, b - a), low, high))
        return result

    return _bisect(at, x, eps, 1, max(abs(b - a) for a, b in zip(x, z, strict=True)))
