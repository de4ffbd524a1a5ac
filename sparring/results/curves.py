"""Compute robust accuracy against eps over a recipe's seeds, on all or on common samples."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .comparison import correct, same_samples
from .intervals import t_interval, wilson
from .result import Result
from .seeds import group_by_recipe, group_names, recipe_name, training_seed


@dataclass(frozen=True)
class AccuracyCurve:
    """Hold accuracy at each radius, 0 first, as shares.

    Arguments:
        name: of the recipe; where several curves are of one, as with overrides, of the run.
        low, high: 95 % interval: Student's t over several seeds, Wilson over samples for one.
        common: only samples count that every compared model gets right unattacked.
        share, sem: share of samples that count, and its standard error over seeds, None for one.
    """

    name: str
    threat: str
    seeds: list[int | None]
    eps: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    common: bool = False
    share: float = 1.0
    sem: float | None = None


def accuracy_curves(results: Sequence[Result], *, common: bool = False) -> list[AccuracyCurve]:
    """Return a curve for each recipe, over its runs that differ in their seed alone.

    The curves have the radii that all results share. With `common`, which needs arrays, only
    samples count that all recipes' models of one seed get right unattacked, and accuracy is the
    share of these that no attack flips. Recipes of other seeds are matched in order of their seeds.

    Source: Paknezhad et al. 2022 for the protocol of common samples.

    Raises:
        ValueError: if no radius is common to all; with `common`, if samples or numbers of seeds
            differ.
    """
    groups = [sorted(g, key=lambda r: str(training_seed(r))) for g in group_by_recipe(results)]
    levels = [{(row.threat, row.eps) for row in r.by_eps if row.eps} for r in results]
    shared = set.intersection(*levels) if levels else set()
    threats = sorted({threat for threat, _ in shared})
    if results and not shared:
        raise ValueError("the results have no radius in common: evaluate them at the same eps")
    masks = _masks(groups) if common else None
    return [
        _curve(name, g, threat, sorted(e for t, e in shared if t == threat and e), masks)
        for threat in threats
        for name, g in zip(group_names(groups), groups, strict=True)
    ]


def comparable_curves(results: Sequence[Result]) -> list[AccuracyCurve]:
    """Return the curves that results allow, on all samples and on common ones.

    Results that cannot be compared, as those without a common radius, have none.
    """
    drawn = []
    for common in (False, True) if len(results) > 1 else ():
        with contextlib.suppress(ValueError):
            drawn += accuracy_curves(results, common=common)
    return drawn


def _curve(
    name: str, group: list[Result], threat: str, eps: list[float], masks: list[np.ndarray] | None
) -> AccuracyCurve:
    chosen = masks or [None] * len(group)
    shares = np.array([_shares(r, threat, eps, m) for r, m in zip(group, chosen, strict=True)])
    counts = [r.n if masks is None else int(masks[k].sum()) for k, r in enumerate(group)]
    intervals = (_interval(column, counts) for column in shares.T)
    low, high = map(list, zip(*intervals, strict=True))
    kept = np.array([c / r.n for c, r in zip(counts, group, strict=True)])
    # Of all samples the share is 1 for every seed, so only common ones have an error.
    several = masks is not None and len(kept) > 1
    sem = float(kept.std(ddof=1) / math.sqrt(len(kept))) if several else None
    common, share = masks is not None, float(kept.mean())
    norm, mean = threat or str(group[0].threat.get("name", "")), shares.mean(0).tolist()
    seeds = [training_seed(r) for r in group]
    return AccuracyCurve(name, norm, seeds, [0.0, *eps], mean, low, high, common, share, sem)


def _shares(r: Result, threat: str, eps: Sequence[float], mask: np.ndarray | None) -> list[float]:
    if mask is None:
        rows = {(row.threat, row.eps): row.robust.accuracy for row in r.by_eps}
        return [r.clean.accuracy, *(rows[threat, e] for e in eps)]
    return [float(correct(r, e, threat if e else "")[mask].mean()) for e in (0.0, *eps)]


def _interval(values: np.ndarray, counts: Sequence[int]) -> tuple[float, float]:
    if len(values) == 1:
        i = wilson(round(values[0] * counts[0]), counts[0])
        return i.low, i.high
    return t_interval(values)[1:]


def _masks(groups: Sequence[Sequence[Result]]) -> list[np.ndarray]:
    """Return, seed by seed, the samples that every recipe's model gets right."""
    if len({len(g) for g in groups}) > 1:
        sizes = ", ".join(f"{recipe_name(g[0])} {len(g)}" for g in groups)
        raise ValueError(f"the recipes have different numbers of seeds: {sizes}")
    masks = []
    for runs in zip(*groups, strict=True):
        if not all(same_samples(runs[0], r) for r in runs):
            raise ValueError(
                "the results are not of the same samples, or their arrays are not beside them: "
                "evaluate all on one data set and split, with the same n and seed"
            )
        mask = np.logical_and.reduce([correct(r, 0) for r in runs])
        if not mask.any():
            raise ValueError("no sample is right for all models: there is nothing in common")
        masks.append(mask)
    return masks
