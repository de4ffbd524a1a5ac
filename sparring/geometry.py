"""Pure geometry of perturbations: norms, projections onto balls intersected with the box, uniform
sampling.

Letters: b batch, d features. `x`, `z` are `(b, *d)`; `eps` is a radius in input units, a float or
`(b,)`. Every projection assumes x inside the box [low, high] and returns the exact nearest point
(up to rounding).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import dist


def expand(v: Tensor | float, like: Tensor) -> Tensor:
    """A float or per-sample `(b,)` value shaped to broadcast over `like (b, *d)`.

    >>> expand(torch.ones(2), torch.zeros(2, 3, 4)).shape
    torch.Size([2, 1, 1])
    """
    v = torch.as_tensor(v, dtype=like.dtype, device=like.device)
    return v.reshape(-1, *[1] * (like.ndim - 1)) if v.ndim else v


def norm(delta: Tensor, p: float) -> Tensor:
    """‖δ_i‖_p per sample `(b,)`; p in 1, 2, inf.

    >>> norm(torch.tensor([[3.0, -4.0]]), 2)
    tensor([5.])
    """
    flat = delta.flatten(1)
    if flat.numel() == 0:
        return flat.sum(1)
    return torch.linalg.vector_norm(flat, ord=p, dim=1)


def unit(delta: Tensor, p: float) -> Tensor:
    """δ_i / ‖δ_i‖_p, and 0 where δ_i = 0."""
    size = norm(delta, p)
    return delta / expand(torch.where(size > 0, size, 1.0), delta)


def project_linf(z: Tensor, x: Tensor, eps: Tensor | float, low: float, high: float) -> Tensor:
    """Nearest point to `z` in {‖x' − x‖_∞ ≤ eps} ∩ [low, high]^d: a clip.

    >>> project_linf(torch.tensor([[0.9]]), torch.tensor([[0.5]]), 0.1, 0.0, 1.0)
    tensor([[0.6000]])
    """
    radius = expand(eps, x)
    return z.clamp(x - radius, x + radius).clamp(low, high)


def _split(z: Tensor, x: Tensor, low: float, high: float) -> tuple[Tensor, Tensor, Tensor]:
    """Displacement as sign and size `(b, d)`, and the room the box leaves in that direction."""
    u = (z - x).flatten(1)
    flat = x.flatten(1)
    room = torch.where(u > 0, high - flat, flat - low).clamp_min(0)
    return u.sign(), u.abs(), room


def _join(
    x: Tensor, sign: Tensor, size: Tensor, p: float, radius: Tensor, low: float, high: float
) -> Tensor:
    """Back to a point; shrinks away the last rounding error above the radius."""
    over = torch.linalg.vector_norm(size, ord=p, dim=1, keepdim=True)
    size = size * (radius / over.clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(1)
    return (x + (sign * size).view_as(x)).clamp(low, high)


def _radius(eps: Tensor | float, x: Tensor) -> Tensor:
    return torch.as_tensor(eps, dtype=x.dtype, device=x.device).reshape(-1, 1).expand(len(x), 1)


def project_l2(z: Tensor, x: Tensor, eps: Tensor | float, low: float, high: float) -> Tensor:
    """Nearest point to `z` in {‖x' − x‖₂ ≤ eps} ∩ [low, high]^d.

    The solution is x + sign(u)·min(s·|u|, room) for one s in [0, 1] a sample (KKT); ‖·‖² of it is
    piecewise quadratic in s, so s is found exactly from the sorted break points room/|u|.

    >>> project_l2(torch.tensor([[2.0, 0.5]]), torch.tensor([[0.5, 0.5]]), 0.4, 0.0, 1.0)
    tensor([[0.9000, 0.5000]])
    """
    sign, a, room = _split(z, x, low, high)
    if a.numel() == 0:
        return z
    radius = _radius(eps, x)
    moves = a > 0
    at, order = torch.where(moves, room / torch.where(moves, a, 1.0), 0.0).sort(1)
    full = torch.where(moves, room, 0.0).square().gather(1, order)
    free = a.square().gather(1, order)
    stuck = full.cumsum(1) - full
    rest = free.flip(1).cumsum(1).flip(1)
    reaches = stuck + at.square() * rest >= radius.square()
    first = reaches.to(torch.uint8).argmax(1, keepdim=True)
    left = (radius.square() - stuck.gather(1, first)).clamp_min(0)
    slope = rest.gather(1, first).clamp_min(torch.finfo(x.dtype).tiny)
    least = torch.where(first > 0, at.gather(1, (first - 1).clamp_min(0)), 0.0)
    scale = torch.maximum((left / slope).sqrt(), least)  # rounding may leave nothing for the rest
    scale = torch.where(reaches.any(1, keepdim=True), scale, 1.0).clamp_max(1)
    return _join(x, sign, torch.minimum(scale * a, room), 2, radius, low, high)


def project_l1(z: Tensor, x: Tensor, eps: Tensor | float, low: float, high: float) -> Tensor:
    """Nearest point to `z` in {‖x' − x‖₁ ≤ eps} ∩ [low, high]^d.

    The solution is x + sign(u)·clip(|u| − τ, 0, room) for one τ ≥ 0 a sample; its L1 norm is
    piecewise linear in τ, so τ is found exactly from the sorted break points |u| and |u| − room.

    Source: Croce and Hein 2021 (L1-APGD), prop. 2.1.

    >>> project_l1(torch.tensor([[0.9, 0.6]]), torch.tensor([[0.5, 0.5]]), 0.3, 0.0, 1.0)
    tensor([[0.8000, 0.5000]])
    """
    sign, a, room = _split(z, x, low, high)
    if a.numel() == 0:
        return z
    radius = _radius(eps, x)
    room = torch.minimum(room, a)
    at, order = torch.cat([a, a - room], 1).sort(1, descending=True)
    slope = torch.cat([torch.ones_like(a), -torch.ones_like(a)], 1).gather(1, order).cumsum(1)
    gained = slope[:, :-1] * (at[:, :-1] - at[:, 1:])
    total = torch.cat([torch.zeros_like(radius), gained.cumsum(1)], 1)
    reaches = total >= radius
    first = reaches.to(torch.uint8).argmax(1, keepdim=True)
    before = (first - 1).clamp_min(0)
    step = (radius - total.gather(1, before)) / slope.gather(1, before).clamp_min(1)
    tau = torch.where(first > 0, at.gather(1, before) - step, at[:, :1])
    tau = torch.where(reaches.any(1, keepdim=True), tau, 0.0).clamp_min(0)
    size = torch.minimum((a - tau).clamp_min(0), room)
    return _join(x, sign, size, 1, radius, low, high)


def sample_linf(
    like: Tensor, eps: Tensor | float, generator: torch.Generator | None = None
) -> Tensor:
    """δ uniform in the Linf ball, of the shape of `like (b, *d)`."""
    return (dist.draw("uniform", like, generator) * 2 - 1) * expand(eps, like)


def sample_l2(
    like: Tensor, eps: Tensor | float, generator: torch.Generator | None = None
) -> Tensor:
    """δ uniform in the L2 ball: a Gaussian direction, radius eps·U^(1/d)."""
    direction = unit(dist.draw("normal", like, generator), 2)
    return direction * _depth(like, generator) * expand(eps, like)


def sample_l1(
    like: Tensor, eps: Tensor | float, generator: torch.Generator | None = None
) -> Tensor:
    """δ uniform in the L1 ball: normalized signed exponentials, radius eps·U^(1/d)."""
    sign = (dist.draw("uniform", like, generator) < 0.5).to(like.dtype) * 2 - 1
    direction = unit(sign * dist.draw("exponential", like, generator), 1)
    return direction * _depth(like, generator) * expand(eps, like)


def _depth(like: Tensor, generator: torch.Generator | None) -> Tensor:
    d = max(math.prod(like.shape[1:]), 1)
    return expand(dist.draw("uniform", like.new_empty(len(like)), generator) ** (1 / d), like)
