"""What an adversary may do: where it stands, how it moves, what it pays. Every verb is handed the
batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ..batch import Batch
from ..component import Component, require
from ..functional.geometry import norm
from ..runtime import distributed

INITS = ("uniform", "noise", "zero")


class Threat(Component):
    """Where the adversary may go (S) and what it pays (c). Subclasses override what differs from
    the defaults.

    A point `z` is whatever the threat packs; by default it is the adversarial input `(b, *d)`
    itself.

    Attributes:
        eps: radius in input units; None where the threat has none, as `Transport` and `Box`.
        binary: every feature is low or high, and a search between them ends with `discretize`.
        labels: a point holds a label too: `unpack` gives soft labels; only a trainer can use it.
    """

    eps: float | None = None
    binary: bool = False
    labels: bool = False
    low: float = 0.0
    high: float = 1.0

    @property
    def reach(self) -> float:
        """The length that step sizes are measured by: eps, or the width of the box without one."""
        return self.high - self.low if self.eps is None else self.eps

    def pack(self, batch: Batch) -> Tensor:
        """Where the adversary stands before it moves: z `(b, *d)`."""
        return batch.x

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """A random feasible point."""
        return self.pack(batch)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        """Steepest ascent by `size` input units in this geometry; may leave the set."""
        raise NotImplementedError

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        """The nearest feasible point."""
        raise NotImplementedError

    def cost(self, z: Tensor, batch: Batch) -> Tensor:
        """Price-free transport cost `(b,)`; 0 for hard balls."""
        return torch.zeros(len(z), dtype=z.dtype, device=z.device)

    def discretize(self, z: Tensor, batch: Batch) -> Tensor:
        """The nearest admissible point, for discrete sets."""
        return z

    def unpack(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Unpack z into `(x_adv, y_adv)`."""
        return z, batch.y

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """How far x_adv is from x `(b,)`, in the units of `eps`; 0 where the threat has no
        radius."""
        return torch.zeros(len(x), dtype=x.dtype, device=x.device)


class Ball(Threat):
    """{x' : ‖x' − x‖_p ≤ eps} ∩ [low, high]^d; a leaf names its p, its projection, its sampler and
    its step.

    Arguments:
        eps: radius in input units.
        init: where a random start lies: `"uniform"` in the ball, then clipped to the box;
            `"noise"`, N(0, noise²), then projected (TRADES, MART); `"zero"`, at x.
        noise: standard deviation of the `"noise"` start, in input units.

    Raises:
        ValueError: if eps < 0, low ≥ high, noise < 0, or init is unknown.
    """

    eps: float
    p: ClassVar[float]
    projection: ClassVar[Callable[..., Tensor]]
    sample: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        eps: float,
        *,
        low: float = 0.0,
        high: float = 1.0,
        init: str = "uniform",
        noise: float = 0.001,
    ) -> None:
        super().__init__()
        require(eps >= 0, "eps", eps, "a radius ≥ 0 in input units")
        require(low < high, "low", low, f"below high = {high}")
        require(init in INITS, "init", init, "one of " + ", ".join(INITS))
        require(noise >= 0, "noise", noise, "a standard deviation ≥ 0")
        self.eps, self.low, self.high, self.init, self.noise = eps, low, high, init, noise

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        if self.init == "zero":
            return self.pack(batch)
        if self.init == "uniform":
            delta = self.sample(batch.x, self.eps, generator)
        else:
            delta = self.noise * distributed.draw("normal", batch.x, generator)
        return self.project(batch.x + delta, batch)

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        return self.projection(z, batch.x, self.eps, self.low, self.high)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return norm(x_adv - x, self.p)
