"""Binary features: a few of them flipped, or only added."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..functional.geometry import highest, project_l1
from ..runtime import distributed
from .base import Threat


def project_moved(z: Tensor, x: Tensor, eps: float, low: float, high: float) -> Tensor:
    """As `project_l1` of `z (b, d)`, in the time of the coordinates that differ from x.

    >>> project_moved(torch.tensor([[0.9, 0.0, 0.0, 0.6]]), torch.zeros(1, 4), 0.7, 0.0, 1.0)
    tensor([[0.5000, 0.0000, 0.0000, 0.2000]])
    """
    most = int((z != x).sum(1).max()) if len(z) else 0
    if 2 * most > z.shape[1] or most == 0:
        return project_l1(z, x, eps, low, high)
    at = (z - x).abs().topk(most, 1).indices
    found = project_l1(z.gather(1, at), x.gather(1, at), eps, low, high)
    return x.scatter(1, at, found)


class Bits(Threat):
    """{x' ∈ {low, high}^d : at most eps features differ from x}, and no feature is taken away.

    A search moves in the relaxation, z ∈ [low, high]^d with Σ|z − x| ≤ eps·(high − low);
    `discretize` ends at bits.

    Arguments:
        eps: how many features may flip, a whole number ≥ 0, or inf.
        add_only: features that x has stay, as in software that must go on working.
        mutable: `d` zeros and ones, the features that an attacker can change; None is all.
        low, high: an absent and a present feature.
        scale, power: the cost is scale·h^power, h the flips, Σ|z − x| in the relaxation: ARMOR's
            L‖x' − x‖_p^q with scale = L and power = q/p.

    A step goes by `size` (high − low at most) along sign(g) in the eps features of largest |g| that
    can go that way, and in those it takes back.

    Raises:
        ValueError: for a value outside what is said above, an x that is not binary, or a mask of
            another length than x.

    Source: Al-Dujaili et al. 2018 for the relaxation and the rounding at ½. Differs: a budget, and
    a mask.

    >>> x, y = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([0])
    >>> Bits(1).discretize(torch.tensor([[0.75, 0.0, 1.0]]), Batch(x, y))
    tensor([[0., 1., 1.]])
    """

    paper = "aldujaili2018adversarial"
    eps: float
    binary = True
    _mask: Tensor | None

    def __init__(
        self,
        eps: float = math.inf,
        *,
        add_only: bool = True,
        mutable: Sequence[int] | None = None,
        low: float = 0.0,
        high: float = 1.0,
        scale: float = 0.0,
        power: float = 1.0,
    ) -> None:
        super().__init__()
        whole = eps >= 0 and (eps == math.inf or float(eps).is_integer())
        require(whole, "eps", eps, "a whole number of flips ≥ 0, or inf")
        require(low < high, "low", low, f"below high = {high}")
        require(scale >= 0, "scale", scale, "a price of a flip ≥ 0")
        require(power > 0, "power", power, "a power > 0 of the number of flips")
        odd = next((m for m in mutable or () if m not in (0, 1)), None)
        require(odd is None, "mutable", odd, "zeros and ones, one a feature")
        self.eps, self.add_only, self.mutable = eps, add_only, mutable
        self.low, self.high, self.scale, self.power = low, high, scale, power
        mask = None if mutable is None else torch.tensor([bool(m) for m in mutable])
        self.register_buffer("_mask", mask, persistent=False)

    def check(self, x: Tensor) -> Tensor:
        """x, if it is binary; `start` and `discretize` ask, the verbs between them do not.

        Raises:
            ValueError: naming a value that is no bit.
        """
        odd = (x != self.low) & (x != self.high)
        if odd.any():
            raise ValueError(
                f"x has the value {x[odd][0].item():g}: for Bits every feature must be "
                f"{self.low:g} or {self.high:g}"
            )
        return x

    def free(self, x: Tensor) -> Tensor:
        """The features that may flip `(b, *d)`, the budget aside.

        Raises:
            ValueError: if `mutable` has another length than a row of x.
        """
        absent = x == self.low if self.add_only else torch.ones_like(x, dtype=torch.bool)
        mask, d = self._mask, math.prod(x.shape[1:])
        if mask is None:
            return absent
        if len(mask) != d:
            raise ValueError(
                f"mutable has {len(mask)} entries and x has {d} features: "
                "mutable must have one a feature"
            )
        return absent & mask.to(x.device).view(x.shape[1:])

    def admissible(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Which points are binary, within the budget, and flip nothing that may not `(b,)`."""
        binary = (x_adv == self.low) | (x_adv == self.high)
        flipped = x_adv != x
        ok = binary & (~flipped | self.free(x))
        return ok.flatten(1).all(1) & (flipped.flatten(1).sum(1) <= self.eps)

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """eps random features that may flip, uniform between low and high there."""
        x = self.check(batch.x)
        free, to = self.free(x), self._other(x)
        if self.eps < math.prod(x.shape[1:]):
            order = torch.where(free, distributed.draw("uniform", x, generator), -1)
            free = free & highest(order.flatten(1), self.eps).view_as(x)
        return torch.where(free, x + (to - x) * distributed.draw("uniform", x, generator), x)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        x = batch.x
        gain = torch.where(x == self.low, grad, -grad)  # of going away from x
        away, back = self.free(x) & (gain > 0), (z != x) & (gain < 0)
        if self.eps < math.prod(x.shape[1:]):
            away = away & highest(torch.where(away, gain, 0).flatten(1), self.eps).view_as(z)
        along = torch.where(away | back, grad.sign(), 0)
        return z + min(size, self.high - self.low) * along

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        x = batch.x
        z = torch.where(self.free(x), z, x)
        near = z.clamp(self.low, self.high)
        if self.eps >= math.prod(x.shape[1:]):
            return near
        over = self.distance(near, x) > self.eps
        if over.any():
            near[over] = project_moved(
                z[over].flatten(1),
                x[over].flatten(1),
                self.eps * (self.high - self.low),
                self.low,
                self.high,
            ).view_as(x[over])
        return near

    def discretize(self, z: Tensor, batch: Batch) -> Tensor:
        """Flip what has gone more than half the way, the eps furthest at most."""
        x = self.check(batch.x)
        moved = torch.where(self.free(x), (z - x).abs(), 0)
        flips = moved > (self.high - self.low) / 2
        if self.eps < math.prod(x.shape[1:]):
            flips = flips & highest(moved.flatten(1), self.eps).view_as(x)
        return torch.where(flips, self._other(x), x)

    def cost(self, z: Tensor, batch: Batch) -> Tensor:
        if self.scale == 0:
            return super().cost(z, batch)
        x, width = batch.x, self.high - self.low
        # one side of |z - x| is all that the box leaves: so it has a slope at x too
        flips = ((z - x) * (self._other(x) - x)).flatten(1).sum(1) / width**2
        if self.power >= 1:
            return self.scale * flips.clamp_min(0) ** self.power
        moves = flips > 0
        return self.scale * torch.where(moves, torch.where(moves, flips, 1) ** self.power, 0)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """How many features differ `(b,)`; Σ|z − x| in the relaxation."""
        return (x_adv - x).abs().flatten(1).sum(1) / (self.high - self.low)

    def _other(self, x: Tensor) -> Tensor:
        """Every bit flipped."""
        return torch.where(x == self.low, self.high, self.low).to(x.dtype)
