"""How good a detector is: error rates, ROC and its area, clean and under attack, each with an
interval. Pure functions of scores, predictions and labels.

The positive class is 1, and a score rises with it. Under attack a sample has its worst score: the
least of a positive's, the greatest of a negative's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .intervals import Interval, effective, wilson


@dataclass(frozen=True)
class Operating:
    """A detector whose threshold is set for a false-positive rate of at most `at`.

    Arguments:
        fpr: what the threshold gives on the negatives.
        threshold: a score from which on a sample is called positive; None where nothing is.
        tpr: share of the positives it finds, at this threshold.
    """

    at: float
    fpr: float
    threshold: float | None
    tpr: Interval


@dataclass(frozen=True)
class Rates:
    """How a detector does on one version of the samples, as shares with 95 % intervals.

    Arguments:
        name: `"clean"`, `"positives attacked"` or `"all attacked"`.
        fnr, fpr: missed positives, flagged negatives; of more than two classes, one against the
            rest, and the mean over classes.
        auc, tpr: of two classes only.
    """

    name: str
    accuracy: Interval
    fnr: Interval
    fpr: Interval
    auc: Interval | None = None
    tpr: list[Operating] = field(default_factory=list)


@dataclass(frozen=True)
class Used:
    """A feature, and in how many evasions it was added."""

    name: str
    count: int


@dataclass(frozen=True)
class Detection:
    """Detection rates clean and under attack, at the largest radius, and how evasions were made.

    Arguments:
        positive: the class that is to be detected, "" with more than two classes.
        evasions: positives that are found unattacked and missed under attack.
        flips, median: mean and median over evasions of the fewest features that changed; None where
            features are no bits, or there is no evasion.
        added: the features added most often, in these fewest changes.
    """

    positive: str
    rates: list[Rates]
    evasions: int = 0
    flips: float | None = None
    median: float | None = None
    added: list[Used] = field(default_factory=list)


FIXED = (0.001, 0.01)  # false-positive rates at which detectors are compared
CLEAN, POSITIVES, ALL = "clean", "positives attacked", "all attacked"


class Roc(NamedTuple):
    """Points of the curve, rising: at each `threshold` a sample with this score or more is called
    positive."""

    fpr: np.ndarray
    tpr: np.ndarray
    threshold: np.ndarray


def roc(score: np.ndarray, y: np.ndarray) -> Roc:
    """A point for each distinct score, and (0, 0) at an infinite threshold.

    >>> roc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1]))[:2]
    (array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]))
    """
    positive = _positives(score, y)
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], positive[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the end of each tie
    found = np.cumsum(hits)[last]
    flagged = last + 1 - found
    return Roc(
        np.append(0.0, flagged / (~positive).sum()),
        np.append(0.0, found / positive.sum()),
        np.append(np.inf, ranked[last]),
    )


def auc(score: np.ndarray, y: np.ndarray) -> Interval:
    """The area under the ROC curve: the share of pairs in which the positive scores higher, ties
    half; with its interval.

    Its variance is S₁/m + S₀/n, the variances of the placements of m positives among the negatives
    and of n negatives among the positives; the interval is Wilson's at as many trials as give this
    variance. Where it is 0, they are min(m, n): no AUC varies more than a share of that many.

    Source: DeLong, DeLong and Clarke-Pearson 1988; Birnbaum and Klose 1957 for the bound. Differs:
    Wilson's form in place of AUC ± 1.96·s, which leaves [0, 1] and has no width at 1.

    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1])).accuracy
    0.875
    """
    positive = _positives(score, y)
    high, low = np.sort(score[positive]), np.sort(score[~positive])
    m, n = len(high), len(low)
    above = (np.searchsorted(low, high) + np.searchsorted(low, high, "right")) / (2 * n)
    below = 1 - (np.searchsorted(high, low) + np.searchsorted(high, low, "right")) / (2 * m)
    spread = [float(v.var(ddof=1)) / len(v) if len(v) > 1 else 0.0 for v in (above, below)]
    return effective(float(above.mean()), sum(spread), min(m, n))


def operating(
    at: float, clean: np.ndarray, y: np.ndarray, attacked: np.ndarray | None = None
) -> Operating:
    """The threshold of the greatest TPR with FPR ≤ `at` on the clean samples, and what it gives on
    these or on attacked ones.

    A detector's threshold is set before it is attacked. The interval of the TPR takes it as given.
    With fewer than 1/at negatives none may be flagged.

    >>> operating(0.25, np.array([0.1, 0.2, 0.3, 0.6, 0.5, 0.9]), np.array([0, 0, 0, 0, 1, 1])).tpr
    Interval(accuracy=1.0, low=0.34..., high=1.0)
    """
    positive = _positives(clean, y)
    if not 0 < at < 1:
        raise ValueError(f"at = {at} is not allowed: at must be a false-positive rate in (0, 1)")
    negatives = np.sort(clean[~positive])[::-1]
    bar = negatives[int(at * len(negatives) + 1e-9)]  # the first one that may not be flagged
    over = clean[clean > bar]
    threshold = float(over.min()) if len(over) else np.inf
    score = clean if attacked is None else attacked
    found = (score >= threshold) & bool(len(over))
    tpr = wilson(int(found[positive].sum()), int(positive.sum()))
    known = threshold if np.isfinite(threshold) else None
    return Operating(at, float(found[~positive].mean()), known, tpr)


def macro(said: np.ndarray, y: np.ndarray, classes: int) -> tuple[Interval, Interval]:
    """FNR and FPR of each class against the rest, averaged over classes.

    FNR = mean_c FN_c/P_c and FPR = mean_c FP_c/N_c, over classes that have rows; a prediction of -1
    is no class. Each error on a sample of class y, taken for p, adds 1/(k·P_y) and 1/(k·N_p):
    their variance within the classes gives the interval, Wilson's at as many trials.

    Source: armor-mnist's one-vs-rest rates, Birrell and Ebrahimi 2023.

    >>> [round(i.accuracy, 3) for i in macro(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2]), 3)]
    [0.167, 0.111]
    """
    counts = np.bincount(y, minlength=classes)
    there = counts > 0
    k, rest = int(there.sum()), len(y) - counts
    if k < 2:
        raise ValueError("all samples are of one class: there is nothing to tell apart")
    wrong = said != y
    taken = np.where((said >= 0) & there[said], 1 / np.maximum(k * rest[said], 1), 0.0)
    missed, flagged = wrong / (k * counts[y]), wrong * taken
    fnr = effective(float(missed.sum()), _within(missed, y), k * k / (1 / counts[there]).sum())
    fpr = effective(float(flagged.sum()), _within(flagged, y), k * k / (1 / rest[there]).sum())
    return fnr, fpr


def _within(value: np.ndarray, y: np.ndarray) -> float:
    """The variance of Σ value, samples drawn within their classes."""
    return float(sum(len(v) * v.var() for v in (value[y == c] for c in np.unique(y))))


def _positives(score: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which samples are of class 1; both classes must be there."""
    if score.shape != y.shape or y.ndim != 1:
        raise ValueError(f"scores have shape {score.shape}, labels {y.shape}: one a sample each")
    if np.isnan(score).any():
        raise ValueError("a score is NaN: give it the side that is wrong, -inf or inf")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("labels must be 0 and 1: a ROC curve is of two classes")
    if not 0 < (y == 1).sum() < len(y):
        raise ValueError("all samples are of one class: there is nothing to detect")
    return y == 1


def worst(y: np.ndarray, clean: np.ndarray, *attacked: np.ndarray) -> np.ndarray:
    """The worst score of each sample over clean and attacked points `(n,)`; a NaN is as bad as can
    be.

    >>> worst(np.array([1, 0]), np.array([2.0, -2.0]), np.array([1.0, -3.0])).tolist()
    [1.0, -2.0]
    """
    positive = y == 1
    bad = np.where(positive, -np.inf, np.inf)
    scores = [np.where(np.isnan(s), bad, s) for s in (clean, *attacked)]
    return np.where(positive, np.min(scores, axis=0), np.max(scores, axis=0))


def rates(
    name: str, said: np.ndarray, y: np.ndarray, score: np.ndarray, clean: np.ndarray
) -> Rates:
    """All rates of two classes on one version of the samples; thresholds are set on `clean`."""
    right, positive = said == y, _positives(score, y)
    return Rates(
        name,
        wilson(int(right.sum()), len(y)),
        wilson(int((~right & positive).sum()), int(positive.sum())),
        wilson(int((~right & ~positive).sum()), int((~positive).sum())),
        auc(score, y),
        [operating(at, clean, y, score) for at in FIXED],
    )


def detection(
    y: np.ndarray,
    clean_pred: np.ndarray,
    adv_pred: np.ndarray,
    *,
    class_names: Sequence[str],
    clean_score: np.ndarray | None = None,
    adv_score: np.ndarray | None = None,
    flips: np.ndarray | None = None,
    added: Sequence[Used] = (),
) -> Detection | None:
    """The rates clean, with the positives attacked, and with all attacked where that differs; of
    more than two classes the macro rates. None where all samples are of one class.

    Arguments:
        clean_score, adv_score: `(n,)`, of two classes; without them there are macro rates only.
        flips: `(n,)` the fewest changed features that broke a sample, -1 for none.
    """
    if len(np.unique(y)) < 2:
        return None
    if len(class_names) > 2 or clean_score is None or adv_score is None:
        found, k = [], max(len(class_names), *(int(v.max()) + 1 for v in (clean_pred, adv_pred)))
        for name, said in ((CLEAN, clean_pred), (ALL, adv_pred)):
            share = wilson(int((said == y).sum()), len(y))
            found.append(Rates(name, share, *macro(said, y, k)))
        return Detection("", found)
    clean, attacked = worst(y, clean_score), worst(y, clean_score, adv_score)
    half_said = np.where(y == 1, adv_pred, clean_pred)
    half = np.where(y == 1, attacked, clean)
    found = [
        rates(CLEAN, clean_pred, y, clean, clean),
        rates(POSITIVES, half_said, y, half, clean),
    ]
    if (half_said != adv_pred).any() or (half != attacked).any():
        found.append(rates(ALL, adv_pred, y, attacked, clean))
    evaded = evasions(y, clean_pred, adv_pred)
    took = flips[evaded & (flips >= 0)] if flips is not None else np.zeros(0)
    return Detection(
        class_names[1],
        found,
        int(evaded.sum()),
        float(took.mean()) if len(took) else None,
        float(np.median(took)) if len(took) else None,
        list(added),
    )


def evasions(y: np.ndarray, clean_pred: np.ndarray, adv_pred: np.ndarray) -> np.ndarray:
    """Positives that are found unattacked and missed under attack `(n,)`."""
    return (y == 1) & (clean_pred == 1) & (adv_pred != 1)
