"""Optimal transport between two batches: sliced Wasserstein, Sinkhorn divergence, ground costs.

Letters: b batch, d features, m slices. Both batches are clouds of mass 1/b per point; mass moves
from `source` to `target`. All is differentiable in both. Matchings and potentials count as
constants, which is exact because they are optimal (envelope theorem).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..component import require
from .geometry import norm, normalize

SLICE_LAWS = ("sphere", "cube", "orthonormal")
COSTS = ("squared", "half-squared", "distance")


def random_slices(
    like: Tensor, count: int = 32, *, law: str = "sphere", generator: torch.Generator | None = None
) -> Tensor:
    """Draw random unit vectors θ `(m, d)`, the slices, for clouds `like (b, d)`.

    Arguments:
        count: m.
        law: `"sphere"`, uniform (a Gaussian, normalised); `"cube"`, uniform in [−1, 1]^d and
            normalised, which prefers corners: OTJR's code; `"orthonormal"`, blocks of d
            orthonormal vectors, each uniform: less noise for the same m.
        generator: on the device of `like`; default: the global one.

    Raises:
        ValueError: for another law, or count < 1.

    >>> random_slices(torch.zeros(5, 3), 4).norm(dim=1).allclose(torch.ones(4))
    True
    """
    require(law in SLICE_LAWS, "law", law, "one of " + ", ".join(SLICE_LAWS))
    require(count >= 1, "count", count, "a number of slices ≥ 1")
    d = like.shape[1]
    blocks = -(-count // max(d, 1)) if law == "orthonormal" else 1
    shape = (blocks, d, d) if law == "orthonormal" else (count, d)
    theta = torch.empty(shape, dtype=like.dtype, device=like.device)
    if law == "orthonormal":  # in float32 or wider, as PyTorch decomposes
        theta = theta.to(torch.promote_types(like.dtype, torch.float32))
    if law == "cube":
        return normalize(theta.uniform_(-1, 1, generator=generator), 2)
    theta.normal_(generator=generator)
    if law == "sphere":
        return normalize(theta, 2)
    # the signs of r's diagonal make q uniform: without them it depends on LAPACK's convention
    q, r = torch.linalg.qr(theta)
    rows = (q * r.diagonal(dim1=1, dim2=2).sign()[:, None]).mT.reshape(blocks * d, d)
    return rows[:count].to(like.dtype)


def slice_gaps(source: Tensor, target: Tensor, theta: Tensor) -> Tensor:
    """Return the way from each point to its match along each slice, `(b, m)`.

    δ_ik = t_(rank of s_ik) − s_ik with s = source·θ and t = target·θ.

    Arguments:
        source, target: `(b, d)`, of the same size; theta: `(m, d)` unit vectors.

    Source: Bonneel et al. 2015; optimal in one dimension for every convex cost.

    >>> slice_gaps(torch.tensor([[3.0], [0.0]]), torch.tensor([[1.0], [5.0]]), torch.ones(1, 1))
    tensor([[2.],
            [1.]])
    """
    require(source.shape == target.shape, "target.shape", tuple(target.shape), "the source's")
    s, t = source @ theta.T, target @ theta.T
    order = s.detach().argsort(0)
    ranks = torch.empty_like(order)
    ranks.scatter_(0, order, torch.arange(len(s), device=s.device)[:, None].expand_as(order))
    return t.sort(0).values.gather(0, ranks) - s


def sliced_wasserstein(source: Tensor, target: Tensor, theta: Tensor) -> Tensor:
    """Compute SW₂² = 1/(m·b) Σ_ik δ_ik², the squared distance averaged over slices, `()`.

    Source: Bonneel et al. 2015.

    >>> sliced_wasserstein(torch.zeros(2, 3), torch.ones(2, 3), torch.eye(3))
    tensor(1.)
    """
    return mean_square(slice_gaps(source, target, theta))


def mean_square(delta: Tensor) -> Tensor:
    """Return the mean of δ², and 0 of an empty tensor.

    >>> mean_square(torch.zeros(0, 3))
    tensor(0.)
    """
    return delta.square().sum() / max(delta.numel(), 1)


def displacement(delta: Tensor, theta: Tensor) -> Tensor:
    """Return each point's displacement Δ_i = Σ_k δ_ik θ_k `(b, d)` = −(m·b/2)·∂SW₂²/∂source.

    Arguments:
        delta: `slice_gaps`, `(b, m)`; theta: the slices `(m, d)`.

    Source: Le et al. 2024 (OTJR).

    >>> displacement(torch.tensor([[2.0, 1.0]]), torch.eye(2))
    tensor([[2., 1.]])
    """
    return delta @ theta


def trajectory(delta: Tensor, fallback: Tensor, *, min_norm: float = 1e-12) -> Tensor:
    """Return the unit direction v_i = Δ_i / ‖Δ_i‖₂ of each displacement `(b, d)`, detached.

    Arguments:
        delta: displacements `(b, d)`.
        fallback: `(b, d)`, not 0; its direction replaces that of a Δ_i shorter than `min_norm`.

    Source: Le et al. 2024 (OTJR). Differs: their code returns NaN where Δ_i = 0.

    >>> trajectory(torch.tensor([[0.0, 0.0], [0.0, 3.0]]), torch.tensor([[2.0, 0.0], [2.0, 0.0]]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    delta = delta.detach()
    return normalize(torch.where((norm(delta, 2) < min_norm)[:, None], fallback, delta), 2)


def max_slice(source: Tensor, target: Tensor, theta: Tensor, *, steps: int = 20) -> Tensor:
    """Search the slice `(1, d)` of largest W₂² by ascent from each of `theta`.

    A step is θ_k ← Σ_i δ_ik·(t_i' − s_i), normalized.

    `sliced_wasserstein` on the result bounds the max-sliced distance from below: the problem is not
    concave, and more starts and steps bring it closer.

    Arguments:
        source, target: `(b, d)`; theta: starts `(m, d)`, of any length > 0; steps: of ascent.

    Source: Deshpande et al. 2019. Differs: ascent by normalised gradients from many starts.

    >>> a = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    >>> theta = max_slice(a, a + torch.tensor([2.0, 0.0]), torch.tensor([[0.6, 0.8]]), steps=30)
    >>> theta.round(decimals=3)
    tensor([[1., 0.]])
    """
    source, target, theta = source.detach(), target.detach(), normalize(theta.detach(), 2)
    best, best_value = theta, slice_gaps(source, target, theta).square().sum(0)
    for _ in range(steps):
        with torch.enable_grad():
            leaf = theta.requires_grad_()
            (grad,) = torch.autograd.grad(slice_gaps(source, target, leaf).square().sum(), leaf)
        theta = torch.where((norm(grad, 2) > 0)[:, None], normalize(grad, 2), theta.detach())
        value = slice_gaps(source, target, theta).square().sum(0)
        best = torch.where((value > best_value)[:, None], theta, best.detach())
        best_value = torch.maximum(value, best_value)
    return best.detach()[best_value.argmax()][None]


def ground_cost(source: Tensor, target: Tensor, kind: str = "squared") -> Tensor:
    """Compute the costs C_ij between the points of two clouds, `(b, c)` for `(b, d)` and `(c, d)`.

    Arguments:
        kind: `"squared"` ‖s_i − t_j‖², `"half-squared"` half of it, or `"distance"` ‖s_i − t_j‖,
            whose gradient is 0 where the points coincide.

    >>> ground_cost(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
    tensor([[25.]])
    """
    require(kind in COSTS, "cost", kind, "one of " + ", ".join(COSTS))
    # in float32 or wider: PyTorch has no other distances
    wide = torch.promote_types(source.dtype, torch.float32)
    source, target = source.to(wide), target.to(wide)
    # by differences: the matrix product cancels where points are near each other
    length = torch.cdist(source, target, compute_mode="donot_use_mm_for_euclid_dist")
    return length if kind == "distance" else length.square() * (1.0 if kind == "squared" else 0.5)


def _soft_min(cost: Tensor, potential: Tensor, eps: float) -> Tensor:
    """Return −eps·log mean_j exp((g_j − C_ij)/eps), `(b,)`."""
    return eps * (math.log(cost.shape[1]) - ((potential - cost) / eps).logsumexp(1))


def _annealing(top: float, eps: float, scaling: float) -> list[float]:
    """Return values from the largest cost down to above eps, each `scaling` times the last."""
    if not math.isfinite(top) or top <= eps:
        return []
    return [top * scaling**k for k in range(math.ceil(math.log(top / eps) / -math.log(scaling)))]


def sinkhorn_potentials(
    cost: Tensor,
    eps: float,
    *,
    steps: int = 50,
    tol: float = 0.0,
    scaling: float = 0.5,
    symmetric: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute Sinkhorn's dual potentials f `(b,)`, g `(c,)` in the log domain, uniform marginals.

    f_i ← −eps·log mean_j exp((g_j − C_ij)/eps), then g likewise from the new f. The last update is
    one of g, so the plan's columns are exact.

    Arguments:
        cost: `(b, c)`, detached here.
        eps: weight of the entropy, in units of the cost, > 0.
        steps: updates at eps itself; tol: stop when no f moves by more (0: never).
        scaling: eps comes down from the largest cost by this factor, one update each; in (0, 1).
        symmetric: the cost is that of a cloud with itself: f = g is halfway between the old f and
            the update, which converges in a handful of steps.

    Source: Feydy et al. 2019, sec. 3.1; Schmitzer 2019 for the scaling of eps.

    >>> f, g = sinkhorn_potentials(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.01)
    >>> (f.mean() + g.mean()).round(decimals=4)
    tensor(0.0069)
    """
    require(eps > 0, "eps", eps, "a number > 0, in units of the cost")
    require(steps >= 0, "steps", steps, "a number ≥ 0")
    require(0 < scaling < 1, "scaling", scaling, "a factor in (0, 1)")
    cost = cost.detach()
    f, g = cost.new_zeros(cost.shape[0]), cost.new_zeros(cost.shape[1])
    if cost.numel() == 0:
        return f, g
    # from large eps down: at a small eps alone, Sinkhorn takes about max(C)/eps updates
    warm = _annealing(cost.max().item(), eps, scaling)
    for k, e in enumerate([*warm, *[eps] * steps]):
        before, f = f, _soft_min(cost, g, e)
        f = (before + f) / 2 if symmetric else f
        g = f if symmetric else _soft_min(cost.T, f, e)
        if tol > 0 and k >= len(warm) and bool((f - before).abs().max() <= tol):
            break
    return f, _soft_min(cost.T, f, eps)


def sinkhorn(
    cost: Tensor,
    eps: float,
    *,
    steps: int = 50,
    tol: float = 0.0,
    scaling: float = 0.5,
    symmetric: bool = False,
) -> Tensor:
    """Compute OT_eps = min_π <π, C> + eps·KL(π ‖ uniform), `()`; its gradient in C is π itself.

    Arguments: as in `sinkhorn_potentials`. With few steps it is a lower bound.

    Source: Feydy et al. 2019, eq. 1 and 8.

    >>> sinkhorn(torch.tensor([[2.0]]), 0.5)
    tensor(2.)
    """
    f, g = sinkhorn_potentials(
        cost, eps, steps=steps, tol=tol, scaling=scaling, symmetric=symmetric
    )
    if cost.numel() == 0:
        return cost.sum()
    # the dual value; only `cost` has a graph, so its gradient is the plan
    plan = ((f[:, None] + g - cost) / eps).exp()
    return f.mean() + g.mean() - eps * (plan.mean() - 1)


def sinkhorn_divergence(
    source: Tensor,
    target: Tensor,
    *,
    eps: float = 1.0,
    cost: str = "squared",
    steps: int = 50,
    tol: float = 0.0,
    scaling: float = 0.5,
) -> Tensor:
    """Compute S_eps(s, t) = OT_eps(s, t) − ½·OT_eps(s, s) − ½·OT_eps(t, t) ≥ 0, `()`.

    Between OT (eps → 0) and, for the squared cost, ‖mean s − mean t‖² (eps → ∞).

    Arguments:
        source, target: `(b, d)`, `(c, d)`.
        cost: one of `COSTS`; the others as in `sinkhorn_potentials`.

    Source: Feydy et al. 2019, eq. 3; Genevay et al. 2018.

    >>> a = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    >>> sinkhorn_divergence(a, a + torch.tensor([1.0, 0.0])).round(decimals=4)
    tensor(1.)
    """
    for name, cloud in (("source", source), ("target", target)):
        require(cloud.ndim == 2, f"{name}.shape", tuple(cloud.shape), "(b, d)")

    def entropic(a: Tensor, b: Tensor, *, symmetric: bool = False) -> Tensor:
        matrix = ground_cost(a, b, cost)
        return sinkhorn(matrix, eps, steps=steps, tol=tol, scaling=scaling, symmetric=symmetric)

    debias = entropic(source, source, symmetric=True) + entropic(target, target, symmetric=True)
    return entropic(source, target) - debias / 2
