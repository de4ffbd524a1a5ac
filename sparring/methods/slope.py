"""How fast softmax changes around points: what the data-sparsity methods keep small.

Letters: b points, n neighbours of each, k classes. Distances are in units of `scale`, an input unit
or one a channel.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

Model = Callable[[Tensor], Tensor]
LEAST = 1e-12


def slope(p: Tensor, near: Tensor, distance: Tensor) -> Tensor:
    """GR = 1/(n·k) Σ_j Σ_c ((p_c − q_jc) / d_j)² per point `(b,)`; differentiable in p and q.

    Arguments:
        p: probabilities `(b, k)`, or one a neighbour `(b, n, k)`.
        near: probabilities at the neighbours `(b, n, k)`.
        distance: `(b, n)`, a constant; where it is 0 the pair counts 0.

    Source: the authors' code (Paknezhad et al. 2022). Differs: theirs is NaN at distance 0.

    >>> p, near = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[[0.6, 0.3, 0.1]]])
    >>> slope(p, near, torch.tensor([[0.5]]))
    tensor([0.0267])
    """
    p = p[:, None] if p.ndim == 2 else p
    apart = (distance > 0)[..., None]
    steep = torch.where(apart, p - near, 0.0) / distance.detach().clamp_min(LEAST)[..., None]
    return steep.square().mean((1, 2))


def length(step: Tensor, scale: Tensor) -> Tensor:
    """‖step / scale‖₂ over all entries of an input, `(b, n)` of `step (b, n, *d)`."""
    return (step / scale).flatten(2).norm(dim=2)


def forward(model: Model, x: Tensor, step: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Logits at `x (b, *d)`, and the slope from x to x + step; one pass over (1 + n)·b points.

    Arguments:
        step: `(b, n, *d)`.
    """
    near = x[:, None] + step
    logits, others = _split(model(torch.cat([x, near.flatten(0, 1)])), x, step)
    apart = length(near - x[:, None], scale)
    return logits, slope(logits.softmax(1), others[0].softmax(2), apart)


def central(model: Model, x: Tensor, step: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The same from x − step to x + step: exact to second order, over (1 + 2n)·b points."""
    plus, minus = x[:, None] + step, x[:, None] - step
    points = torch.cat([x, plus.flatten(0, 1), minus.flatten(0, 1)])
    logits, (high, low) = _split(model(points), x, step)
    return logits, slope(high.softmax(2), low.softmax(2), length(plus - minus, scale))


def limit(model: Model, x: Tensor, step: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The same for steps that shrink to 0: 1/(n·k) Σ_j ‖J u_j‖², u_j the unit vector along step j.

    One forward-mode pass over n·b points gives J u exactly; it can be differentiated once more.
    """
    b, n = step.shape[:2]
    far = length(step, scale).clamp_min(LEAST).reshape(b, n, *[1] * (x.ndim - 1))
    with forward_ad.dual_level():
        with warnings.catch_warnings():  # the first dual compiles rules by torch.jit, which warns
            warnings.simplefilter("ignore", DeprecationWarning)
            points = forward_ad.make_dual(x.repeat_interleave(n, 0), (step / far).flatten(0, 1))
        found = forward_ad.unpack_dual(model(points))
    p, dz = found.primal.softmax(1), found.tangent
    rate = p * (dz - (p * dz).sum(1, keepdim=True))
    return found.primal[::n], rate.reshape(b, n, -1).square().mean((1, 2))


def _split(logits: Tensor, x: Tensor, step: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The logits at x, and those of each group of neighbours as `(b, n, k)`."""
    b, n = step.shape[:2]
    groups = logits[b:].reshape(-1, b, n, logits.shape[1]) if b else logits.new_zeros(2, 0, n, 1)
    return logits[:b], list(groups)


DIFFERENCES = {"forward": forward, "central": central, "limit": limit}
