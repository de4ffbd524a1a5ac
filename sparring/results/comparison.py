"""Test whether results on the same samples differ, and how many samples a claim needs."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ..component import require
from ..runtime.fractions import format_number
from ..runtime.text import printable
from .intervals import wilson, wilson_half
from .result import Result, correct_key

LEVEL = 0.05


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
    margins = a.sum() * (n - a.sum()) * b.sum() * (n - b.sum())
    phi = product / math.sqrt(margins) if margins else 0.0
    d = first.accuracy - second.accuracy

    def half_width(u: float, v: float) -> float:
        return math.sqrt(max(0.0, u * u - 2 * phi * u * v + v * v))

    down = half_width(first.accuracy - first.low, second.high - second.accuracy)
    up = half_width(first.high - first.accuracy, second.accuracy - second.low)
    return max(-1.0, d - down), min(1.0, d + up)


@dataclass(frozen=True)
class Comparison:
    """Compare two results on the same samples.

    Arguments:
        where: the compared accuracy.
        first_only, second_only: samples that one alone gets right; p, mid: McNemar's of these.
        difference, low, high: of the accuracies, first − second, with its 95 % interval.
        upper: one of the two ended early, so that its accuracy is an upper bound.
    """

    first: str
    second: str
    where: str
    n: int
    first_only: int
    second_only: int
    difference: float
    low: float
    high: float
    p: float
    mid: float
    upper: bool = False

    def sentence(self) -> str:
        """Return the conclusion in words."""
        sign = 1 if self.difference >= 0 else -1
        better, worse = (self.first, self.second)[::sign]
        low, high = sorted(sign * 100 * v for v in (self.low, self.high))
        test = f"McNemar p = {self.p:.2g}, {self.first_only} against {self.second_only} samples"
        size = f"{100 * abs(self.difference):.2f} points (95 %: {low:.2f} to {high:.2f}; {test})"
        if self.upper:
            ended = "but an evaluation that ended early flatters its model"
            return f"{self.where}: {better} is ahead of {worse} by {size}, {ended}"
        if self.p < LEVEL:
            return f"{self.where}: {better} is better than {worse} by {size}"
        apart = f"{self.n} samples do not tell {self.first} and {self.second} apart"
        return f"{self.where}: {apart}: {better} is ahead by {size}"


def compare(
    first: Result, second: Result, *, eps: float | None = None, threat: str = ""
) -> Comparison:
    """Compare two results sample by sample.

    Arguments:
        eps, threat: radius, and norm if several; 0 for clean; default: the worst case of each.

    Raises:
        ValueError: if samples differ, arrays are missing, or a radius was not attacked.
    """
    names = printable(first.name), printable(second.name)
    for name, r in zip(names, (first, second), strict=True):
        if not {"index", "clean_pred", "adv_pred", "y"} <= set(r.arrays):
            where = "they are in the .npz beside its .json; without them samples can't be paired"
            raise ValueError(f"{name} has no arrays: {where}")
    if not same_samples(first, second):
        raise ValueError(
            f"{names[0]} and {names[1]} were not evaluated on the same samples: "
            "evaluate both on one data set and split, with the same n and seed"
        )
    if eps is None and _largest_radii(first) != _largest_radii(second):
        raise ValueError(
            f"{names[0]} and {names[1]} were attacked at different largest radii "
            f"({_largest_radii(first)}, {_largest_radii(second)}): name one that both have as eps"
        )
    a, b = (correct(r, eps, threat) for r in (first, second))
    test, interval = mcnemar(a, b), paired_interval(a, b)
    at = " ".join(filter(None, (" at", threat, f"eps {format_number(eps)}"))) if eps else ""
    where = ("clean accuracy" if eps == 0 else "robust accuracy") + at
    d, upper = float(a.mean() - b.mean()), bool(eps != 0 and (first.early or second.early))
    return Comparison(*names, where, len(a), *test[:2], d, *interval, *test[2:], upper)


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


def _largest_radii(r: Result) -> dict[str, float | None]:
    return {row.threat or str(r.threat.get("name", "")): row.eps for row in r.by_eps}


def samples_needed(
    *,
    width: float | None = None,
    difference: float | None = None,
    accuracy: float = 0.5,
    discordant: float | None = None,
    power: float = 0.8,
) -> int:
    """Return the number of samples that a claim needs; all arguments are shares in [0, 1].

    For an accuracy to within ± `width`: the least n whose 95 % Wilson interval is that narrow. For
    a `difference` d of two models on the same samples, detected at level 0.05 with this power:
    n = (1.96·√ψ + z·√(ψ − d²))² / d², ψ the share of discordant samples.

    Arguments:
        accuracy: the expected one; of the better model for a difference.
        discordant: ψ, small for similar models; default: of independent models, cautiously.

    Source: Connor 1987, "Sample size for testing differences in proportions for the paired-sample
    design".

    >>> samples_needed(width=0.01, accuracy=0.95), samples_needed(difference=0.02, accuracy=0.9)
    (1838, 3844)
    """
    if (width is None) == (difference is None):
        raise ValueError("give either width or difference")
    require(0 <= accuracy <= 1, "accuracy", accuracy, "a share in [0, 1]")
    require(0 < power < 1, "power", power, "a share in (0, 1)")
    if width is not None:
        require(0 < width < 0.5, "width", width, "between 0 and 0.5")
        most = 1
        while wilson_half(accuracy, most) > width:
            most *= 2
        return bisect_left(range(most), True, lo=1, key=lambda n: wilson_half(accuracy, n) <= width)
    d = abs(difference or 0.0)
    other = accuracy - d
    require(d and other >= 0, "difference", difference, "above 0 and at most accuracy")
    # Independent models disagree most, so this ψ asks for too many samples rather than too few.
    psi = accuracy * (1 - other) + other * (1 - accuracy) if discordant is None else discordant
    require(d <= psi <= 1, "discordant", psi, "between the difference and 1")
    z, one = NormalDist().inv_cdf(power), NormalDist().inv_cdf(1 - LEVEL / 2)
    return math.ceil((one * math.sqrt(psi) + z * math.sqrt(psi - d * d)) ** 2 / (d * d))


def pairs(results: Sequence[Result]) -> list[Comparison]:
    """Compare every pair of the same samples, suite and largest radii, in the worst case."""

    def is_comparable(first: Result, second: Result) -> bool:
        suites = {(r.suite, r.suite_version) for r in (first, second)}
        same = len(suites) == 1 and _largest_radii(first) == _largest_radii(second)
        return same and "adv_pred" in first.arrays and same_samples(first, second)

    return [compare(*pair) for pair in combinations(results, 2) if is_comparable(*pair)]
