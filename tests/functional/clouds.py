"""Clouds of points, slices through them, and the best assignment between two of them."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sparring.functional import optimal_transport


def clouds(b: int = 12, d: int = 4, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw two clouds `(b, d)` that overlap."""
    draw = torch.Generator().manual_seed(seed)
    a, c = torch.randn(2, b, d, generator=draw, dtype=torch.float64)
    return a, 0.7 * c + 0.5


def slices(like: Tensor, count: int, law: str = "sphere", seed: int = 1) -> Tensor:
    """Draw seeded slices."""
    draw = torch.Generator().manual_seed(seed)
    return optimal_transport.random_slices(like, count, law=law, generator=draw)


def assignment(cost: Tensor) -> float:
    """Return the minimum over permutations of the mean cost."""
    rows, columns = linear_sum_assignment(cost.numpy())
    return float(cost[rows, columns].mean())
