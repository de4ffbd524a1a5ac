"""Compare results on the same samples, and say how many samples a claim needs."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

from ..component import require
from ..runtime.text import printable
from .differences import McNemar, correct, correct_at, mcnemar, paired_interval, same_samples
from .headlines import (
    CLEAN,
    Level,
    Levels,
    comparable_groups,
    group_headline,
    headline,
    level_of,
    robust_at,
)
from .intervals import wilson_half
from .result import Result

__all__ = [
    "Comparison",
    "McNemar",
    "compare",
    "compare_at",
    "correct",
    "mcnemar",
    "paired_interval",
    "pairs",
    "same_samples",
    "samples_needed",
]
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """Compare two results on the same samples.

    Arguments:
        where: the compared accuracy, with its radius.
        first_only, second_only: samples that one alone gets right; p, mid: McNemar's of these.
        difference, low, high: of the accuracies, first − second, with its 95 % interval.
        both: samples that both get right.
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
    both: int
    upper: bool = False

    @property
    def clear(self) -> bool:
        """Return whether the samples tell the two apart, by test and by interval."""
        return self.p < LEVEL and self.low * self.high > 0

    @property
    def zeros(self) -> bool:
        """Return whether both are wrong on every sample, so that there is nothing to compare."""
        return self.both + self.first_only + self.second_only == 0

    def sentence(self) -> str:
        """Return the conclusion in words."""
        names = f"{self.first} and {self.second}"
        if self.zeros:
            return f"{names} are wrong on every sample in {self.where}"
        apart = f"{self.n} samples do not tell {names} apart in {self.where}"
        if self.difference == 0:
            return f"{apart}, as both are right on equally many"
        sign = 1 if self.difference > 0 else -1
        better, worse = (self.first, self.second)[::sign]
        low, high = sorted(sign * 100 * v for v in (self.low, self.high))
        interval = f"95 % interval {low:.1f} to {high:.1f}".replace("-", "−")
        size = f"{100 * abs(self.difference):.2f} points ({interval})"
        if self.upper:
            ended = "but an evaluation that ended early flatters its model"
            return f"{better} is ahead of {worse} in {self.where} by {size}, {ended}"
        if self.clear:
            return f"{better} is better than {worse} in {self.where}, by {size}"
        return f"{apart}, where {better} is ahead by {size}"


def compare(
    first: Result, second: Result, *, eps: float | None = None, threat: str = ""
) -> Comparison:
    """Compare two results sample by sample.

    Arguments:
        eps, threat: radius, and norm if several; 0 for clean; default: the headline of the two, the
            worst case over several norms.

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
    if eps is not None:
        for r in (first, second):
            correct(r, eps, threat)  # raises for a radius that was not attacked
        compared = compare_at(first, second, {threat: _level(first, eps, threat)})
    else:
        compared = compare_at(first, second, headline([first, second]))
    if compared is None:
        measured = (", ".join(str(level_of(r, v)) for v in r.by_eps) for r in (first, second))
        radii = printable("; ".join(measured))
        raise ValueError(f"{names[0]} and {names[1]} have no radius in common: {radii}")
    return compared


def _level(result: Result, eps: float, threat: str) -> Level:
    """Return the level of a radius, of the first norm that has it if no norm is named."""
    known = (level_of(result, row) for row in result.by_eps)
    return next((v for v in known if v.eps == eps and threat in ("", v.threat)), CLEAN)


def compare_at(first: Result, second: Result, levels: Levels) -> Comparison | None:
    """Compare two results of the same samples, in the worst case over these levels; None if the
    samples differ, or arrays or a radius are missing."""
    if not same_samples(first, second):
        return None
    a, b = (correct_at(r, levels.values()) for r in (first, second))
    if a is None or b is None:
        return None
    clean = CLEAN in levels.values()
    at = " and ".join(str(level) for level in levels.values() if str(level))
    where = "clean accuracy" if clean else f"robust accuracy{f' at {at}' if at else ''}"
    names = printable(first.name), printable(second.name)
    test, interval = mcnemar(a, b), paired_interval(a, b)
    d, upper = float(a.mean() - b.mean()), not clean and bool(first.early or second.early)
    both = int((a & b).sum())
    return Comparison(*names, where, len(a), *test[:2], d, *interval, *test[2:], both, upper)


def pairs(
    results: Sequence[Result], *, at: float | None = None, most: int | None = None
) -> list[Comparison]:
    """Compare every pair measured alike on the same samples, at the headline of those like them.

    Pairs that are wrong on every sample are left out.

    Arguments:
        at: a radius in place of the headline, where it was measured.
        most: with more pairs than this, the best of each group alone is compared; default: all.
    """
    groups = [(group, group_headline(group, at)) for group in comparable_groups(results)]
    chosen = [(*pair, levels) for group, levels in groups for pair in combinations(group, 2)]
    if most is not None and len(chosen) > most:
        best = {id(_best(group, levels)) for group, levels in groups}
        chosen = [one for one in chosen if {id(one[0]), id(one[1])} & best]
    compared = [compare_at(*one) for one in chosen]
    return [pair for pair in compared if pair and not pair.zeros]


def _best(results: Sequence[Result], levels: Levels) -> Result:
    return max(results, key=lambda r: share.accuracy if (share := robust_at(r, levels)) else -1.0)


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
