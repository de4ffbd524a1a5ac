"""The data-sparsity loss in Python floats, one anchor at a time: points and logits are lists."""

from __future__ import annotations

import math
from collections.abc import Callable

from .losses import cross_entropy, softmax

Point = list[float]
Model = Callable[[Point], list[float]]


def gr(model: Model, x: Point, near: list[Point]) -> float:
    """1/(N_n K) Σ_j Σ_k ((p_k(x) − p_k(x_j)) / ‖x − x_j‖)²."""
    p, total = softmax(model(x)), 0.0
    for x_j in near:
        q = softmax(model(x_j))
        distance = math.sqrt(sum((a - b) ** 2 for a, b in zip(x, x_j, strict=True)))
        total += sum(((a - b) / distance) ** 2 for a, b in zip(p, q, strict=True))
    return total / (len(near) * len(p))


def anchor(
    model: Model,
    x: Point,
    y: int,
    near: list[Point],
    beta: float,
    *,
    x_adv: Point | None = None,
    near_adv: list[Point] | None = None,
    ratio: float = 0.3,
) -> float:
    """The loss of a batch of one: a labelled anchor (attacked or not), or an unlabelled one."""
    if y == -1:
        return beta * gr(model, x, near)
    if x_adv is None or near_adv is None:
        return cross_entropy(model(x), y) + beta * gr(model, x, near)
    clean, moved = cross_entropy(model(x), y), cross_entropy(model(x_adv), y)
    mixed = (clean + ratio * moved) / (1 + ratio)
    return mixed + beta * (gr(model, x, near) + gr(model, x_adv, near_adv))
