"""The worst measures near a base measure, a family for each divergence, and the search for the one
that a budget allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

GRID, ROUNDS = 64, 6  # points a round of the search, and rounds: 2^-35 of the interval in the end
COLD, HOT = -230.0, 25.0  # t: e^−230 to e^25 times the range of the values
TINY = 1e-300


@dataclass(frozen=True)
class Worst:
    """The worst case at one temperature.

    Attributes:
        w: `(..., n)` weights, summing to 1.
        s: `(...)` temperature, in the units of the values.
        divergence: `(...)` D(w‖p) in nats.
    """

    w: Tensor
    s: Tensor
    divergence: Tensor


Family = Callable[[Tensor, Tensor, Tensor], Worst]


def _log(w: Tensor) -> Tensor:
    return w.clamp_min(TINY).log()


def _spread(v: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """The highest value `(1,)` among rows of weight, and the range of values there, above 0."""
    seen = p > 0
    high = torch.where(seen, v, -torch.inf).amax(-1, keepdim=True)
    low = torch.where(seen, v, torch.inf).amin(-1, keepdim=True)
    return high, (high - low).clamp_min(1e-30)


def kl(v: Tensor, p: Tensor, t: Tensor) -> Worst:
    """argmax_w E_w[v] − s·KL(w‖p): w ∝ p·e^{v/s}, at s = e^t·(range of v).

    Arguments:
        v, p: `(n,)` values and base weights.
        t: `(...)`.

    >>> kl(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]), torch.tensor(0.0)).w
    tensor([0.2689, 0.7311])
    """
    high, wide = _spread(v, p)
    s = wide[0] * t.exp()
    phi = torch.where(p > 0, (v - high) / s[..., None], -torch.inf)
    w = (phi + _log(p)).softmax(-1)
    mean = (p * torch.where(p > 0, v - high, 0.0)).sum(-1)
    centred = torch.where(p > 0, (v - high - mean) / s[..., None], 0.0)
    near = (p * torch.expm1(centred.clamp_max(1.0))).sum(-1).log1p() - (w * centred).sum(-1)
    far = (phi.exp() * p).sum(-1).log() - (w * phi.clamp_min(-1e30)).sum(-1)
    small = centred.abs().amax(-1) < 1e-2
    return Worst(w, s, -torch.where(small, near, far).clamp_max(0))


def alpha(v: Tensor, p: Tensor, t: Tensor, a: float) -> Worst:
    """argmax_w E_w[v] − s·D_α(w‖p), f(r) = (r^α − 1)/(α(α − 1)): w ∝ p·(v − η)₊^{1/(α−1)}.

    η lies e^t·(range of v) below the highest value; s = (α−1)·(Σ p(v − η)₊^{1/(α−1)})^{α−1}.

    Source: Birrell and Ebrahimi 2023, the optimal ρ = sη of their dual.
    """
    ratio, s, _ = _powers(v, p, t, a)
    excess = ratio - 1
    # Σp(r^α − 1) = Σp(r^α − 1 − α(r − 1)), which is exact near r = 1
    bent = torch.where(excess.abs() < 1e-3, near_1(excess, a), ratio.pow(a) - 1 - a * excess)
    return Worst(p * ratio, s, (p * bent).sum(-1).clamp_min(0) / (a * (a - 1)))


def near_1(e: Tensor, a: float) -> Tensor:
    """(1 + e)^α − 1 − α·e for small e, by its series."""
    rest = 1 + (a - 2) * e / 3 * (1 + (a - 3) * e / 4)
    return a * (a - 1) / 2 * e.square() * rest


def renyi(v: Tensor, p: Tensor, t: Tensor, a: float) -> Worst:
    """argmax_w E_w[v] − s·R_α(w‖p), R_α = log Σ w^α p^{1−α} / (α(α−1)): the weights of `alpha`.

    R_α is an increasing function of D_α, so their balls are the same; s differs by Σ w^α p^{1−α}.
    """
    found = alpha(v, p, t, a)
    power = 1 + a * (a - 1) * found.divergence
    return Worst(found.w, found.s * power, power.log() / (a * (a - 1)))


def reversed_renyi(v: Tensor, p: Tensor, t: Tensor, a: float) -> Worst:
    """argmax_w E_w[v] − s·R_α(p‖w), R_α(p‖w) = log Σ p^α w^{1−α} / (α(α−1)): w ∝ p·(ρ − v)^{−1/α}.

    ρ lies e^t·(range of v) above the highest value; s = α·Σ p(ρ−v)^{(α−1)/α} / Σ p(ρ−v)^{−1/α}.

    Source: what the code of Birrell and Ebrahimi solves; their divergence is the reversed one.
    """
    high, wide = _spread(v, p)
    gap = torch.where(p > 0, (high - v) + wide * t.exp()[..., None], wide)
    scaled = gap / gap.amax(-1, keepdim=True)
    mass = p * scaled.pow(-1 / a)
    w = mass / mass.sum(-1, keepdim=True)
    up = (p * scaled.pow((a - 1) / a)).sum(-1)
    s = a * gap.amax(-1) * up / mass.sum(-1)
    r = torch.where(w > 0, p / w.clamp_min(TINY), 1.0) - 1
    # Σw((p/w)^α − 1) = Σw((p/w)^α − 1 − α(p/w − 1)), which is exact near w = p
    far = p * (r + 1).pow(a - 1) - w - a * (p - w)
    bent = torch.where(r.abs() < 1e-3, w * near_1(r, a), far)
    return Worst(w, s, bent.sum(-1).clamp_min(0).log1p() / (a * (a - 1)))


def _powers(v: Tensor, p: Tensor, t: Tensor, a: float) -> tuple[Tensor, Tensor, Tensor]:
    """w/p of `alpha`, its s, and η below the highest value."""
    high, wide = _spread(v, p)
    depth = wide[0] * t.exp()
    over = ((v - high) / depth[..., None] + 1).clamp_min(0)
    over = torch.where(p > 0, over, 0.0).pow(1 / (a - 1))
    total = (p * over).sum(-1, keepdim=True)
    return over / total, (a - 1) * depth * total[..., 0].pow(a - 1), depth


def search(family: Family, v: Tensor, p: Tensor, allowed: Callable[[Worst], Tensor]) -> Worst:
    """The coldest measure of a family that is allowed; the hottest, p itself nearly, if none is.

    Arguments:
        v, p: `(n,)` values and base weights in float64; Σ p = 1.
        allowed: of measures with leading dimension m, which are `(m,)`; monotone: once allowed,
            all hotter ones are.

    A grid search by 64 points at a time over t, six times: no host looks at a number.
    """
    low, high = v.new_tensor(COLD), v.new_tensor(HOT)
    steps = torch.linspace(0, 1, GRID, dtype=v.dtype, device=v.device)
    for _ in range(ROUNDS):
        t = low + (high - low) * steps
        ok = allowed(family(v, p, t))
        first = torch.where(ok.any(), ok.to(torch.int8).argmax(), GRID - 1)
        low, high = t[(first - 1).clamp_min(0)], t[first]
    return family(v, p, high)
