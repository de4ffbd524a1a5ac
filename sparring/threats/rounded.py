"""A ball whose points are those that a file of few levels can hold, such as a picture's 8 bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..batch import Batch, Model
from ..component import require, require_at_least
from ..functional.geometry import project_linf
from ..functional.rounding import SLACK, round_inside_ball, round_to_levels, straight_through
from .base import Ball, ThreatWrapper


class Rounded(ThreatWrapper):
    """Let the adversary end only at points that a file can hold: `low + k·(high − low)/levels`, in
    the ball and in the box.

    A search moves freely in the ball, and the model that it sees rounds its inputs, with a gradient
    straight through. The points it returns are rounded inside the ball, so that a success is one of
    the file. A coordinate of x between two levels stays until a move reaches a level. In Linf, eps
    counts as the largest whole number of levels in it: no file holds a part of one.

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

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        return self.project(self.of.random_start(batch, generator), batch)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        return self.of.step(z, grad, size, batch)

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        if self.p == math.inf:  # between two whole levels a search would see one too many
            return project_linf(z, batch.x, self.eps, self.low, self.high)
        return self.of.project(z, batch)

    def discretize(self, z: Tensor, batch: Batch) -> Tensor:
        box = {"low": self.low, "high": self.high, "levels": self.levels}
        return round_inside_ball(z, batch.x, self.eps, self.p, **box)

    def searched(self, model: Model) -> Model:
        return RoundedInputs(model, low=self.low, high=self.high, levels=self.levels)


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
