"""Trace the decision boundary of a model of two inputs: its course, distance and slope."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Model
from ..component import require_at_least
from ..introspect import freeze
from ..introspect.predict import predict
from ..results.field import BoundaryField

MAX_PAIRS = 2**22  # of points and segments in memory at once


def lattice(low: float, high: float, m: int) -> Tensor:
    """Return `m²` points of [low, high]² `(m·m, 2)`, the first input running fastest.

    >>> lattice(0, 1, 2).tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    """
    side = torch.linspace(low, high, m)
    second, first = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([first, second], -1).reshape(-1, 2)


def boundary(
    model: Model, *, low: float = 0.0, high: float = 1.0, m: int = 200, halvings: int = 30
) -> Tensor:
    """Trace the decision boundary as straight segments `(s, 2, 2)`, one per cell of an m × m grid.

    Bisection finds the crossing on each grid edge whose ends differ in class. The two crossings of
    a cell are joined; where more classes meet, each is joined to their mean. A segment strays from
    the boundary by at most its curvature times (cell)²/8. A double crossing of an edge is missed.

    >>> model = lambda x: torch.stack([0 * x[:, 0], x[:, 0] - 0.3], 1)
    >>> boundary(model, m=4)[0, :, 0]
    tensor([0.3000, 0.3000])
    """
    require_at_least(2, m=m)
    points = lattice(low, high, m)
    grid_class = classes(model, points)
    point_index = torch.arange(m * m).view(m, m)
    along, across = (point_index[:, :-1], point_index[:, 1:]), (point_index[:-1], point_index[1:])
    edges = torch.cat([torch.stack([a.flatten(), b.flatten()], 1) for a, b in (along, across)])
    cut = grid_class[edges[:, 0]] != grid_class[edges[:, 1]]
    crossing = points.new_full((len(edges), 2), torch.nan)
    if cut.any():
        a, b = (points[edges[cut, k]] for k in (0, 1))
        crossing[cut] = _bisected(model, a, b, grid_class[edges[cut, 0]], halvings)
    cells = _cells(m)
    crossed = cut[cells]
    count = crossed.sum(1)
    segments = [crossing[cells[count == 2][crossed[count == 2]].view(-1, 2)]]
    for cell, which in zip(cells[count > 2], crossed[count > 2], strict=True):
        ends = crossing[cell[which]]
        segments.append(torch.stack([ends, ends.mean(0).expand_as(ends)], 1))
    return torch.cat(segments)


def _bisected(model: Model, a: Tensor, b: Tensor, label: Tensor, halvings: int) -> Tensor:
    for _ in range(halvings):
        middle = (a + b) / 2
        stays = (classes(model, middle) == label)[:, None]
        a, b = torch.where(stays, middle, a), torch.where(stays, b, middle)
    return (a + b) / 2


def _cells(m: int) -> Tensor:
    """Return the four edges of each cell `((m − 1)², 4)`."""
    along = torch.arange(m * (m - 1)).view(m, m - 1)
    across = torch.arange((m - 1) * m).view(m - 1, m) + m * (m - 1)
    sides = (along[:-1], along[1:], across[:, :-1], across[:, 1:])
    return torch.stack([s.flatten() for s in sides], 1)


def distance(points: Tensor, segments: Tensor) -> Tensor:
    """Compute the exact L2 distance `(n,)` of points `(n, 2)` to the nearest of segments
    `(s, 2, 2)`; inf without segments.

    >>> line = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    >>> distance(torch.tensor([[0.5, 2.0], [4.0, 4.0]]), line)
    tensor([2., 5.])
    """
    if not len(segments):
        return points.new_full((len(points),), torch.inf)
    segments = segments.to(points)
    start, way = segments[:, 0], segments[:, 1] - segments[:, 0]
    length = way.square().sum(1).clamp_min(torch.finfo(points.dtype).tiny)
    nearest = []
    for chunk in points.split(max(1, MAX_PAIRS // len(segments))):
        off = chunk[:, None] - start
        t = ((off * way).sum(2) / length).clamp(0, 1)
        nearest.append((off - t[..., None] * way).norm(dim=2).amin(1))
    return torch.cat(nearest)


def slope(model: Model, points: Tensor) -> Tensor:
    """Compute ‖∂softmax/∂x‖_F at points `(n, 2)`: `(n,)`, per input unit.

    Raises:
        ValueError: if the model has no gradient.

    >>> slope(lambda x: torch.stack([x[:, 0], 0 * x[:, 0]], 1), torch.zeros(1, 2))
    tensor([0.3536])
    """
    with freeze.frozen(model, "eval") as run, torch.enable_grad():
        z = points.detach().clone().requires_grad_()
        p = run(z).softmax(1)
        if not p.requires_grad:
            raise ValueError("the softmax slope needs gradients, and the model has none")
        grads = [torch.autograd.grad(c.sum(), z, retain_graph=True)[0] for c in p.unbind(1)]
    return torch.stack(grads).square().sum((0, 2)).sqrt()


def classes(model: Model, points: Tensor) -> Tensor:
    """Predict classes `(n,)`."""
    return predict(model, points)


def field_of(
    name: str,
    model: Model,
    points: Tensor,
    labels: Tensor,
    *,
    generated: Tensor | None = None,
    generator: str = "",
    low: float = 0.0,
    high: float = 1.0,
    m: int = 200,
    caption: str = "",
) -> BoundaryField:
    """Evaluate everything that a picture of a model shows, on an m × m grid."""
    grid, segments = lattice(low, high, m), boundary(model, low=low, high=high, m=m)
    maps = (classes(model, grid), slope(model, grid), distance(grid, segments))
    drawn = torch.zeros(0, 2) if generated is None else generated
    tensors = (*(t.view(m, m) for t in maps), segments, points, labels, drawn)
    arrays = [t.numpy() for t in tensors]
    return BoundaryField(name, low, high, *arrays, generator=generator, caption=caption)
