"""Shares with their 95 % intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """An accuracy with its 95 % interval, as shares in [0, 1]."""

    accuracy: float
    low: float
    high: float


def wilson(k: int, n: int) -> Interval:
    """The Wilson score interval of k successes in n trials, at 95 %.

    (k + z²/2 ± z·√(k(n−k)/n + z²/4)) / (n + z²) with z = 1.96.

    Source: Wilson 1927.

    >>> wilson(950, 1000)
    Interval(accuracy=0.95, low=0.9346..., high=0.9618...)
    >>> wilson(0, 5).low, wilson(5, 5).high
    (0.0, 1.0)
    """
    if not 0 <= k <= n or n == 0:
        raise ValueError(
            f"k = {k}, n = {n} is not allowed: there must be n ≥ 1 trials and 0 ≤ k ≤ n successes"
        )
    z2 = Z95 * Z95
    half = Z95 * math.sqrt(k * (n - k) / n + z2 / 4)
    low = 0.0 if k == 0 else (k + z2 / 2 - half) / (n + z2)
    high = 1.0 if k == n else (k + z2 / 2 + half) / (n + z2)
    return Interval(k / n, low, high)


def effective(share: float, variance: float, least: float) -> Interval:
    """The Wilson interval of a share that is no plain count, at the number of trials that would
    give its variance: n = p·(1 − p)/variance, or `least` where the variance is 0.

    It stays within [0, 1], and has a width at p = 0 and p = 1 too. Source: Korn and Graubard 1998
    for the effective number of trials.

    >>> effective(0.95, 0.95 * 0.05 / 1000, least=1)
    Interval(accuracy=0.95, low=0.9346..., high=0.9618...)
    """
    n = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else least
    z2 = Z95 * Z95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Interval(share, 0.0 if share == 0 else low, 1.0 if share == 1 else high)


def t_quantile(df: int, share: float = 0.975) -> float:
    """The quantile of Student's t for a whole number of degrees of freedom.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4, inverted by bisection.

    >>> [round(t_quantile(df), 3) for df in (1, 2, 4, 30)]
    [12.706, 4.303, 2.776, 2.042]
    """
    if df < 1 or not 0.5 < share < 1:
        raise ValueError(f"df = {df}, share = {share} is not allowed: df ≥ 1, 0.5 < share < 1")

    def inside(t: float) -> float:  # P(|T| < t)
        angle = math.atan(t / math.sqrt(df))
        sine, cosine = math.sin(angle), math.cos(angle)
        term, total = (1.0, 1.0) if df % 2 == 0 else (cosine, cosine)
        for k in range(3 + df % 2, df, 2) if df > 2 else ():
            term *= cosine * cosine * (k - 2) / (k - 1)
            total += term
        if df % 2 == 0:
            return sine * total
        return 2 / math.pi * (angle + (sine * total if df > 1 else 0.0))

    low, high = 0.0, 1.0
    while inside(high) < 2 * share - 1:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < 2 * share - 1 else (low, middle)
    return low


def mean95(values: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """The mean of `values (n,)` and its 95 % t interval, mean ± t·std/√n; None for what n does not
    allow.

    >>> mean95(np.array([1.0, 2.0, 3.0]))
    (2.0, -0.48..., 4.48...)
    """
    n = len(values)
    if n == 0:
        return None, None, None
    mean = float(values.mean())
    if n == 1:
        return mean, None, None
    half = t_quantile(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return mean, mean - half, mean + half
