"""The Linf ball with a soft edge (UDR)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..component import require
from ..functional.geometry import norm, project_linf, sample_linf
from ..runtime import distributed
from .base import Threat, check_bounds, require_in_box

FOLLOWS = ("distance", "price")


def soft_clip(z: Tensor, x: Tensor, radius: float, factor: Tensor | float) -> Tensor:
    """Pull each δ_j = z_j − x_j beyond the radius back by factor·(|δ_j| − radius).

    Factor 1 ends at the ball's edge.

    >>> soft_clip(torch.tensor([0.1, -0.5]), torch.zeros(2), 0.25, 0.5)
    tensor([ 0.1000, -0.3750])
    """
    near = z.clamp(x - radius, x + radius)
    # exactly z inside, exactly `near` with factor 1: there `SoftLinf` is `Linf` bit for bit
    return torch.where(z == near, z, near + (1 - factor) * (z - near))


class SoftLinf(Threat):
    """Let the adversary leave an Linf ball, but pull it back in each step of length a:

    δ_j ← δ_j − λ·(a/tau)·(δ_j − radius·sign δ_j) where |δ_j| > radius,

    then clipped to the box. λ·a/tau = 1 is `Linf`. By default λ follows the distance: every `every`
    batches λ ← λ − rate·(radius − mean |δ_j|), never below 0.

    The pull is the slope of the cost, so the gradient of a search leaves the cost out. The set is
    the box, so no point is infeasible: evaluate in a ball.

    Arguments:
        radius: r of the ball, in input units.
        tau: softness, in input units; None is the step's own length, as published.
        multiplier: λ to begin with; `current_multiplier` is the one in force.
        rate, every: step and period, in batches, of the update of λ; rate 0 leaves λ as it is.
        follows: what λ follows: `"distance"`, as above; or `"price"`, where it is the risk's
            multiplier of the cost, as in ARMOR + UDR.
        lag: pull by what δ was before the ascent step. With λ·a/tau = 1 a point then stands at
            radius + a, and pays for it.
        scale: the cost is (scale/tau)·½Σ_j(|δ_j| − radius)₊², for a risk that counts it (ARMOR +
            UDR); with 0, as in UDR, the edge acts in the steps alone.

    Raises:
        ValueError: for a negative number, every < 1, an unknown `follows`, or a scale without tau.

    Source: Bui et al. 2022; `follows="price"` with `lag` is the attack of ARMOR's code of 2025.
    Differs: λ stays ≥ 0; its first update comes after `every` batches, in Bui's code after one.

    >>> x, y = torch.full((1, 2), 0.5), torch.tensor([0])
    >>> SoftLinf(0.1, multiplier=0.5).step(x, torch.tensor([[1.0, -1.0]]), 0.2, Batch(x, y))
    tensor([[0.6500, 0.3500]])
    """

    paper = "bui2022udr"
    current_multiplier: Tensor
    _sum: Tensor
    _batches: Tensor

    def __init__(
        self,
        radius: float,
        *,
        low: float = 0.0,
        high: float = 1.0,
        tau: float | None = None,
        multiplier: float = 1.0,
        rate: float = 0.02,
        every: int = 10,
        scale: float = 0.0,
        follows: str = "distance",
        lag: bool = False,
    ) -> None:
        super().__init__()
        require(radius >= 0, "radius", radius, "a radius ≥ 0 in input units")
        check_bounds(low, high)
        require(tau is None or tau > 0, "tau", tau, "a length > 0, or None for the step's")
        require(multiplier >= 0, "multiplier", multiplier, "a number ≥ 0")
        require(rate >= 0, "rate", rate, "a number ≥ 0")
        require(every >= 1, "every", every, "a number of batches ≥ 1")
        require(scale >= 0, "scale", scale, "a number ≥ 0")
        require(scale == 0 or tau is not None, "tau", tau, "given, if scale > 0")
        require(follows in FOLLOWS, "follows", follows, "one of " + ", ".join(FOLLOWS))
        self.radius, self.low, self.high, self.tau = radius, low, high, tau
        self.multiplier, self.rate, self.every, self.scale = multiplier, rate, every, scale
        self.follows, self.lag = follows, lag
        self.register_buffer("current_multiplier", torch.tensor(float(multiplier)))
        self.register_buffer("_sum", torch.tensor(0.0))
        self.register_buffer("_batches", torch.tensor(0))

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Draw a point uniformly from the ball, clipped to the box."""
        x, delta = batch.x, sample_linf(batch.x, self.radius, generator)
        return project_linf(x + delta, x, self.radius, self.low, self.high)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        price = batch.price if self.follows == "price" else None
        multiplier = self.current_multiplier if price is None else price
        factor = multiplier * (1.0 if self.tau is None else size / self.tau)
        ascent = size * grad.sign()
        if self.lag:
            return soft_clip(z, batch.x, self.radius, factor) + ascent
        return soft_clip(z + ascent, batch.x, self.radius, factor)

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        return z.clamp(self.low, self.high)

    def cost(self, z: Tensor, batch: Batch) -> Tensor:
        if self.tau is None:
            return super().cost(z, batch)
        over = ((z - batch.x).abs() - self.radius).clamp_min(0).flatten(1)
        return self.scale / self.tau * over.square().sum(1) / 2

    def searched_cost(self, z: Tensor, batch: Batch) -> Tensor:
        return self.cost(z.detach(), batch)  # the pull of a step is its slope

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return norm(x_adv - x, math.inf)

    def check_reachable(self, shape: Sequence[int], *, by_row: bool = False) -> None:
        require_in_box(self, "radius", self.radius, shape, p=math.inf)

    def update(self, model: nn.Module, batch: Batch) -> None:
        if batch.x_adv is None:
            return
        # The joint mean, in which a process without rows of its own takes part: `Only` leaves some
        # of them none, and the others would wait for it.
        distances = (batch.x_adv - batch.x).abs().flatten(1).mean(1).to(self._sum)
        local = torch.stack([distances.sum(), distances.new_tensor(float(len(batch)))])
        total, rows = distributed.mean(local)
        # tensors and `where`, not ints and `if`: nothing waits for the GPU, and checkpoints save it
        counts = rows > 0
        self._sum = self._sum + torch.where(counts, total / rows, 0.0)
        self._batches = self._batches + counts
        done = self._batches >= self.every
        moved = self.current_multiplier - self.rate * (self.radius - self._sum / self.every)
        self.current_multiplier = torch.where(done, moved.clamp_min(0), self.current_multiplier)
        self._sum = torch.where(done, 0.0, self._sum)
        self._batches = torch.where(done, 0, self._batches)
