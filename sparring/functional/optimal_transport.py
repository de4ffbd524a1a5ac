"""Pure optimal transport between two batches: sliced Wasserstein, Sinkhorn divergence, ground
costs.

Letters: b batch, d features, m slices. Both batches are clouds of equal mass 1/b a point; what is
transported goes from `source` to `target`. All is differentiable in both; matchings and potentials
count as constants, which is exact (they are optimal).
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
    """Random unit vectors θ `(m, d)` for clouds `like (b, d)`.

    Arguments:
        count: m.
        law: `"sphere"`, uniform (a Gaussian, normalised); `"cube"`, uniform in [−1, 1]^d and
            normalised, which prefers corners: OTJR's code; `"orthonormal"`, blocks of d
            orthonormal vectors, each uniform: less noise for the same m.
        generator: on the device of `like`; the global one when omitted.

    Raises:
        ValueError: for another law, or count < 1.

    >>> slices(torch.zeros(5, 3), 4).norm(dim=1).allclose(torch.ones(4))
    True
    """
    require(law in SLICE_LAWS, "law", law, "one of " + ", ".join(SLICE_LAWS))
    require(count >= 1, "count", count, "a number of slices ≥ 1")
    d = like.shape[1]
    blocks = -(-count // max(d, 1)) if law == "orthonormal" else 1
    shape = (blocks, d, d) if law == "orthonormal" else (count, d)
    theta = torch.empty(shape, dtype=like.dtype, device=like.device)
    if law == "cube":
        return normalize(theta.uniform_(-1, 1, generator=generator), 2)
    theta.normal_(generator=generator)
    if law == "sphere":
        return normalize(theta, 2)
    q, r = torch.linalg.qr(theta)
    return (q * r.diagonal(dim1=1, dim2=2).sign()[:, None]).mT.reshape(-1, d)[:count]


def slice_gaps(source: Tensor, target: Tensor, theta: Tensor) -> Tensor:
    """δ_ik = t_(rank of s_ik) − s_ik with s = source·θ, t = target·θ: what each point still has to
    go along each slice, `(b, m)`.

    Arguments:
        source, target: `(b, d)`, of one size; theta: `(m, d)` unit vectors.

    Source: Bonneel et al. 2015; optimal in one dimension for every convex cost.

    >>> gaps(torch.tensor([[3.0], [0.0]]), torch.tensor([[1.0], [5.0]]), torch.ones(1, 1))
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
    """SW₂² = 1/(m·b) Σ_ik δ_ik², the squared distance of the clouds averaged over slices, `()`.

    Source: Bonneel et al. 2015.

    >>> sliced_wasserstein(torch.zeros(2, 3), torch.ones(2, 3), torch.eye(3))
    tensor(1.)
    """
    return mean_square(slice_gaps(source, target, theta))


def mean_square(delta: Tensor) -> Tensor:
    """Mean of δ², and 0 of nothing.

    >>> mean_square(torch.zeros(0, 3))
    tensor(0.)
    """
    return delta.square().sum() / max(delta.numel(), 1)


def displacement(delta: Tensor, theta: Tensor) -> Tensor:
    """Δ_i = Σ_k δ_ik θ_k `(b, d)`, where the slices pull each point: −(m·b/2)·∂SW₂²/∂source.

    Arguments:
        delta: gaps `(b, m)`; theta: the slices `(m, d)`.

    Source: Le et al. 2024 (OTJR).

    >>> displacement(torch.tensor([[2.0, 1.0]]), torch.eye(2))
    tensor([[2., 1.]])
    """
    return delta @ theta


def trajectory(delta: Tensor, instead: Tensor, *, least: float = 1e-12) -> Tensor:
    """v_i = Δ_i / ‖Δ_i‖₂ `(b, d)`, detached; the direction of `instead` where Δ_i is at rest.

    Arguments:
        delta, instead: `(b, d)`; `instead` is random and not 0.
        least: Δ_i shorter than this is at rest.

    Source: Le et al. 2024 (OTJR). Differs: their 0/0 is NaN.

    >>> trajectory(torch.tensor([[0.0, 0.0], [0.0, 3.0]]), torch.tensor([[2.0, 0.0], [2.0, 0.0]]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    delta = delta.detach()
    return normalize(torch.where((norm(delta, 2) < least)[:, None], instead, delta), 2)


def max_slice(source: Tensor, target: Tensor, theta: Tensor, *, steps: int = 20) -> Tensor:
    """The slice `(1, d)` of the largest W₂² found: θ_k ← unit(Σ_i δ_ik·(t_i' − s_i)), from each of
    `theta`; `sliced_wasserstein` on it is the max-sliced distance.

    A lower bound of the maximum, which is not concave: more starts and steps bring it closer.

    Arguments:
        source, target: `(b, d)`; theta: starts `(m, d)`; steps: of ascent.

    Source: Deshpande et al. 2019. Differs: ascent by normalised gradients from many starts.

    >>> a = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    >>> found = max_slice(a, a + torch.tensor([2.0, 0.0]), torch.tensor([[0.6, 0.8]]), steps=30)
    >>> found.round(decimals=3)
    tensor([[1., 0.]])
    """
    source, target, theta = source.detach(), target.detach(), theta.detach()
    best, most = theta, slice_gaps(source, target, theta).square().sum(0)
    for _ in range(steps):
        with torch.enable_grad():
            leaf = theta.requires_grad_()
            (grad,) = torch.autograd.grad(slice_gaps(source, target, leaf).square().sum(), leaf)
        theta = torch.where((norm(grad, 2) > 0)[:, None], normalize(grad, 2), theta.detach())
        value = slice_gaps(source, target, theta).square().sum(0)
        best = torch.where((value > most)[:, None], theta, best.detach())
        most = torch.maximum(value, most)
    return best.detach()[most.argmax()][None]


def ground_cost(source: Tensor, target: Tensor, kind: str = "squared") -> Tensor:
    """C_ij between the points of two clouds, `(b, c)` for `(b, d)` and `(c, d)`.

    Arguments:
        kind: `"squared"` ‖s_i − t_j‖², `"half-squared"` half of it, or `"distance"` ‖s_i − t_j‖,
            whose gradient is 0 where the points coincide.

    >>> ground_cost(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
    tensor([[25.]])
    """
    require(kind in COSTS, "cost", kind, "one of " + ", ".join(COSTS))
    length = torch.cdist(source, target, compute_mode="donot_use_mm_for_euclid_dist")
    return length if kind == "distance" else length.square() * (1.0 if kind == "squared" else 0.5)


def _soft_min(cost: Tensor, potential: Tensor, eps: float) -> Tensor:
    """−eps·log mean_j exp((g_j − C_ij)/eps), `(b,)`."""
    return eps * (math.log(cost.shape[1]) - ((potential - cost) / eps).logsumexp(1))


def _annealing(top: float, eps: float, scaling: float) -> list[float]:
    """eps from the largest cost downwards, each `scaling` times the last, ending above eps."""
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
    alike: bool = False,
) -> tuple[Tensor, Tensor]:
    """Sinkhorn's dual potentials f `(b,)`, g `(c,)` in the log domain, for uniform marginals.

    f_i ← −eps·log mean_j exp((g_j − C_ij)/eps), then g likewise from the new f, last of all g: the
    plan's columns are exact.

    Arguments:
        cost: `(b, c)`, detached here.
        eps: weight of the entropy, in units of the cost, > 0.
        steps: at eps itself; tol: stop when no f moves by more (0: never asked).
        scaling: eps comes down from the largest cost by this factor, one update each; in (0, 1).
        alike: the cost is symmetric, of a cloud with itself: f = g is halfway between the old f and
            the update, which takes a handful of steps.

    Source: Feydy et al. 2019, sec. 3.1; Schmitzer 2019 for the scaling of eps.

    >>> f, g = potentials(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.01)
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
    warm = _annealing(cost.max().item(), eps, scaling)
    for k, e in enumerate([*warm, *[eps] * steps]):
        before, f = f, _soft_min(cost, g, e)
        f = (before + f) / 2 if alike else f
        g = f if alike else _soft_min(cost.T, f, e)
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
    alike: bool = False,
) -> Tensor:
    """OT_eps = min_π <π, C> + eps·KL(π ‖ uniform), `()`; its gradient in C is π itself.

    Arguments: as in `potentials`; stopped early, it is a lower bound.

    Source: Feydy et al. 2019, eq. 1 and 8.

    >>> sinkhorn(torch.tensor([[2.0]]), 0.5)
    tensor(2.)
    """
    f, g = sinkhorn_potentials(cost, eps, steps=steps, tol=tol, scaling=scaling, alike=alike)
    if cost.numel() == 0:
        return cost.sum()
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
    """S_eps(s, t) = OT_eps(s, t) − ½·OT_eps(s, s) − ½·OT_eps(t, t), `()`: ≥ 0, and 0 for s = t.

    Between OT (eps → 0) and, for the squared cost, ‖mean s − mean t‖² (eps → ∞).

    Arguments:
        source, target: `(b, d)`, `(c, d)`.
        cost: one of `COSTS`; the others as in `potentials`.

    Source: Feydy et al. 2019, eq. 3; Genevay et al. 2018.

    >>> a = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    >>> sinkhorn_divergence(a, a + torch.tensor([1.0, 0.0])).round(decimals=4)
    tensor(1.)
    """

    for name, cloud in (("source", source), ("target", target)):
        require(cloud.ndim == 2, f"{name}.shape", tuple(cloud.shape), "(b, d)")

    def between(a: Tensor, b: Tensor, alike: bool) -> Tensor:
        matrix = ground_cost(a, b, cost)
        return sinkhorn(matrix, eps, steps=steps, tol=tol, scaling=scaling, alike=alike)

    own = between(source, source, True) + between(target, target, True)
    return between(source, target, False) - own / 2
