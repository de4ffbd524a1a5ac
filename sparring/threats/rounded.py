"""A ball whose points are those that a file of few levels can hold, such as a picture's 8 bits."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import Batch, Model
from ..component import require, require_at_least
from ..functional.geometry import box_slack, project_linf
from ..functional.rounding import SLACK, round_inside_ball, round_to_levels, straight_through
from .base import Ball, ThreatWrapper


class Rounded(ThreatWrapper):
    """Let the adversary end only at points that a file can hold: `low + k·(high − low)/levels`, in
    the ball and in the box.

    A search moves freely in the ball, and the model that it sees rounds its inputs, with a gradient
    straight through. The points it returns are rounded inside the ball, so that a success is one of
    the file. A coordinate of x between two levels stays until a move reaches a level. Where x lies
    between levels, and in other norms than Linf, that may be another point than the search saw: a
    sample then leaves once the model itself is wrong at its end. In Linf, eps counts as the largest
    whole number of levels in it: no file holds a part of one.

    Arguments:
        of: the ball: Linf, L2, L1 or L0.
        levels: steps between low and high: 255 for 8 bits.

    Raises:
        ValueError: for another threat, or levels < 1.

    >>> from sparring.threats import Linf
    >>> x, threat = torch.tensor([[100 / 255]]), Rounded(Linf(2.9 / 255))
    >>> threat.discretize(x + 2.9 / 255, Batch(x, torch.tensor([0]))) * 255
    tensor([[102.]])
    """

    of: Ball

    def __init__(self, of: Ball, *, levels: int = 255) -> None:
        super().__init__()
        require(isinstance(of, Ball), "of", of, "a ball of Linf, L2, L1 or L0")
        require_at_least(1, levels=levels)
        self.of, self.levels = of, levels

    @property
    def p(self) -> float:
        """Return the p of the ball's norm."""
        return self.of.p

    @property
    def eps(self) -> float:  # type: ignore[override]
        """Return the radius of the ball; in Linf, that of whole levels."""
        if self.p != math.inf:
            return self.of.eps
        scale = self.levels / (self.high - self.low)
        whole = math.floor(self.of.eps * scale + SLACK) / scale
        return min(whole, self.of.eps)

    @eps.setter
    def eps(self, value: float) -> None:
        self.of.eps = value

    @property
    def _grid(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "levels": self.levels}

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        return self.project(self.of.random_start(batch, generator), batch)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        return self.of.step(z, grad, size, batch)

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        if self.p == math.inf:  # between two whole levels a search would see one too many
            return project_linf(z, batch.x, self.eps, self.low, self.high)
        return self.of.project(z, batch)

    def discretize(self, z: Tensor, batch: Batch) -> Tensor:
        eps = self.eps
        if self.p == math.inf:
            # a rounding forgives more than judging does: around an x between levels, by that much
            # less, or one coordinate in a thousand of the points at the edge would lie outside
            forgiven = SLACK * (self.high - self.low) / self.levels
            eps = max(eps - max(forgiven - box_slack(self.low, self.high) / 2, 0), 0)
            z = project_linf(z, batch.x, eps, self.low, self.high)
        return round_inside_ball(z, batch.x, eps, self.p, **self._grid)

    def searched(self, model: Model) -> Model:
        return RoundedInputs(model, **self._grid)

    def ends_as_searched(self, x: Tensor) -> bool:
        # the level nearest to z may lie outside of another ball, or of one around no level
        return self.p == math.inf and torch.equal(round_to_levels(x, **self._grid), x)


class RoundedInputs(nn.Module):
    """Round inputs to levels before the model, with the gradient straight through.

    >>> RoundedInputs(lambda x: x, levels=2)(torch.tensor([[0.2, 0.3]]))
    tensor([[0.0000, 0.5000]])
    """

    def __init__(
        self, model: Model, *, low: float = 0.0, high: float = 1.0, levels: int = 255
    ) -> None:
        super().__init__()
        self.model, self.box = model, {"low": low, "high": high, "levels": levels}

    def forward(self, x: Tensor) -> Tensor:
        return self.model(straight_through(x, round_to_levels(x, **self.box)))
