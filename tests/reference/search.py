"""Projected gradient ascent as the papers write it: one sample, one coordinate at a time, no batch
tricks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import balls

LossOf = Callable[[Tensor], Tensor]


def slope(loss: LossOf, point: Tensor) -> tuple[float, list[float]]:
    """Loss and gradient at one point `(d,)`."""
    point = point.clone().requires_grad_()
    value = loss(point[None])
    (grad,) = torch.autograd.grad(value.sum(), point)
    return value.item(), grad.tolist()


def sign(v: float) -> int:
    """−1, 0 or 1."""
    return (v > 0) - (v < 0)


def pgd_linf(
    loss: LossOf, x: Tensor, start: Tensor, *, eps: float, size: float, steps: int
) -> list[Tensor]:
    """All iterates of x' ← clip_[0,1](clip_{x±eps}(x' + size·sign ∇loss(x'))) for one sample
    `(d,)`."""
    points = [start]
    for _ in range(steps):
        _, grad = slope(loss, points[-1])
        moved = [v + size * sign(g) for v, g in zip(points[-1].tolist(), grad, strict=True)]
        points.append(torch.tensor(balls.linf(moved, x.tolist(), eps, 0.0, 1.0), dtype=x.dtype))
    return points


def pgd_l2(
    loss: LossOf, x: Tensor, start: Tensor, *, eps: float, size: float, steps: int
) -> list[Tensor]:
    """All iterates of x' ← project(x' + size·∇loss/‖∇loss‖₂) for one sample `(d,)`."""
    points = [start]
    for _ in range(steps):
        _, grad = slope(loss, points[-1])
        length = balls.norm(grad, 2)
        moved = [v + size * g / length for v, g in zip(points[-1].tolist(), grad, strict=True)]
        points.append(torch.tensor(balls.l2(moved, x.tolist(), eps, 0.0, 1.0), dtype=x.dtype))
    return points


def attack(points: list[Tensor], loss: LossOf, wrong: Callable[[Tensor], bool]) -> Tensor:
    """What an attack returns for one sample: the first wrong iterate, else the one of highest
    loss."""
    for point in points:
        if wrong(point):
            return point
    return max(points, key=lambda point: loss(point[None]).item())
