"""Carlini and Wagner's attacks and EAD as their papers write them: one sample, in loops."""

from __future__ import annotations

import math

import torch
from torch import nn

from . import fab

Point = list[float]


def lead(logits: list[float], y: int) -> float:
    """The largest other logit over the right one's."""
    return max(v for k, v in enumerate(logits) if k != y) - logits[y]


def hinge(model: nn.Module, z: Point, y: int, confidence: float) -> tuple[float, Point, float]:
    """max(κ − lead, 0), its gradient, and the lead itself."""
    at = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    out = model(at)[0]
    values = out.tolist()
    other = max((k for k in range(len(values)) if k != y), key=lambda k: values[k])
    (grad,) = torch.autograd.grad(out[other] - out[y], at)
    now = lead(values, y)
    paid = max(confidence - now, 0.0)
    return paid, [-g if paid > 0 else 0.0 for g in grad[0].tolist()], now


def cw(
    model: nn.Module,
    x: Point,
    y: int,
    *,
    p: float,
    steps: int,
    search_steps: int,
    size: float,
    c: float,
    confidence: float = 0.0,
) -> tuple[float, Point]:
    """The closest point found and how far it is; box [0, 1], no early stop of a round."""
    start = [math.atanh(max(min(0.999999 * (2 * v - 1), 0.999999), -0.999999)) for v in x]
    w, best, point, low, high, tau = list(start), math.inf, list(x), 0.0, math.inf, 0.9
    for _ in range(search_steps):
        m, v, won, nearer = [0.0] * len(x), [0.0] * len(x), False, False
        if p == 2:
            w = list(start)
        for t in range(1, steps + 1):
            z = [(math.tanh(a) + 1) / 2 for a in w]
            _, slope, now = hinge(model, z, y, confidence)
            delta = [a - b for a, b in zip(z, x, strict=True)]
            far = fab.length(delta, p)
            if now > 0 and now >= confidence:
                won = True
                if far < best:
                    best, point, nearer = far, z, True
            for i in range(len(x)):
                if p == 2:
                    push = 2 * delta[i]
                else:
                    push = math.copysign(1.0, delta[i]) if abs(delta[i]) > tau else 0.0
                g = (push + c * slope[i]) * (1 - math.tanh(w[i]) ** 2) / 2
                m[i] = 0.9 * m[i] + 0.1 * g
                v[i] = 0.999 * v[i] + 0.001 * g * g
                w[i] -= size * (m[i] / (1 - 0.9**t)) / (math.sqrt(v[i] / (1 - 0.999**t)) + 1e-8)
        if p == 2:
            low, high = (low, min(high, c)) if won else (max(low, c), high)
            c = (low + high) / 2 if high < math.inf else 10 * c
        else:
            c = c if nearer else 10 * c
            tau = 0.9 * min(tau / 0.9, best)
    return best, point


def ead(
    model: nn.Module,
    x: Point,
    y: int,
    *,
    steps: int,
    search_steps: int,
    size: float,
    beta: float,
    c: float,
) -> tuple[float, Point]:
    """The closest point in L1 found and how far it is; box [0, 1], no early stop of a round."""
    best, point, low, high = math.inf, list(x), 0.0, math.inf
    for _ in range(search_steps):
        z, slack, won = list(x), list(x), False
        for k in range(steps):
            _, slope, _ = hinge(model, slack, y, 0.0)
            rate = size * math.sqrt(1 - k / steps)
            moved = []
            for i in range(len(x)):
                aim = slack[i] - rate * (2 * (slack[i] - x[i]) + c * slope[i])
                if aim - x[i] > beta:
                    moved.append(min(aim - beta, 1.0))
                elif aim - x[i] < -beta:
                    moved.append(max(aim + beta, 0.0))
                else:
                    moved.append(x[i])
            ahead = [m + k / (k + 3) * (m - old) for m, old in zip(moved, z, strict=True)]
            z, slack = moved, [min(max(v, 0.0), 1.0) for v in ahead]
            with torch.no_grad():
                now = lead(model(torch.tensor([z], dtype=torch.float64))[0].tolist(), y)
            far = sum(abs(a - b) for a, b in zip(z, x, strict=True))
            if now > 0:
                won = True
                if far < best:
                    best, point = far, z
        low, high = (low, min(high, c)) if won else (max(low, c), high)
        c = (low + high) / 2 if high < math.inf else 10 * c
    return best, point
