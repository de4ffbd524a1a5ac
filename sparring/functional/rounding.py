"""Round points to the levels of a file, such as the 256 of a picture, with or without a ball."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .geometry import flatten_pixels

SLACK = 1e-3  # of a level: float32 keeps 255 levels to 1.5e-5, so this is rounding alone


def round_to_levels(z: Tensor, *, low: float = 0.0, high: float = 1.0, levels: int = 255) -> Tensor:
    """Round to the nearest of `low + k·(high − low)/levels`, k = 0 … levels.

    >>> round_to_levels(torch.tensor([0.1, 0.9]), levels=2)
    tensor([0., 1.])
    """
    k = ((z - low) * (levels / (high - low))).round().clamp(0, levels)
    return level_values(k, low=low, high=high, levels=levels)


def level_values(k: Tensor, *, low: float = 0.0, high: float = 1.0, levels: int = 255) -> Tensor:
    """Return the values of levels; in [0, 1] exactly those of a file's bytes divided by 255."""
    return low + k * (high - low) / levels


def straight_through(z: Tensor, rounded: Tensor) -> Tensor:
    """Return `rounded`, with the gradient of z: that of the rounding itself is 0 almost everywhere.

    Source: Bengio et al. 2013, the straight-through estimator.
    """
    if not z.requires_grad:
        return rounded
    return RoundedForward.apply(z, rounded)  # type: ignore[return-value]


class RoundedForward(torch.autograd.Function):
    """Return the second argument exactly; hand its gradient to the first.

    `z + (rounded − z).detach()` is the usual form. In float32 that sum is often one unit off.
    """

    @staticmethod
    def forward(ctx: object, z: Tensor, rounded: Tensor) -> Tensor:
        """Return the rounded values."""
        return rounded.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """Return the gradient unchanged."""
        return grad, None


def round_inside_ball(
    z: Tensor, x: Tensor, eps: float, p: float, *, low: float, high: float, levels: int
) -> Tensor:
    """Round each coordinate of `z (b, *d)` to the nearest level that stays in the p-ball around x.

    All coordinates go to the level next to them on the side of x, which leaves no ball. Those that
    lie nearer to the level behind go there instead, nearest first, as long as the ball allows it.
    A coordinate with no level between x and z stays at x.

    >>> x = torch.zeros(1, 2)
    >>> z = torch.tensor([[0.9, 0.4]])
    >>> round_inside_ball(z, x, 1.0, math.inf, low=0.0, high=2.0, levels=2)
    tensor([[1., 0.]])
    >>> round_inside_ball(z, x, 0.9, math.inf, low=0.0, high=2.0, levels=2)
    tensor([[0., 0.]])
    """
    scale = levels / (high - low)
    level, centre = ((t.double() - low) * scale for t in (z, x))
    level = level.clamp(0, levels)
    away = torch.where(level >= centre, 1.0, -1.0).double()
    # measured from x outwards, both directions are one case
    towards = torch.where(away > 0, (level + SLACK).floor(), (level - SLACK).ceil())
    on_the_way = away * (towards - centre) > SLACK
    inner = torch.where(on_the_way, towards, centre)
    outer = torch.where(away > 0, (level - SLACK).ceil(), (level + SLACK).floor())
    outer = outer.clamp(0, levels)
    moves = (level - centre).abs() > SLACK
    wanted = moves & ((outer - level).abs() < (inner - level).abs())
    wanted &= away * (outer - inner) > SLACK
    if p == math.inf:
        taken = wanted & ((outer - centre).abs() <= eps * scale + SLACK)
    else:
        gap = torch.where(wanted, (outer - level).abs(), math.inf)
        if p == 0:
            taken = wanted & _affordable_locations(gap, on_the_way, eps)
        else:
            budget = (eps * scale) ** p
            taken = wanted & _affordable(gap, inner - centre, outer - centre, budget, p)
    k = torch.where(taken, outer, inner)
    values = level_values(k.to(z.dtype), low=low, high=high, levels=levels)
    return torch.where(taken | on_the_way, values, x)


def _affordable(gap: Tensor, inner: Tensor, outer: Tensor, budget: float, p: float) -> Tensor:
    """Return which coordinates may take the outer level, the nearest to it first.

    Arguments:
        gap: way to the outer level, inf where it is not wanted.
        inner, outer: the levels, seen from x.
    """
    spent = inner.abs().flatten(1) ** p
    more = torch.where(gap.flatten(1) < math.inf, outer.abs().flatten(1) ** p - spent, 0)
    left = budget * (1 + 1e-9) + 1e-9 - spent.sum(1, keepdim=True)
    return _nearest_first(gap.flatten(1), more, left).view_as(gap)


def _affordable_locations(gap: Tensor, differs: Tensor, budget: float) -> Tensor:
    """Return where the outer level may be taken in L0, which counts pixels and not channels.

    A pixel that differs from x already costs nothing more, in whichever channel.
    """
    used, nearest = flatten_pixels(differs).any(1), flatten_pixels(gap).amin(1)
    more = ((nearest < math.inf) & ~used).double()
    left = budget + 1e-9 - used.sum(1, keepdim=True)
    fits = _nearest_first(nearest, more, left) | used
    return fits[:, None].expand_as(flatten_pixels(gap)).reshape(gap.shape)


def _nearest_first(gap: Tensor, more: Tensor, left: Tensor) -> Tensor:
    """Return which of the smallest gaps `(b, n)` cost no more than is left `(b, 1)` together."""
    order = gap.argsort(dim=1, stable=True)
    fits = more.gather(1, order).cumsum(1) <= left
    return torch.zeros_like(fits).scatter(1, order, fits)
