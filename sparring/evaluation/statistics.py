"""Intervals for counts."""

from __future__ import annotations

import math


def wilson(k: int, n: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's 95 % interval for a share k/n.

    Source: Wilson 1927.

    >>> [round(v, 4) for v in wilson(95, 100)]
    [0.8883, 0.9785]
    """
    if n == 0:
        return 0.0, 1.0
    p, zz = k / n, z * z
    centre = (p + zz / (2 * n)) / (1 + zz / n)
    half = z / (1 + zz / n) * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))
