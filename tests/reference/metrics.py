"""Literal twins of the metrics: a sample, a direction, a point at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def said(model, x: Tensor) -> int:
    return int(model(x[None])[0].argmax())


def entropy(p: list[float]) -> float:
    return -sum(v * math.log(v) for v in p if v > 0) / math.log(len(p))


def cross_entropy(model, x: Tensor, y: int) -> float:
    z = model(x[None])[0].tolist()
    top = max(z)
    return math.log(sum(math.exp(v - top) for v in z)) + top - z[y]


def ebd(model, x: Tensor, y: int, ways: Tensor, step: float, most: float) -> float:
    """The minimum over directions of the first magnitude at which the label is lost."""
    found = []
    for way in ways:
        first = most
        k = 0
        while k * step <= most + 1e-9:
            if said(model, (x + k * step * way).clamp(0, 1)) != y:
                first = k * step
                break
            k += 1
        found.append(first)
    return min(found)


def ebd2(model, x: Tensor, y: int, size: float, cap: int) -> float:
    """Sign-gradient steps until the label is lost."""
    z = x.clone()
    for step in range(cap + 1):
        if said(model, z) != y:
            return float(step)
        z = z.detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(z[None]), torch.tensor([y]))
        (grad,) = torch.autograd.grad(loss, z)
        z = (z.detach() + size * grad.sign()).clamp(0, 1)
    return math.nan


def eni(model, x: Tensor, y: int, copies: list[Tensor]) -> float:
    """Mean of |difference of losses| / greatest change of a coordinate."""
    total = 0.0
    for mu in copies:
        far = max(abs(v) for v in (mu - x).flatten().tolist())
        total += abs(cross_entropy(model, x, y) - cross_entropy(model, mu, y)) / far
    return total / len(copies)


def thickness(
    model, x: Tensor, end: Tensor, i: int, j: int, points: int, alpha: float, beta: float
) -> float:
    """‖x − end‖₂ times the share of points on the segment with alpha < p_i − p_j < beta."""
    inside = 0
    for k in range(points):
        p = model((x + (end - x) * k / (points - 1))[None])[0].softmax(0)
        inside += alpha < float(p[i] - p[j]) < beta
    return math.dist(x.flatten().tolist(), end.flatten().tolist()) * inside / points
