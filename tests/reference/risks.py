"""Divergences by their definitions, and the worst distribution by brute force over weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import LinearConstraint, NonlinearConstraint, minimize

Divergence = Callable[[np.ndarray, np.ndarray], float]


def kl(w: np.ndarray, p: np.ndarray) -> float:
    """Σ w log(w/p)."""
    return sum(a * math.log(a / b) if a > 0 else 0.0 for a, b in zip(w, p, strict=True))


def alpha(w: np.ndarray, p: np.ndarray, *, a: float) -> float:
    """Σ p f(w/p), f(r) = (r^α − 1)/(α(α − 1))."""
    return sum(b * ((c / b) ** a - 1) / (a * (a - 1)) for c, b in zip(w, p, strict=True))


def renyi(w: np.ndarray, p: np.ndarray, *, a: float) -> float:
    """R_α(w‖p) = log Σ w^α p^(1−α) / (α(α − 1))."""
    total = sum(c**a * b ** (1 - a) for c, b in zip(w, p, strict=True))
    return math.log(total) / (a * (a - 1))


def reversed_renyi(w: np.ndarray, p: np.ndarray, *, a: float) -> float:
    """R_α(p‖w)."""
    return renyi(p, w, a=a)


def primal(
    loss: np.ndarray,
    cost: np.ndarray,
    p: np.ndarray,
    divergence: Divergence,
    radius: float,
    floor: float = 0.0,
) -> float:
    """max Σ q_ij ℓ_ij − κ·D^c over q ≥ 0, Σq = 1, D^c = D(Σ_j q_ij ‖ p) + Σ q_ij c_ij ≤ radius.

    `loss (n, m)` and `cost (n, m)`: point i may go to m places. From several starts.
    """
    n, m = loss.shape

    def spent(q: np.ndarray) -> float:
        q = q.reshape(n, m).clip(1e-12)
        return divergence(q.sum(1), p) + float((q * cost).sum())

    def lost(q: np.ndarray) -> float:
        return -float(q @ loss.ravel()) + (floor * spent(q) if floor else 0.0)

    draw, best = np.random.default_rng(0), -math.inf
    for _ in range(4):
        stay = np.where(cost == 0, 1.0, 1e-3 * draw.random((n, m)))
        start = (p[:, None] * stay / stay.sum(1, keepdims=True)).ravel()
        result = minimize(
            lost,
            start,
            method="trust-constr",
            bounds=[(1e-10, 1)] * (n * m),
            constraints=[
                LinearConstraint(np.ones(n * m), 1, 1),
                NonlinearConstraint(spent, -np.inf, radius),
            ],
            options={"gtol": 1e-11, "xtol": 1e-13, "barrier_tol": 1e-11, "maxiter": 3000},
        )
        if spent(result.x) <= radius + 1e-8:
            best = max(best, -float(result.fun))
    return best


def alpha_dual(
    loss: list[float],
    cost: list[float],
    multiplier: float,
    rho: float,
    *,
    p: list[float],
    radius: float,
    a: float,
) -> float:
    """λε + ρ + λ Σ p f*((ℓ/λ − c) − ρ/λ), f*(y) = (α−1)^{α/(α−1)} y₊^{α/(α−1)}/α + 1/(α(α−1))."""
    total = 0.0
    for u, c, q in zip(loss, cost, p, strict=True):
        y = max(u / multiplier - c - rho / multiplier, 0.0)
        power = a / (a - 1)
        total += q * ((a - 1) ** power * y**power / a + 1 / (a * (a - 1)))
    return multiplier * radius + rho + multiplier * total
