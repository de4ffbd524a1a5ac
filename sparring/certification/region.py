"""Hold the ball and box in which bounds are computed, and minimize linear functions over it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..functional.geometry import RELATIVE_SLACK, box_slack
from ..threats.base import Threat
from ..threats.l2 import L2
from ..threats.linf import Linf
from .ops import Bounds, product


@dataclass(frozen=True)
class Region:
    """Hold where inputs may be: the box `low..high (b, *d)`, and for p = 2 the ball around `x`."""

    x: Tensor
    low: Tensor
    high: Tensor
    eps: float
    p: float

    def minimum(self, a: Tensor) -> Tensor:
        """Return a lower bound `(b, m)` of Σ a·x' over the region, for `a (b, m, *d)`.

        It is the larger of Σ a⁺·low + a⁻·high and a·x − eps·‖a‖₂: exact, unless box and ball cut.
        """
        in_box = minimum(a, Bounds(self.low, self.high))
        if self.p != 2:
            return in_box
        in_ball = product(a, self.x) - self.eps * a.flatten(2).norm(dim=2)
        return torch.maximum(in_box, in_ball)

    def take(self, rows: slice | Tensor) -> Region:
        """Return the region of these samples."""
        return replace(self, x=self.x[rows], low=self.low[rows], high=self.high[rows])


def region(x: Tensor, threat: Threat) -> Region:
    """Return the threat's ball around each `x (b, *d)` in float64, with the slack of judging.

    Raises:
        ValueError: for a threat that is neither Linf nor L2.
    """
    if type(threat) not in (Linf, L2):
        raise ValueError(
            f"threat = {type(threat).__name__} is not allowed: bounds are over Linf or L2 balls"
        )
    x, eps = x.double(), float(threat.eps)  # type: ignore[arg-type]
    # As large as the ball in which judging accepts points, so that no attack breaks a certificate.
    slack = box_slack(threat.low, threat.high)
    eps = eps * (1 + RELATIVE_SLACK) + slack if eps > 0 else 0.0
    low, high = (x - eps).clamp_min(threat.low), (x + eps).clamp_max(threat.high)
    return Region(x, torch.minimum(low, x), torch.maximum(high, x), eps, threat.p)  # type: ignore


def minimum(a: Tensor, bounds: Bounds) -> Tensor:
    """Return min Σ a·h `(b, m)` over h within the bounds: Σ a·centre − |a|·radius."""
    low, high = bounds
    return product(a, (low + high) / 2) - product(a.abs(), (high - low) / 2)
