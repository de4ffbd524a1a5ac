"""Worst measures near a base measure, one family per divergence, and the solver for λ.

λ (`multiplier`) is the dual variable of a divergence ball. A family gives, for each λ, the worst
measure; `solve_multiplier` finds the smallest λ whose measure a budget allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

GRID, ROUNDS = 64, 6  # points per round of the search, and rounds: 2^-35 of the interval in the end
LOG_LOW, LOG_HIGH = -230.0, 25.0  # of t: e^−230 to e^25 times the range of the values
TINY = 1e-300
LEAST_RANGE = 1e-2  # of values, so that λ may always reach 7e8


@dataclass(frozen=True)
class WorstCase:
    """Hold the worst measure at one multiplier.

    Attributes:
        w: `(..., n)` weights, summing to 1.
        multiplier: λ `(...)`, the temperature of the weights, in the units of the values.
        divergence: `(...)` D(w‖p) in nats.
    """

    w: Tensor
    multiplier: Tensor
    divergence: Tensor


Family = Callable[[Tensor, Tensor, Tensor], WorstCase]


def _log(w: Tensor) -> Tensor:
    return w.clamp_min(TINY).log()


def _highest_and_range(v: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest value `(1,)` among rows of weight, and the range there, ≥ 1e-2."""
    counts = p > 0
    high = torch.where(counts, v, -torch.inf).amax(-1, keepdim=True)
    low = torch.where(counts, v, torch.inf).amin(-1, keepdim=True)
    # the unit of λ's grid: of one row, or equal ones, a tiny unit would keep every λ out of reach
    return high, (high - low).clamp_min(LEAST_RANGE)


def kl(v: Tensor, p: Tensor, t: Tensor) -> WorstCase:
    """Solve argmax_w E_w[v] − λ·KL(w‖p): w ∝ p·e^{v/λ}, at λ = e^t·(range of v).

    Arguments:
        v, p: `(n,)` values and base weights.
        t: `(...)`.

    >>> kl(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]), torch.tensor(0.0)).w
    tensor([0.2689, 0.7311])
    """
    high, value_range = _highest_and_range(v, p)
    multiplier = value_range[0] * t.exp()
    phi = torch.where(p > 0, (v - high) / multiplier[..., None], -torch.inf)
    w = (phi + _log(p)).softmax(-1)
    # two forms of −KL: near p the plain one is a difference of nearly equal numbers, so the values
    # are centred there and expm1 and log1p keep the digits
    mean = (p * torch.where(p > 0, v - high, 0.0)).sum(-1)
    centred = torch.where(p > 0, (v - high - mean) / multiplier[..., None], 0.0)
    near = (p * torch.expm1(centred.clamp_max(1.0))).sum(-1).log1p() - (w * centred).sum(-1)
    far = (phi.exp() * p).sum(-1).log() - (w * phi.clamp_min(-1e30)).sum(-1)
    small = centred.abs().amax(-1) < 1e-2
    return WorstCase(w, multiplier, -torch.where(small, near, far).clamp_max(0))


def alpha(v: Tensor, p: Tensor, t: Tensor, a: float) -> WorstCase:
    """Solve argmax_w E_w[v] − λ·D_α(w‖p), f(r) = (r^α − 1)/(α(α − 1)): w ∝ p·(v − η)₊^{1/(α−1)}.

    η lies e^t·(range of v) below the highest value; λ = (α−1)·(Σ p(v − η)₊^{1/(α−1)})^{α−1}.

    Source: Birrell and Ebrahimi 2023, the optimal ρ = λη of their dual.
    """
    ratio, multiplier = _power_ratio(v, p, t, a)
    excess = ratio - 1
    # Σp(r^α − 1) = Σp(r^α − 1 − α(r − 1)), which is exact near r = 1
    far = ratio.pow(a) - 1 - a * excess
    remainder = torch.where(excess.abs() < 1e-3, power_remainder(excess, a), far)
    return WorstCase(p * ratio, multiplier, (p * remainder).sum(-1).clamp_min(0) / (a * (a - 1)))


@dataclass(frozen=True)
class DualCase:
    """Hold the dual of the α-divergence at any λ and ρ.

    Attributes:
        value: `()` ρ + λ·Σ p f*((v − ρ)/λ), an upper bound of sup_w E_w[v] − λ·D(w‖p).
        w: `(n,)` its slopes in v; they sum to 1 at the ρ that minimizes it only.
        divergence: `()` Σ w·(v − ρ)/λ − Σ p f*: D(w‖p) where the w sum to 1. The slope of
            value + λ·radius in λ is radius − Σ w c − this, for v = u − λc.
    """

    value: Tensor
    w: Tensor
    divergence: Tensor


def alpha_dual(v: Tensor, p: Tensor, multiplier: Tensor, rho: Tensor, a: float) -> DualCase:
    """Compute the dual of D_α at λ and ρ `()`, for values and base weights `(n,)`:

    f*(s) = (α − 1)^{α/(α−1)}/α·s₊^{α/(α−1)} + 1/(α(α − 1)).

    Source: Birrell and Ebrahimi, code of 2025.
    """
    s = (v - rho) / multiplier
    ratio = ((a - 1) * s).clamp_min(0).pow(1 / (a - 1))  # w/p
    conjugate = (p * (ratio.pow(a) / a + 1 / (a * (a - 1)))).sum()
    w = p * ratio
    return DualCase(rho + multiplier * conjugate, w, (w * s).sum() - conjugate)


def power_remainder(e: Tensor, a: float) -> Tensor:
    """Compute (1 + e)^α − 1 − α·e for small e, by its series."""
    rest = 1 + (a - 2) * e / 3 * (1 + (a - 3) * e / 4)
    return a * (a - 1) / 2 * e.square() * rest


def renyi(v: Tensor, p: Tensor, t: Tensor, a: float) -> WorstCase:
    """Solve argmax_w E_w[v] − λ·R_α(w‖p), R_α = log Σ w^α p^{1−α} / (α(α−1)); w is that of `alpha`.

    R_α is an increasing function of D_α, so their balls are the same; λ differs by Σ w^α p^{1−α}.
    """
    same = alpha(v, p, t, a)
    power = 1 + a * (a - 1) * same.divergence
    return WorstCase(same.w, same.multiplier * power, power.log() / (a * (a - 1)))


def reversed_renyi(v: Tensor, p: Tensor, t: Tensor, a: float) -> WorstCase:
    """Solve argmax_w E_w[v] − λ·R_α(p‖w), R_α(p‖w) = log Σ p^α w^{1−α} / (α(α−1)).

    w ∝ p·(ρ − v)^{−1/α}, where ρ lies e^t·(range of v) above the highest value;
    λ = α·Σ p(ρ−v)^{(α−1)/α} / Σ p(ρ−v)^{−1/α}.

    Source: the code of Birrell and Ebrahimi, whose divergence is the reversed one.
    """
    high, value_range = _highest_and_range(v, p)
    gap = torch.where(p > 0, (high - v) + value_range * t.exp()[..., None], value_range)
    # powers of gap / max gap, not of gap: they neither over- nor underflow at any scale of losses
    scaled = gap / gap.amax(-1, keepdim=True)
    mass = p * scaled.pow(-1 / a)
    w = mass / mass.sum(-1, keepdim=True)
    up = (p * scaled.pow((a - 1) / a)).sum(-1)
    multiplier = a * gap.amax(-1) * up / mass.sum(-1)
    r = torch.where(w > 0, p / w.clamp_min(TINY), 1.0) - 1
    # Σw((p/w)^α − 1) = Σw((p/w)^α − 1 − α(p/w − 1)), which is exact near w = p
    far = p * (r + 1).pow(a - 1) - w - a * (p - w)
    remainder = torch.where(r.abs() < 1e-3, w * power_remainder(r, a), far)
    return WorstCase(w, multiplier, remainder.sum(-1).clamp_min(0).log1p() / (a * (a - 1)))


def _power_ratio(v: Tensor, p: Tensor, t: Tensor, a: float) -> tuple[Tensor, Tensor]:
    """Return w/p of `alpha`, and its λ."""
    high, value_range = _highest_and_range(v, p)
    depth = value_range[0] * t.exp()  # of η below the highest value
    over = ((v - high) / depth[..., None] + 1).clamp_min(0)
    over = torch.where(p > 0, over, 0.0).pow(1 / (a - 1))
    total = (p * over).sum(-1, keepdim=True)
    return over / total, (a - 1) * depth * total[..., 0].pow(a - 1)


def solve_multiplier(
    family: Family, v: Tensor, p: Tensor, allowed: Callable[[WorstCase], Tensor]
) -> WorstCase:
    """Return the worst case of the smallest λ that is allowed; of the largest λ, if none is.

    Arguments:
        v, p: `(n,)` values and base weights in float64; Σ p = 1.
        allowed: of worst cases with leading dimension m, a mask `(m,)`. It must be monotone: where
            a λ is allowed, all larger ones are.
    """
    # a grid search, not bisection with `if`: 6 rounds of 64 points, and the host never waits for a
    # number on the GPU
    low, high = v.new_full((1,), LOG_LOW), v.new_full((1,), LOG_HIGH)
    steps = torch.linspace(0, 1, GRID, dtype=v.dtype, device=v.device)
    for _ in range(ROUNDS):
        t = low + (high - low) * steps
        ok = allowed(family(v, p, t))
        first = torch.where(ok.any(), ok.to(torch.int8).argmax(), GRID - 1)[None]
        # gather, not t[first]: an index of one number is read by the host
        low, high = t.gather(0, (first - 1).clamp_min(0)), t.gather(0, first)
    return family(v, p, high[0])
