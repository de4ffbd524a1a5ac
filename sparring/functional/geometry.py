"""Geometry of perturbations: norms, projections onto balls inside the box, uniform sampling.

Letters: b batch, d features. `x`, `z` are `(b, *d)`; `eps` is a radius in input units, a float or
`(b,)`. Every projection assumes x inside the box [low, high] and returns the exact nearest point
(up to rounding).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..component import require
from ..runtime import distributed
from .filling import GPU_ROUNDS, fill_evenly, fill_largest_first
from .gradient import input_gradient

SLACK = 1e-6  # rounding that a bound forgives, in input units: see `box_slack` for wider boxes
RELATIVE_SLACK = 1e-5  # the same relative to eps, and to the box when a point is projected
MIN_NORM = 1e-12  # shorter vectors have no direction
SHORT, LONG = 1e-15, 1e15  # beyond, squares may leave the range of float32


def box_slack(low: float, high: float) -> float:
    """Return the rounding that a bound forgives in the box [low, high], in input units: 1e-6, times
    its largest absolute value where that is above 1.

    >>> box_slack(0.0, 1.0), box_slack(-1000.0, 10.0)
    (1e-06, 0.001)
    """
    # float32 keeps 24 bits of a number, and so 6e-5 of 700; a box without an end has no largest
    ends = [abs(end) for end in (low, high) if math.isfinite(end)]
    return SLACK * max(1.0, *ends) if ends else SLACK


def broadcast_scale(v: Tensor | float, like: Tensor) -> Tensor:
    """Return a float or per-sample factor `(b,)`, shaped to broadcast over `like (b, *d)`.

    >>> broadcast_scale(torch.ones(2), torch.zeros(2, 3, 4)).shape
    torch.Size([2, 1, 1])
    """
    # filled on the device: to copy a number there, the host would wait for a GPU
    v = v.to(like) if isinstance(v, Tensor) else like.new_full((), v)
    return broadcast_rows(v, like) if v.ndim else v


def broadcast_rows(v: Tensor, like: Tensor) -> Tensor:
    """Return per-sample values or a mask `(b,)`, shaped to broadcast over `like (b, *d)`.

    >>> broadcast_rows(torch.tensor([True, False]), torch.zeros(2, 3, 4)).shape
    torch.Size([2, 1, 1])
    """
    return v.reshape(-1, *[1] * (like.ndim - 1))


def channel_scale(scale: float | Sequence[float] | Tensor, x: Tensor) -> Tensor:
    """Return `scale`, shaped to broadcast over `x (b, c, …)`: one number > 0, or one per channel.

    Raises:
        ValueError: for another count of numbers.

    >>> channel_scale([0.5, 0.25], torch.zeros(1, 2, 3)).shape
    torch.Size([2, 1])
    """
    if isinstance(scale, Tensor):
        factors = scale.to(x).reshape(-1)
    else:  # filled on the device: a list copied there would make the host wait
        numbers = [scale] if isinstance(scale, int | float) else scale
        factors = torch.cat([x.new_full((1,), number) for number in numbers])
    channels = x.shape[1] if x.ndim > 1 else 1
    require(len(factors) in (1, channels), "len(scale)", len(factors), f"1, or {channels} channels")
    return factors.reshape(-1, *[1] * max(x.ndim - 2, 0))


def norm(delta: Tensor, p: float) -> Tensor:
    """Compute ‖δ_i‖_p per sample `(b,)`; p in 1, 2, inf.

    >>> norm(torch.tensor([[3.0, -4.0]]), 2)
    tensor([5.])
    """
    flat = delta.flatten(1)
    if flat.numel() == 0:
        return flat.sum(1)
    return torch.linalg.vector_norm(flat, ord=p, dim=1)


def normalize(delta: Tensor, p: float) -> Tensor:
    """Return δ_i / ‖δ_i‖_p, and 0 where δ_i = 0."""
    size = norm(delta, p)
    if p != math.inf:
        # gradients of a confident model are that short: by their largest entry first, which leaves
        # vectors of ordinary length to the last bit
        top = norm(delta, math.inf)
        extreme = ((size < SHORT) | (size > LONG)) & (top > 0) & (top < torch.inf)
        delta = delta / broadcast_scale(torch.where(extreme, top, 1.0), delta)
        size = torch.where(extreme, norm(delta, p), size)
    return delta / broadcast_scale(torch.where(size > 0, size, 1.0), delta)


def project_linf(z: Tensor, x: Tensor, eps: Tensor | float, low: float, high: float) -> Tensor:
    """Project z to the nearest point of {‖x' − x‖_∞ ≤ eps} ∩ [low, high]^d: a clip.

    >>> project_linf(torch.tensor([[0.9]]), torch.tensor([[0.5]]), 0.1, 0.0, 1.0)
    tensor([[0.6000]])
    """
    radius = broadcast_scale(eps, x)
    return z.clamp(x - radius, x + radius).clamp(low, high)


def _sign_and_size(z: Tensor, x: Tensor, low: float, high: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return z − x as sign and size `(b, d)`, and the room the box leaves in that direction."""
    u = (z - x).flatten(1)
    flat = x.flatten(1)
    clearance = torch.where(u > 0, high - flat, flat - low).clamp_min(0)
    return u.sign(), u.abs(), clearance


def _point(
    x: Tensor, sign: Tensor, size: Tensor, p: float, radius: Tensor, low: float, high: float
) -> Tensor:
    """Return x plus the displacement, scaled down by the last rounding error above the radius."""
    over = torch.linalg.vector_norm(size, ord=p, dim=1, keepdim=True)
    size = size * (radius / over.clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(1)
    return (x + (sign * size).view_as(x)).clamp(low, high)


def _radius_column(eps: Tensor | float, x: Tensor) -> Tensor:
    column = eps.to(x) if isinstance(eps, Tensor) else x.new_full((1,), eps)
    return column.reshape(-1, 1).expand(len(x), 1)


def project_l2(z: Tensor, x: Tensor, eps: Tensor | float, low: float, high: float) -> Tensor:
    """Project z to the nearest point of {‖x' − x‖₂ ≤ eps} ∩ [low, high]^d.

    With u = z − x the solution is x + sign(u)·min(s·|u|, clearance), for one s in [0, 1] per
    sample (KKT). Its ‖·‖² is piecewise quadratic in s. Solving one piece after another from below
    ends at the exact s, after a handful of pieces. A row that takes more than 12 on a GPU ends
    inside the ball.

    >>> project_l2(torch.tensor([[2.0, 0.5]]), torch.tensor([[0.5, 0.5]]), 0.4, 0.0, 1.0)
    tensor([[0.9000, 0.5000]])
    """
    sign, a, clearance = _sign_and_size(z, x, low, high)
    if a.numel() == 0:
        return z
    radius = _radius_column(eps, x)
    info = torch.finfo(x.dtype)
    scale = (radius / a.norm(dim=1, keepdim=True).clamp_min(info.tiny)).clamp_max(1)
    # a fixed count on a GPU: to stop early, the host would have to wait for each piece
    for _ in range(GPU_ROUNDS if x.is_cuda else a.shape[1] + 1):
        size = torch.minimum(scale * a, clearance)
        left = (radius.square() - size.square().sum(1, keepdim=True)).clamp_min(0)
        free = torch.where(size < clearance, a, 0.0).square().sum(1, keepdim=True)
        longer = (scale.square() + left / free.clamp_min(info.tiny)).sqrt().clamp_max(1)
        if not x.is_cuda and not (longer > scale * (1 + 4 * info.eps)).any():
            break
        scale = longer
    return _point(x, sign, torch.minimum(scale * a, clearance), 2, radius, low, high)


def project_l1(z: Tensor, x: Tensor, eps: Tensor | float, low: float, high: float) -> Tensor:
    """Project z to the nearest point of {‖x' − x‖₁ ≤ eps} ∩ [low, high]^d.

    With u = z − x the solution is x + sign(u)·clip(|u| − τ, 0, clearance), for one τ ≥ 0 per
    sample. Its L1 norm is piecewise linear in τ: the sorted breakpoints |u| and |u| − clearance
    give τ exactly.

    Source: Croce and Hein 2021 (L1-APGD), prop. 2.1.

    >>> project_l1(torch.tensor([[0.9, 0.6]]), torch.tensor([[0.5, 0.5]]), 0.3, 0.0, 1.0)
    tensor([[0.8000, 0.5000]])
    """
    sign, a, clearance = _sign_and_size(z, x, low, high)
    if a.numel() == 0:
        return z
    radius = _radius_column(eps, x)
    clearance = torch.minimum(clearance, a)
    breakpoints, order = torch.cat([a, a - clearance], 1).sort(1, descending=True)
    slope = torch.cat([torch.ones_like(a), -torch.ones_like(a)], 1).gather(1, order).cumsum(1)
    gained = slope[:, :-1] * (breakpoints[:, :-1] - breakpoints[:, 1:])
    total = torch.cat([torch.zeros_like(radius), gained.cumsum(1)], 1)
    reaches = total >= radius
    first = reaches.to(torch.uint8).argmax(1, keepdim=True)
    before = (first - 1).clamp_min(0)
    step = (radius - total.gather(1, before)) / slope.gather(1, before).clamp_min(1)
    tau = torch.where(first > 0, breakpoints.gather(1, before) - step, breakpoints[:, :1])
    tau = torch.where(reaches.any(1, keepdim=True), tau, 0.0).clamp_min(0)
    size = torch.minimum((a - tau).clamp_min(0), clearance)
    return _point(x, sign, size, 1, radius, low, high)


def flatten_pixels(delta: Tensor) -> Tensor:
    """Return `(b, channels, n)`, whose n locations L0 counts: pixels of images, else coordinates.

    >>> flatten_pixels(torch.zeros(2, 3, 4, 5)).shape, flatten_pixels(torch.zeros(2, 6)).shape
    (torch.Size([2, 3, 20]), torch.Size([2, 1, 6]))
    """
    return delta.flatten(2) if delta.ndim == 4 else delta.flatten(1).unsqueeze(1)


def topk_mask(score: Tensor, k: Tensor | float) -> Tensor:
    """Return a mask of the k highest scores per row of `(b, n)`; k a float or `(b,)`, floored."""
    chosen = torch.zeros_like(score, dtype=torch.bool)
    if score.numel() == 0:
        return chosen
    n = score.shape[1]
    if not isinstance(k, Tensor):
        return chosen.scatter(1, score.topk(min(int(k), n), dim=1).indices, True)
    # all on a GPU: to sort the k highest alone, the host would have to wait for k
    most = n if score.is_cuda else min(int(k.max()), n)
    order = score.topk(most, dim=1).indices
    ranks = torch.arange(1, most + 1, device=score.device)
    return chosen.scatter(
        1, order, ranks <= k.to(score.device).reshape(-1, 1).expand(len(score), 1)
    )


def project_l0(z: Tensor, x: Tensor, eps: Tensor | float, low: float, high: float) -> Tensor:
    """Project z to the nearest point of {at most eps locations differ from x} ∩ [low, high]^d.

    A location that may differ goes to clip(z). With u = z − x and r = min(|u|, clearance), that
    brings the point nearer to z by |u|² − |u − r|², summed over channels. The eps locations of
    largest such gain are kept: inside the box those of largest change in L2.

    >>> project_l0(torch.tensor([[0.9, 0.6]]), torch.tensor([[0.5, 0.5]]), 1, 0.0, 1.0)
    tensor([[0.9000, 0.5000]])
    """
    if z.numel() == 0:
        return z
    _, a, clearance = _sign_and_size(z, x, low, high)
    moved = torch.minimum(a, clearance)
    gain = flatten_pixels((moved * (2 * a - moved)).view_as(z)).sum(1)
    keep = topk_mask(gain, eps).unsqueeze(1)
    point = torch.where(keep, flatten_pixels(z.clamp(low, high)), flatten_pixels(x))
    return point.reshape(z.shape)


def sample_linf(
    like: Tensor, eps: Tensor | float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw δ uniformly from the Linf ball, of the shape of `like (b, *d)`."""
    return (distributed.draw("uniform", like, generator) * 2 - 1) * broadcast_scale(eps, like)


def sample_l2(
    like: Tensor, eps: Tensor | float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw δ uniformly from the L2 ball: a Gaussian direction, radius eps·U^(1/d)."""
    direction = normalize(distributed.draw("normal", like, generator), 2)
    return direction * _radial_share(like, generator) * broadcast_scale(eps, like)


def sample_l1(
    like: Tensor, eps: Tensor | float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw δ uniformly from the L1 ball: normalized signed exponentials, radius eps·U^(1/d)."""
    sign = (distributed.draw("uniform", like, generator) < 0.5).to(like.dtype) * 2 - 1
    direction = normalize(sign * distributed.draw("exponential", like, generator), 1)
    return direction * _radial_share(like, generator) * broadcast_scale(eps, like)


def sample_l0(
    x: Tensor,
    eps: Tensor | float,
    low: float,
    high: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a point x' `(b, *d)` that differs from x in eps random locations, uniform in the box."""
    noise = flatten_pixels(low + (high - low) * distributed.draw("uniform", x, generator))
    chosen = topk_mask(distributed.draw("uniform", noise[:, 0], generator), eps).unsqueeze(1)
    return torch.where(chosen, noise, flatten_pixels(x)).reshape(x.shape)


def _radial_share(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw U^(1/d): the share of the radius at which a uniform point of a d-ball lies."""
    d = max(math.prod(like.shape[1:]), 1)
    return broadcast_scale(
        distributed.draw("uniform", like.new_empty(len(like)), generator) ** (1 / d), like
    )


def nearest_hyperplane(margins: Tensor, z: Tensor, p: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the boundary {margins_j = 0}, linearised at z, that is nearest to z in Lp.

    Arguments:
        margins: `(b, m)` differences of logits, computed from `z (b, *d)`, which requires a
            gradient.

    Returns:
        Its margin `(b,)`, the margin's gradient `(b, *d)`, and the distance |margin| / ‖gradient‖_q
        `(b,)`, inf where the gradient is 0. Entries of a gradient that are not finite become 0.

    Raises:
        ValueError: if the margins do not depend on z.

    >>> z = torch.tensor([[0.5, 0.5]], requires_grad=True)
    >>> nearest_hyperplane(torch.stack([z[:, 0] - 1, 5 * z[:, 1] - 3], 1), z, torch.inf)
    (tensor([-0.5000]), tensor([[0., 5.]]), tensor([0.1000]))
    """
    dual = {torch.inf: 1, 2: 2, 1: torch.inf}[p]
    margin, normal = margins.new_zeros(len(z)), torch.zeros_like(z)
    distance = torch.full_like(margin, torch.inf)
    with torch.enable_grad():
        sums = margins.sum(0).unbind()
    # one backward pass per class, and only the nearest is kept: all normals at once take m times
    # the memory
    for j, value in enumerate(margins.detach().unbind(1)):
        grad = input_gradient(sums[j], z, retain_graph=j + 1 < len(sums))
        grad = grad.nan_to_num(0.0, 0.0, 0.0)
        here = (value.abs() / norm(grad, dual)).nan_to_num(torch.inf, torch.inf)
        closer = here < distance
        distance, margin = torch.where(closer, here, distance), torch.where(closer, value, margin)
        normal = torch.where(broadcast_rows(closer, z), grad, normal)
    return margin, normal.detach(), distance


def step_to_hyperplane(
    x: Tensor, w: Tensor, gap: Tensor, p: float, low: float, high: float
) -> Tensor:
    """Return the shortest δ in Lp with gap + w·δ = 0 and x + δ in [low, high]^d.

    Where the box does not reach the plane, δ ends in the corner nearest to it.

    δ_i = −sign(gap·w_i)·u_i with u_i = min(s, room_i) in Linf and min(s·|w_i|, room_i) in L2; in
    L1 the largest |w_i| use up their room first.

    Arguments:
        x: points `(*, b, d)` in the box.
        w: normals `(b, d)`, the same for all of `*`.
        gap: `(*, b)` by how much x misses the plane.

    Source: Croce and Hein 2020, eq. 4. Differs: it does not sort the rooms, and treats |w_i| as 0
    only where it is 0.

    >>> x, w = torch.tensor([[0.5, 0.9]]), torch.tensor([[1.0, 1.0]])
    >>> step_to_hyperplane(x, w, torch.tensor([-0.5]), torch.inf, 0.0, 1.0)
    tensor([[0.4000, 0.1000]])
    """
    tiny = torch.finfo(w.dtype).tiny
    # the plane is the same at any scale of w and gap: with max |w| = 1 no sum over- or underflows
    top = w.abs().amax(1, keepdim=True).clamp_min(tiny)
    size, need = w.abs() / top, gap.abs()[..., None] / top
    way = -w.sign() * gap.sign()[..., None]
    room = torch.where(way > 0, high - x, x - low).clamp_min(0)
    if p == 1:
        return way * fill_largest_first(size, room, need)
    rate = torch.ones_like(size) if p == torch.inf else size
    return way * fill_evenly(size, rate, room, need)


def alignment(clean: Tensor, adversarial: Tensor, *, kind: str = "cosine") -> tuple[Tensor, Tensor]:
    """Measure how far two input gradients `(b, *d)` are apart, `(b,)`; return where both count too.

    `"cosine"`: 1 − ⟨G, G'⟩/(‖G‖‖G'‖), free of scale; `"l2"`: ‖G − G'‖². Where one is shorter
    than 1e-12, the value is 0 and the mask False.

    Source: Andriushchenko and Flammarion 2020 (the cosine). Differs: no 1e-12 is added to the
    norms' product, which would outweigh that of gradients of 1e-7.

    >>> alignment(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    (tensor([1.]), tensor([True]))
    """
    # squares of bfloat16 gradients are too coarse to sum: float32 or wider
    wide = torch.promote_types(clean.dtype, torch.float32)
    g, h = (t.flatten(1).to(wide) for t in (clean, adversarial))
    squares = torch.stack([g.square().sum(1), h.square().sum(1)])
    valid = (squares > MIN_NORM**2).all(0)
    if kind == "l2":
        return torch.where(valid, (g - h).square().sum(1), 0.0), valid
    norms = torch.where(valid, squares, 1.0).sqrt().prod(0)
    return torch.where(valid, 1 - (g * h).sum(1) / norms, 0.0), valid
