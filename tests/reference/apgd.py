"""Auto-PGD as Croce and Hein 2020 write it, one sample and one coordinate at a time; and L1-APGD of
Croce and Hein 2021."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import balls
from .search import LossOf, sign, slope

Point = list[float]


@dataclass
class Trace:
    """What a search went through: its points, their losses, and what is known after every step."""

    points: list[Point]
    losses: list[float]
    sizes: list[float]
    best: Point


def looks(steps: int) -> list[int]:
    """w_j of alg. 1 in whole steps: the first after 22 % of them, then always 3 % less, at least
    6 %."""
    width, shrink, least = int(0.22 * steps), int(0.03 * steps), int(0.06 * steps)
    width, shrink, least = max(width, 1), max(shrink, 1), max(least, 1)
    found = [width]
    while found[-1] < steps:
        width = max(width - shrink, least)
        found.append(found[-1] + width)
    return found


def start(x: Point, noise: Point, eps: float, p: float) -> Point:
    """x + eps·t/‖t‖_p, clipped to the box."""
    length = balls.norm(noise, p)
    return [balls.clip(a + eps * t / length, 0.0, 1.0) for a, t in zip(x, noise, strict=True)]


def climb(
    loss: LossOf, x: Tensor, noise: Tensor, *, eps: float, p: float, steps: int, rho: float = 0.75
) -> Trace:
    """Alg. 1 from the random start of that noise, with η = 2·eps and α = 0.75."""
    project = {math.inf: balls.linf, 2: balls.l2}[p]
    clean, dtype = x.tolist(), x.dtype
    here = start(clean, noise.tolist(), eps, p)
    eta, marks = 2 * eps, looks(steps)
    f, grad = slope(loss, torch.tensor(here, dtype=dtype))
    trace = Trace([here], [f], [], here)
    f_best, grad_best = f, grad
    before, mark, rises = here, 0, 0
    eta_then, f_best_then = eta, f_best
    for k in range(1, steps + 1):
        length = balls.norm(grad, 2)
        way = [sign(g) for g in grad] if p == math.inf else [g / length for g in grad]
        ahead = project([a + eta * w for a, w in zip(here, way, strict=True)], clean, eps, 0.0, 1.0)
        alpha = 1.0 if k == 1 else 0.75
        mixed = [
            a + alpha * (b - a) + (1 - alpha) * (a - c)
            for a, b, c in zip(here, ahead, before, strict=True)
        ]
        before, here = here, project(mixed, clean, eps, 0.0, 1.0)
        f_before = f
        f, grad = slope(loss, torch.tensor(here, dtype=dtype))
        trace.points.append(here)
        trace.losses.append(f)
        rises += f > f_before
        if f > f_best:
            trace.best, f_best, grad_best = here, f, grad
        if k in marks:
            window = k - mark
            few = rises < rho * window
            stuck = eta == eta_then and f_best == f_best_then
            eta_then, f_best_then = eta, f_best
            if few or stuck:
                eta = eta / 2
                here, f, grad = trace.best, f_best, grad_best
            mark, rises = k, 0
        trace.sizes.append(eta)
    return trace


def climb_l1(
    loss: LossOf,
    x: Tensor,
    noise: Tensor,
    *,
    eps: float,
    steps: int,
    given: Point | None = None,
) -> Trace:
    """Alg. 1 of the L1 paper: sign steps on the k largest gradients, k from what the best point
    changed, rounded down. A given point takes the place of the random one, and sets k."""
    clean, dtype, d = x.tolist(), x.dtype, len(x)
    raw = given or [a + t for a, t in zip(clean, noise.tolist(), strict=True)]
    here = balls.l1(raw, clean, eps, 0.0, 1.0)

    def changed(point: Point) -> int:
        return sum(abs(a - b) > 1e-6 for a, b in zip(point, clean, strict=True))  # not rounding

    known = changed(here) if given else d
    count = max(int(known / 1.5 + 1e-9 if given else 0.2 * d + 1e-9), 1)
    eta, every = eps, max(int(0.04 * steps), 1)
    f, grad = slope(loss, torch.tensor(here, dtype=dtype))
    trace = Trace([here], [f], [], here)
    f_best, grad_best = f, grad
    for k in range(1, steps + 1):
        largest = sorted(range(d), key=lambda i: -abs(grad[i]))[:count]
        moved = list(here)
        for i in largest:
            moved[i] += eta * sign(grad[i]) / count
        here = balls.l1(moved, clean, eps, 0.0, 1.0)
        f, grad = slope(loss, torch.tensor(here, dtype=dtype))
        trace.points.append(here)
        trace.losses.append(f)
        if f > f_best:
            trace.best, f_best, grad_best = here, f, grad
        if k % every == 0:
            now = changed(trace.best)
            count = max(int(now / 1.5 + 1e-9), 1)
            if now / known < 0.95:
                eta = eps
                here, f, grad = trace.best, f_best, grad_best
            else:
                eta = max(eta / 1.5, eps / 10)
            known = now
        trace.sizes.append(eta)
    return trace


def dlr_targeted(z: list[float], y: int, t: int) -> float:
    """−(z_y − z_t) / (z_π1 − (z_π3 + z_π4)/2)."""
    down = sorted(z, reverse=True)
    return -(z[y] - z[t]) / (down[0] - (down[2] + down[3]) / 2)
