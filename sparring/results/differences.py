"""Statistics of two results on the same samples, and of two shares on others."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..runtime.fractions import format_number
from ..runtime.text import printable
from .headlines import CLEAN, Level, level_of, row_at
from .intervals import Interval, wilson
from .result import Result, correct_key


class McNemar(NamedTuple):
    """Count samples that `first` or `second` alone gets right; p is two-sided, exact and mid-p."""

    first: int
    second: int
    p: float
    mid: float


def mcnemar(a: np.ndarray, b: np.ndarray) -> McNemar:
    """Test whether two classifiers are right equally often on the same samples.

    `a` and `b` are whether each is right, bool. Of the n samples that one alone gets right, the
    first gets X ~ Binomial(n, 1/2) if they are equally good: p = min(1, 2·P(X ≤ min)). Mid-p counts
    half of P(X = min) and is less cautious.

    Source: McNemar 1947, with the exact binomial in place of χ².

    >>> mcnemar(np.array([True] * 9 + [False] * 3), np.array([True] * 2 + [False] * 9 + [True]))
    McNemar(first=7, second=1, p=0.0703125, mid=0.039...)
    """
    from scipy.stats import binom, binomtest  # takes half a second to import

    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"a has shape {a.shape}, b {b.shape}: both must be (n,), one per sample")
    first, second = int((a & ~b).sum()), int((b & ~a).sum())
    fewer, n = min(first, second), first + second
    if first == second:
        return McNemar(first, second, 1.0, 1.0)
    p = float(binomtest(fewer, n).pvalue)
    # X is discrete, so the exact p is too large; mid-p takes off half of P(X = min) on either side.
    return McNemar(first, second, p, p - float(binom.pmf(fewer, n, 0.5)))


def paired_interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of accuracy(a) − accuracy(b) on the same samples.

    d ± √(u² − 2·φ·u·v + v²), u and v the distances of Wilson's limits from the accuracies, φ the
    correlation of a and b.

    Source: Newcombe 1998, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", method 10 (φ corrected for continuity).

    >>> [round(v, 4) for v in paired_interval(np.arange(50) < 48, np.arange(50) < 36)]
    [0.1144, 0.3735]
    """
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    n = len(a)
    first, second = wilson(int(a.sum()), n), wilson(int(b.sum()), n)
    both, neither = int((a & b).sum()), int((~a & ~b).sum())
    product = both * neither - int((a & ~b).sum()) * int((b & ~a).sum())
    # Paired, as two models mostly fail on the same samples: φ > 0 makes the interval narrower.
    product = max(product - n / 2, 0.0) if product > 0 else product
    p, q = int(a.sum()), int(b.sum())  # Python's integers: NumPy's overflow from 110,000 samples
    margins = p * (n - p) * q * (n - q)
    phi = product / math.sqrt(margins) if margins else 0.0
    d = first.accuracy - second.accuracy

    def half_width(u: float, v: float) -> float:
        return math.sqrt(max(0.0, u * u - 2 * phi * u * v + v * v))

    down = half_width(first.accuracy - first.low, second.high - second.accuracy)
    up = half_width(first.high - first.accuracy, second.accuracy - second.low)
    return max(-1.0, d - down), min(1.0, d + up)


def unpaired_interval(first: Interval, second: Interval) -> tuple[float, float]:
    """Return the 95 % interval of first − second, accuracies on different samples.

    Source: Newcombe 1998, "Interval estimation for the difference between independent
    proportions", method 10.
    """
    d = first.accuracy - second.accuracy
    down = math.hypot(first.accuracy - first.low, second.high - second.accuracy)
    up = math.hypot(first.high - first.accuracy, second.accuracy - second.low)
    return max(-1.0, d - down), min(1.0, d + up)


def same_samples(first: Result, second: Result) -> bool:
    """Return whether two results are of the same rows of the same data, in the same order."""
    first_index, second_index = (r.arrays.get("index") for r in (first, second))
    if first_index is None or second_index is None or not np.array_equal(first_index, second_index):
        return False
    same = (first.data_sha256, first.split) == (second.data_sha256, second.split)
    return same and np.array_equal(first.arrays["y"], second.arrays["y"])


def correct(r: Result, eps: float | None = None, threat: str = "") -> np.ndarray:
    """Return which samples `(n,)` are robust: at a radius, 0 for clean; default: worst case.

    Raises:
        ValueError: if the radius was not attacked; it names those that were.
    """
    if not eps:
        return r.arrays["adv_pred" if eps is None else "clean_pred"] == r.arrays["y"]
    for key in (correct_key(eps, threat), correct_key(eps)):
        rows = [row for row in r.by_eps if row.eps == eps and threat in ("", row.threat)]
        if key in r.arrays and rows:
            return r.arrays[key].astype(bool)
    known = ", ".join(f"{v.threat} {format_number(v.eps)}".strip() for v in r.by_eps if v.eps)
    requested = f"{threat} {format_number(eps)}".strip()
    known = printable(known or "none")
    raise ValueError(f"eps = {requested} is not among the radii of {printable(r.name)}: {known}")


def correct_at(r: Result, levels: Iterable[Level]) -> np.ndarray | None:
    """Return which samples `(n,)` are robust at all these levels; None without their arrays."""
    arrays = [_correct_at(r, level) for level in levels]
    known = [a for a in arrays if a is not None]
    return np.logical_and.reduce(known) if known and len(known) == len(arrays) else None


def _correct_at(r: Result, level: Level) -> np.ndarray | None:
    if not {"y", "clean_pred", "adv_pred"} <= r.arrays.keys():
        return None
    if level == CLEAN:
        return correct(r, 0)
    if row_at(r, level) is None:
        return None
    for key in (correct_key(level.eps, level.threat), correct_key(level.eps)):
        if key in r.arrays:
            return r.arrays[key].astype(bool)
    # Of a lone norm, the predictions are those at its largest radius.
    alone = {level_of(r, row).threat for row in r.by_eps} == {level.threat}
    return correct(r) if alone and r.by_eps[-1].eps == level.eps else None
