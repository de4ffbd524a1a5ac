"""DeepFool as Moosavi-Dezfooli et al. 2016 write it, for one sample, with steps that
keep to the box."""

from __future__ import annotations

import math

import torch
from torch import nn

from . import fab

Point = list[float]


def deepfool(
    model: nn.Module, x: Point, y: int, *, p: float, steps: int, overshoot: float, classes: int
) -> tuple[Point, bool]:
    """The first wrong point, and whether there is one; else x."""
    z = list(x)
    for step in range(steps + 1):
        at = torch.tensor([z], dtype=torch.float64, requires_grad=True)
        out = model(at)[0]
        values = out.tolist()
        if max(values) > values[y]:
            return z, True
        if step == 0:
            order = sorted((k for k in range(len(values)) if k != y), key=lambda k: -values[k])
            order = order[: classes - 1]
        if step == steps:
            break
        best = (math.inf, 0.0, [0.0])
        for k in order:
            (grad,) = torch.autograd.grad(out[k] - out[y], at, retain_graph=True)
            w, f = grad[0].tolist(), values[k] - values[y]
            far = abs(f) / fab.length(w, fab.dual(p))
            best = (far, f, w) if far < best[0] else best
        moves = fab.way(z, best[2], best[1], p)
        z = [min(max(v + (1 + overshoot) * r, 0.0), 1.0) for v, r in zip(z, moves, strict=True)]
    return x, False
