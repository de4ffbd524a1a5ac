"""Compare runs: over their seeds where both have several, else on the same samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from sparring.results import comparison, seeds
from sparring.results.comparison import Comparison
from sparring.results.intervals import Interval, t_quantile
from sparring.results.seeds import SeedDifference

from .collect import Measured

# Of the first edition's verdicts; its earliest results have none.
NAMES = {"trust": "sound", "do not trust": "not sound", "": "not judged"}
ORDER = ("not sound", "look", "sound", "not judged")


class Difference(NamedTuple):
    """Hold a difference of robust accuracies with its 95 % interval."""

    points: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Return whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def measurement(measured: Measured) -> str:
    """Return the verdict of the measurement; of several seeds, each with its number of seeds.

    >>> from types import SimpleNamespace as N
    >>> measurement(Measured("", "", None, [(N(verdict=v), None) for v in ("look", "trust")]))
    'look (1), sound (1)'
    """
    counts = Counter(NAMES.get(r.verdict, r.verdict) for r in measured.results)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} ({counts[name]})" for name in ORDER if name in counts)


def is_sound_enough(measured: Measured) -> bool:
    """Return whether a run may be called best: no seed's measurement is unsound or cut short."""
    verdicts = {NAMES.get(r.verdict, r.verdict) for r in measured.results}
    skipped = any(attack.skipped for _, row in measured.rows for attack in row.attacks)
    return "not sound" not in verdicts and not skipped


def interval(accuracies: Sequence[Interval]) -> Interval:
    """Return an accuracy with its interval: Wilson's of one seed, Student's t over several."""
    if len(accuracies) == 1:
        return accuracies[0]
    values = [i.accuracy for i in accuracies]
    mean, half = fmean(values), _t_half(values)
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))


def _t_half(values: Sequence[float]) -> float:
    return t_quantile(len(values) - 1) * stdev(values) / len(values) ** 0.5


def over_seeds(first: Measured, second: Measured, *, clean: bool = False) -> SeedDifference | None:
    """Return the difference of means over seeds, with Welch's interval; None without seeds."""
    if min(len(first.rows), len(second.rows)) < 2:
        return None
    return seeds.difference(first.results, second.results, clean=clean)


def on_same_samples(first: Measured, second: Measured) -> dict[int, Comparison]:
    """Return the paired comparisons by training seed, for seeds that drew the same samples."""
    others = {seeds.training_seed(r): (r, row) for r, row in second.rows}
    paired = {}
    for r, row in first.rows:
        seed = seeds.training_seed(r)
        if seed in others and comparison.same_samples(r, others[seed][0]):
            other, other_row = others[seed]
            threat = row.threat if row.threat == other_row.threat else ""
            paired[seed] = comparison.compare(r, other, eps=row.eps, threat=threat)
    return paired


def difference(first: Measured, second: Measured) -> Difference | None:
    """Return the difference over seeds, else on the same samples of the first shared seed."""
    if over := over_seeds(first, second):
        return Difference(over.difference, over.low, over.high)
    for paired in on_same_samples(first, second).values():
        return Difference(paired.difference, paired.low, paired.high)
    return None


def not_told_apart(items: Sequence[Measured]) -> set[str]:
    """Return the best of the runs, and those whose difference to it may be 0."""
    candidates = [m for m in items if m.evaluation == items[0].evaluation and is_sound_enough(m)]
    if not candidates:
        return set()
    best = max(candidates, key=lambda m: m.robust)
    apart = {m.run: difference(best, m) for m in candidates if m is not best}
    return {best.run} | {run for run, d in apart.items() if d is not None and not d.is_clear}
