"""Shares and means with their 95 % intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .ranges import Share

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """Hold an accuracy and its 95 % interval, as shares in [0, 1].

    >>> Interval(0.885, 0.842, 0.918)
    88.5 % [84.2, 91.8]
    """

    accuracy: Share
    low: Share
    high: Share

    def __repr__(self) -> str:
        return f"{self.percent} [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    @property
    def percent(self) -> str:
        """The accuracy in per cent: `88.5 %`."""
        return f"{100 * self.accuracy:.1f} %"


def wilson(k: int, n: int) -> Interval:
    """Return the Wilson score interval of k successes in n trials, at 95 %.

    (k + z²/2 ± z·√(k(n−k)/n + z²/4)) / (n + z²) with z = 1.96.

    Source: Wilson 1927.

    >>> wilson(950, 1000)
    95.0 % [93.5, 96.2]
    >>> wilson(0, 5).low, wilson(5, 5).high
    (0.0, 1.0)
    """
    from scipy.stats import binomtest  # takes half a second to import

    if not 0 <= k <= n or n == 0:
        raise ValueError(
            f"k = {k}, n = {n} is not allowed: there must be n ≥ 1 trials and 0 ≤ k ≤ n successes"
        )
    # Wilson's rather than p ± 1.96·√(p(1−p)/n): near 0 and 1, where robust and clean accuracies
    # are, the latter leaves [0, 1] and has no width at either end.
    low, high = binomtest(k, n).proportion_ci(0.95, method="wilson")
    return Interval(k / n, float(low), float(high))


def effective_wilson(share: float, variance: float, min_trials: float) -> Interval:
    """Return the Wilson interval of a share that is not a plain count, from its variance.

    The number of trials is the one that gives this variance, n = p·(1 − p)/variance, or
    `min_trials` where the variance is 0. The interval stays within [0, 1], and has a width at
    p = 0 and p = 1 too.

    Source: Korn and Graubard 1998 for the effective number of trials.

    >>> effective_wilson(0.95, 0.95 * 0.05 / 1000, min_trials=1)
    95.0 % [93.5, 96.2]
    """
    # The formula itself, because SciPy's takes whole numbers of trials only.
    n = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else min_trials
    z2 = Z95 * Z95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = wilson_half(share, n)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Interval(share, 0.0 if share == 0 else low, 1.0 if share == 1 else high)


def wilson_half(share: float, n: float) -> float:
    """Return half the width of Wilson's 95 % interval in n trials, before it is cut to [0, 1]."""
    z2 = Z95 * Z95
    return Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)


def t_quantile(df: float) -> float:
    """Return the 97.5 % quantile of Student's t, the factor of a 95 % interval.

    >>> [round(t_quantile(df), 3) for df in (1, 2, 4, 30)]
    [12.706, 4.303, 2.776, 2.042]
    """
    from scipy.special import stdtrit  # the quantile that scipy.stats.t.ppf calls, quick to import

    return float(stdtrit(df, 0.975))


def mean95(values: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Return the mean of `values (n,)` and its 95 % t interval, mean ± t·std/√n.

    No mean of no value, and no interval of a single one: these are None.

    >>> mean95(np.array([1.0, 2.0, 3.0]))
    (2.0, -0.48..., 4.48...)
    """
    if len(values) < 2:
        return float(values[0]) if len(values) else None, None, None
    return t_interval(values)


def t_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the same of two values or more."""
    mean, n = float(values.mean()), len(values)
    half = t_quantile(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return mean, mean - half, mean + half
