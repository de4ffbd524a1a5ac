"""Measure how fast softmax changes around points: the slope that data-sparsity methods penalize.

Letters: b points, n neighbours of each, k classes. Distances are in units of `scale`: one input
unit, or one unit per channel.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..batch import Batch, Model
from ..runtime import distributed

MIN_DISTANCE = 1e-12
LogitsAndSlope = tuple[Tensor, Tensor]  # logits (b, k) and GR (b,)


def mean_squared_slope(p: Tensor, near: Tensor, distance: Tensor) -> Tensor:
    """Return GR = 1/(n·k) Σ_j Σ_c ((p_c − q_jc) / d_j)² per point `(b,)`.

    It is differentiable in p and q.

    Arguments:
        p: probabilities `(b, k)`, or one row per neighbour `(b, n, k)`.
        near: probabilities q at the neighbours `(b, n, k)`.
        distance: d `(b, n)`, a constant; a pair at distance 0 counts 0.

    Source: the authors' code (Paknezhad et al. 2022). Differs: theirs is NaN at distance 0.

    >>> p, near = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[[0.6, 0.3, 0.1]]])
    >>> mean_squared_slope(p, near, torch.tensor([[0.5]]))
    tensor([0.0267])
    """
    p = p[:, None] if p.ndim == 2 else p
    is_apart = (distance > 0)[..., None]
    change = torch.where(is_apart, p - near, 0.0)
    slope = change / distance.detach().clamp_min(MIN_DISTANCE)[..., None]
    return slope.square().mean((1, 2))


def neighbour_noise(batch: Batch, note: str, like: Tensor, *counts: int) -> Tensor:
    """Return normal noise `(b, *counts, *d)` for `like (b, *d)`: the batch's note, or a draw."""
    if note in batch.extra:
        return batch.extra[note].to(like)
    return distributed.draw("normal", like.new_empty(len(like), *counts, *like.shape[1:]))


def scaled_length(step: Tensor, scale: Tensor) -> Tensor:
    """Return ‖step / scale‖₂ over all entries of an input: `(b, n)` for `step (b, n, *d)`."""
    return (step / scale).flatten(2).norm(dim=2)


def forward_difference(model: Model, x: Tensor, step: Tensor, scale: Tensor) -> LogitsAndSlope:
    """Return the logits at `x (b, *d)`, and GR from x to x + `step (b, n, *d)`.

    It takes one pass over (1 + n)·b points. The unit `scale` is broadcast over inputs.
    """
    near = x[:, None] + step
    logits, others = _split(model(torch.cat([x, near.flatten(0, 1)])), x, step)
    # The distance of the rounded points, which is not exactly the step's length.
    distance = scaled_length(near - x[:, None], scale)
    return logits, mean_squared_slope(logits.softmax(1), others[0].softmax(2), distance)


def central_difference(model: Model, x: Tensor, step: Tensor, scale: Tensor) -> LogitsAndSlope:
    """Return the logits at x, and GR from x − step to x + step, exact to second order.

    It takes one pass over (1 + 2n)·b points; arguments as in `forward_difference`.
    """
    plus, minus = x[:, None] + step, x[:, None] - step
    points = torch.cat([x, plus.flatten(0, 1), minus.flatten(0, 1)])
    logits, (high, low) = _split(model(points), x, step)
    distance = scaled_length(plus - minus, scale)
    return logits, mean_squared_slope(high.softmax(2), low.softmax(2), distance)


def infinitesimal(model: Model, x: Tensor, step: Tensor, scale: Tensor) -> LogitsAndSlope:
    """Return the logits at x, and the limit of GR as the steps shrink to 0.

    The limit is 1/(n·k) Σ_j ‖J u_j‖², u_j the unit vector along step j. One forward-mode pass over
    n·b points computes J u exactly, and can be differentiated once more.
    """
    b, n = step.shape[:2]
    length = scaled_length(step, scale).clamp_min(MIN_DISTANCE)
    length = length.reshape(b, n, *[1] * (x.ndim - 1))
    with forward_ad.dual_level():
        with warnings.catch_warnings():  # the first dual compiles rules by torch.jit, which warns
            warnings.simplefilter("ignore", DeprecationWarning)
            points = forward_ad.make_dual(x.repeat_interleave(n, 0), (step / length).flatten(0, 1))
        outputs = forward_ad.unpack_dual(model(points))
    p, dz = outputs.primal.softmax(1), outputs.tangent
    dz = torch.zeros_like(p) if dz is None else dz
    rate = p * (dz - (p * dz).sum(1, keepdim=True))
    return outputs.primal[::n], rate.reshape(b, n, -1).square().mean((1, 2))


def _split(logits: Tensor, x: Tensor, step: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the logits at x, and those of each group of neighbours as `(b, n, k)`."""
    b, n = step.shape[:2]
    groups = logits[b:].reshape(-1, b, n, logits.shape[1]) if b else logits.new_zeros(2, 0, n, 1)
    return logits[:b], list(groups)


DIFFERENCES = {"forward": forward_difference, "central": central_difference, "limit": infinitesimal}
