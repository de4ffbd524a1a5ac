"""The L0 ball inside the box: few locations, each changed at will."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..functional.geometry import flatten_pixels, project_l0, sample_l0, topk_mask
from .base import Ball


class L0(Ball):
    """Let the adversary change at most eps locations.
    {x' : at most eps locations differ from x} ∩ [low, high]^d. A location is a pixel with all its
    channels in images `(b, c, h, w)`, else one coordinate.

    Arguments:
        eps: number of locations, a whole number ≥ 0.
        init: where a random start lies: `"uniform"`, eps random locations uniform in the box;
            `"noise"`, N(0, noise²), whose eps largest changes the projection keeps; `"zero"`, at x.
        noise: standard deviation of the `"noise"` start, in input units.

    A step of length `size` counts locations as eps does. It moves the ⌈size⌉ locations (eps at
    most) of largest Σ_c |g|·room to the box's edge, where room is the way to that edge along g.
    The projection then keeps the largest changes, whatever they gain: attacks made for L0 do
    better.

    Source: Croce and Hein 2019 (sparse and imperceivable attacks) for the projection. Differs: it
    returns the nearest point also where z left the box.

    >>> import torch
    >>> x, y = torch.tensor([[0.5, 0.5]]), torch.tensor([0])
    >>> L0(1).project(torch.tensor([[0.75, 0.0]]), Batch(x, y))
    tensor([[0.5000, 0.0000]])
    """

    p = 0
    projection = staticmethod(project_l0)
    sample = staticmethod(sample_l0)

    def __init__(
        self,
        eps: float,
        *,
        low: float = 0.0,
        high: float = 1.0,
        init: str = "uniform",
        noise: float = 0.001,
    ) -> None:
        whole = eps >= 0 and float(eps).is_integer()
        require(whole, "eps", eps, "a whole number of locations ≥ 0")
        super().__init__(eps, low=low, high=high, init=init, noise=noise)

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        if self.init != "uniform":
            return super().random_start(batch, generator)
        return self.sample(batch.x, self.eps, self.low, self.high, generator)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        # a changed location costs the same however far it goes: so it goes to the edge
        edge = torch.where(grad > 0, self.high, torch.where(grad < 0, self.low, z))
        gain = flatten_pixels(grad * (edge - z)).sum(1)
        chosen = topk_mask(gain, min(math.ceil(size), self.eps)) & (gain > 0)
        moved = torch.where(chosen.unsqueeze(1), flatten_pixels(edge), flatten_pixels(z))
        return moved.reshape(z.shape)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (flatten_pixels(x_adv) != flatten_pixels(x)).any(1).sum(1).to(x.dtype)
