"""Compare runs: over their seeds where both have several, else on the same samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sparring.results import comparison, headlines, levels, seeds, verdicts
from sparring.results.comparison import Comparison
from sparring.results.intervals import Interval, t_interval
from sparring.results.seeds import SeedDifference

from .collect import Measured

NOT_JUDGED = "not judged"  # results of the earliest files have no verdict
ORDER = (verdicts.NOT_SOUND, verdicts.LOOK, verdicts.SOUND, NOT_JUDGED)


def measurement(measured: Measured) -> str:
    """Return the verdict of the measurement; of several seeds, each with its number of seeds.

    >>> from types import SimpleNamespace as N
    >>> measurement(Measured("", "", None, [(N(verdict=v), None) for v in ("look", "sound")]))
    'look (1), sound (1)'
    """
    counts = Counter(r.verdict or NOT_JUDGED for r in measured.results)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} ({counts[name]})" for name in ORDER if name in counts)


def interval(accuracies: Sequence[Interval]) -> Interval:
    """Return an accuracy with its interval: Wilson's of one seed, Student's t over several."""
    if len(accuracies) == 1:
        return accuracies[0]
    mean, low, high = t_interval(np.array([i.accuracy for i in accuracies]))
    return Interval(mean, max(0.0, low), min(1.0, high))


def over_seeds(first: Measured, second: Measured, *, clean: bool = False) -> SeedDifference | None:
    """Return the difference of means over seeds, with Welch's interval; None without seeds."""
    if min(len(first.rows), len(second.rows)) < 2:
        return None
    level = headlines.level_of(*first.rows[0])
    of_norm = {level.threat: level}
    return seeds.difference(first.results, second.results, clean=clean, levels=of_norm)


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


def not_told_apart(items: Sequence[Measured]) -> set[str]:
    """Return the best runs of the first one's evaluation, and those not told apart from them."""
    alike = [m for m in items if m.evaluation == items[0].evaluation]
    level = headlines.level_of(*alike[0].rows[0])
    best = levels.not_told_apart([r for m in alike for r in m.results], level)
    # All seeds: the sound ones of a run are no fair sample of it.
    return {m.run for m in alike if all(r.name in best for r in m.results)}
