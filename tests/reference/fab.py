"""FAB as Croce and Hein 2020 write it: one sample, one coordinate at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

Point = list[float]


def length(v: Point, p: float) -> float:
    """‖v‖_p."""
    if p == math.inf:
        return max(abs(u) for u in v)
    return sum(abs(u) ** p for u in v) ** (1 / p)


def way(x: Point, w: Point, gap: float, p: float) -> Point:
    """The shortest δ with gap + w·δ = 0 and x + δ in [0, 1]^d, else into the nearest corner.

    In Linf and L2 one number says how far every coordinate goes before it meets the box: bisection
    finds it. In L1 the coordinate that closes the gap fastest goes first, as far as it may.
    """
    side = [0 if v == 0 or gap == 0 else (-1 if v * gap > 0 else 1) for v in w]
    room = [{0: 0.0, 1: 1 - u, -1: u}[s] for u, s in zip(x, side, strict=True)]
    if p == 1:
        moves, need = [0.0] * len(x), abs(gap)
        for i in sorted(range(len(x)), key=lambda i: -abs(w[i])):
            if side[i]:
                moves[i] = min(room[i], need / abs(w[i]))
                need -= abs(w[i]) * moves[i]
    else:
        rate = [1.0 if p == math.inf else abs(v) for v in w]
        rate = [r if s else 0.0 for r, s in zip(rate, side, strict=True)]

        def at(s: float) -> Point:
            return [min(s * r, free) for r, free in zip(rate, room, strict=True)]

        low, high = 0.0, max((f / r for f, r in zip(room, rate, strict=True) if r), default=0.0)
        for _ in range(200):
            middle = (low + high) / 2
            closed = sum(abs(v) * u for v, u in zip(w, at(middle), strict=True))
            low, high = (middle, high) if closed < abs(gap) else (low, middle)
        moves = at(high)
    return [s * u for s, u in zip(side, moves, strict=True)]


def logits(model: nn.Module, x: Point) -> Point:
    """All logits at a point."""
    with torch.no_grad():
        return model(torch.tensor([x], dtype=torch.float64))[0].tolist()


def lead(model: nn.Module, x: Point, k: int, y: int) -> tuple[float, Point]:
    """z_k − z_y at a point, and its gradient."""
    z = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    out = model(z)[0]
    (grad,) = torch.autograd.grad(out[k] - out[y], z)
    return (out[k] - out[y]).item(), grad[0].tolist()


def top(values: Point) -> int:
    """The index of the largest."""
    return max(range(len(values)), key=lambda k: values[k])


def dual(p: float) -> float:
    """q with 1/p + 1/q = 1."""
    return {1: math.inf, 2: 2, math.inf: 1}[p]


def nearest(model: nn.Module, x: Point, classes: list[int], y: int, p: float):
    """The class whose linearised boundary is nearest: its lead, the gradient, the distance."""
    found = []
    for k in classes:
        value, grad = lead(model, x, k, y)
        found.append((abs(value) / length(grad, dual(p)), value, grad))
    far, value, grad = min(found, key=lambda f: f[0])
    return value, grad, far


def fab(
    model: nn.Module,
    x: Point,
    y: int,
    classes: list[int],
    *,
    p: float,
    steps: int,
    final: int,
    known: tuple[Point, float],
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
) -> tuple[Point, float]:
    """The nearest wrong point of one search from x, or known before, and its distance; x and inf
    where there is none."""
    z, (best, record) = list(x), known
    for _ in range(steps):
        value, w, _ = nearest(model, z, classes, y, p)
        at_x = value + sum(a * (u - v) for a, u, v in zip(w, x, z, strict=True))
        d1, d2 = way(z, w, value, p), way(x, w, at_x, p)
        one, two = max(length(d1, p), 1e-8), max(length(d2, p), 1e-8)
        a = min(one / (one + two), alpha_max)
        moved = []
        for i in range(len(x)):
            v = (1 - a) * (z[i] + eta * d1[i]) + a * (x[i] + eta * d2[i])
            moved.append(min(max(v, 0.0), 1.0))
        z = moved
        if top(logits(model, z)) != y:
            far = length([u - v for u, v in zip(z, x, strict=True)], p)
            if far < record:
                best, record = z, far
            z = [v + beta * (u - v) for u, v in zip(z, x, strict=True)]
    right, wrong = list(x), best
    for _ in range(final if record < math.inf else 0):
        near, beyond = logits(model, right), logits(model, wrong)
        s = top(beyond)
        ahead, behind = near[y] - near[s], beyond[s] - beyond[y]
        t = ahead / (ahead + behind + 1e-10)
        t = t if 0 <= t <= 1 else 1.0
        middle = [(1 - t) * u + t * v for u, v in zip(right, wrong, strict=True)]
        if top(logits(model, middle)) != y:
            wrong = middle
            far = length([u - v for u, v in zip(middle, x, strict=True)], p)
            best, record = (middle, far) if far < record else (best, record)
        else:
            right = middle
    return best, record


def fab_over_targets(
    model: nn.Module, x: Tensor, y: int, *, targets: int, p: float, steps: int, final: int
) -> float:
    """The least distance over the `targets` highest wrong classes, one search each; 0 targets are
    one search among all. A wrong x is at distance 0.
    """
    clean = logits(model, x.tolist())
    if top(clean) != y:
        return 0.0
    others = sorted((k for k in range(len(clean)) if k != y), key=lambda k: -clean[k])
    aims = [[k] for k in others[:targets]] if targets else [others]
    known = x.tolist(), math.inf
    for aim in aims:
        known = fab(model, x.tolist(), y, aim, p=p, steps=steps, final=final, known=known)
    return known[1]
