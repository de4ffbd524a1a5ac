"""Robust accuracy against eps, over the seeds of a recipe, on all samples or on common ones."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .comparison import correct, same_samples
from .intervals import mean95, wilson
from .result import Result
from .seeds import grouped, name_of, names, seed_of


@dataclass(frozen=True)
class Curve:
    """Accuracy at each radius, 0 first, as shares.

    Arguments:
        name: of the recipe; where several curves are of one, as with overrides, of the run.
        seeds: of the runs; one line stands for all of them.
        low, high: 95 %: Student's t over seeds where there are several, else Wilson over samples.
        common: only samples counted that every compared model gets right unattacked.
        share, sem: of the samples that counts, and its standard error over seeds, None for one.
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


def curves(results: Sequence[Result], *, common: bool = False) -> list[Curve]:
    """A curve for each recipe, over its runs that differ in their seed alone.

    With `common`, seed by seed, only the samples count that all recipes' models of that seed get
    right unattacked, and accuracy is the share of those that no attack flips; where the recipes
    have other seeds, runs are matched in the order of their seeds.

    Arguments:
        results: with arrays, if `common`; their radii are those that all have.

    Source: Paknezhad et al. 2022 for the protocol of common samples.

    Raises:
        ValueError: if no radius is common to all; with `common`, if samples or numbers of seeds
            differ.
    """
    groups = [sorted(g, key=lambda r: str(seed_of(r))) for g in grouped(results)]
    levels = [{(row.threat, row.eps) for row in r.by_eps if row.eps} for r in results]
    shared = set.intersection(*levels) if levels else set()
    threats = sorted({threat for threat, _ in shared})
    if results and not shared:
        raise ValueError("the results have no radius in common: evaluate them at the same eps")
    masks = _masks(groups) if common else None
    return [
        _curve(name, g, threat, sorted(e for t, e in shared if t == threat and e), masks)
        for threat in threats
        for name, g in zip(names(groups), groups, strict=True)
    ]


def comparable(results: Sequence[Result]) -> list[Curve]:
    """The curves that results allow: of runs with seeds or of several recipes, on all samples, and
    on common ones where the samples are the same; none where nothing can be compared."""
    found = []
    for common in (False, True) if len(results) > 1 else ():
        with contextlib.suppress(ValueError):
            found += curves(results, common=common)
    return found


def _curve(
    name: str,
    group: Sequence[Result],
    threat: str,
    eps: Sequence[float],
    masks: list[np.ndarray] | None,
) -> Curve:
    shares = np.array(
        [_shares(r, threat, eps, None if masks is None else masks[k]) for k, r in enumerate(group)]
    )
    counts = [r.n if masks is None else int(masks[k].sum()) for k, r in enumerate(group)]
    spans = [_span(column, counts) for column in shares.T]
    kept = np.array([c / r.n for c, r in zip(counts, group, strict=True)])
    several = masks is not None and len(kept) > 1
    return Curve(
        name,
        threat or str(group[0].threat.get("name", "")),
        seeds=[seed_of(r) for r in group],
        eps=[0.0, *eps],
        mean=shares.mean(0).tolist(),
        low=[low for low, _ in spans],
        high=[high for _, high in spans],
        common=masks is not None,
        share=float(kept.mean()),
        sem=float(kept.std(ddof=1) / math.sqrt(len(kept))) if several else None,
    )


def _shares(r: Result, threat: str, eps: Sequence[float], mask: np.ndarray | None) -> list[float]:
    """Clean accuracy, then at each radius; among the samples of a mask where there is one."""
    if mask is None:
        rows = {(row.threat, row.eps): row.robust.accuracy for row in r.by_eps}
        return [r.clean.accuracy, *(rows[threat, e] for e in eps)]
    return [float(correct(r, e, threat if e else "")[mask].mean()) for e in (0.0, *eps)]


def _span(values: np.ndarray, counts: Sequence[int]) -> tuple[float, float]:
    if len(values) == 1:
        i = wilson(round(values[0] * counts[0]), counts[0])
        return i.low, i.high
    _, low, high = mean95(values)
    assert low is not None
    assert high is not None
    return low, high


def _masks(groups: Sequence[Sequence[Result]]) -> list[np.ndarray]:
    """Seed by seed, the samples that every recipe's model gets right."""
    if len({len(g) for g in groups}) > 1:
        raise ValueError(
            "the recipes have other numbers of seeds: "
            + ", ".join(f"{name_of(g[0])} {len(g)}" for g in groups)
        )
    found = []
    for runs in zip(*groups, strict=True):
        if not all(same_samples(runs[0], r) for r in runs):
            raise ValueError(
                "the results are not of the same samples, or their arrays are not beside them: "
                "evaluate all on one data set and split, with the same n and seed"
            )
        mask = np.logical_and.reduce([correct(r, 0) for r in runs])
        if not mask.any():
            raise ValueError("no sample is right for all models: there is nothing in common")
        found.append(mask)
    return found
