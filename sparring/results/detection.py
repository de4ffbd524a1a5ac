"""Error rates, ROC curve and its area of a detector, clean and under attack, with intervals.

Pure functions of scores, predictions and labels. The positive class is 1, and a score rises with
it. Under attack a sample has its worst score: the least of a positive's, the greatest of a
negative's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..component import require
from .intervals import Interval, effective_wilson, wilson
from .ranges import Amount, Count, Share


@dataclass(frozen=True)
class OperatingPoint:
    """Describe a detector whose threshold is set for a false-positive rate of at most `at`.

    Arguments:
        fpr, tpr: shares of negatives and positives that this threshold flags.
        threshold: the score from which on a sample is called positive; None: no sample is.
        negatives: clean negatives by which the threshold was set; 0 if unknown.
    """

    at: Share
    fpr: Share
    threshold: float | None
    tpr: Interval
    negatives: Count = 0

    @property
    def too_few(self) -> bool:
        """Return whether the negatives are too few to measure this rate: fewer than 1/at, so that
        the threshold may flag none of them."""
        return 0 < self.negatives * self.at < 1 - 1e-9


@dataclass(frozen=True)
class DetectionRates:
    """Hold the rates of a detector on one version of the samples, as shares with 95 % intervals.

    Arguments:
        name: `"clean"`, `"positives attacked"` or `"all attacked"`.
        fnr, fpr: missed positives, flagged negatives; of more than two classes, one against the
            rest, averaged over classes, and without auc and tpr.
    """

    name: str
    accuracy: Interval
    fnr: Interval
    fpr: Interval
    auc: Interval | None = None
    tpr: list[OperatingPoint] = field(default_factory=list)


@dataclass(frozen=True)
class FeatureCount:
    """Count the evasions that added a feature."""

    name: str
    count: Count


@dataclass(frozen=True)
class Detection:
    """Hold detection rates clean and under attack, at the largest radius, and how evasions work.

    Arguments:
        positive: the class to be detected, "" with more than two classes.
        evasions: positives that are detected unattacked and missed under attack.
        flips, median: mean and median over evasions of the fewest features that changed; None
            where features are not bits, or without an evasion.
        added: the features added most often, in these fewest changes.
    """

    positive: str
    rates: list[DetectionRates]
    evasions: Count = 0
    flips: Amount | None = None
    median: Amount | None = None
    added: list[FeatureCount] = field(default_factory=list)

    def __post_init__(self) -> None:
        both = (self.flips is None) == (self.median is None)
        require(both, "flips", self.flips, f"None if median is, and median = {self.median}")


FIXED = (0.001, 0.01)  # false-positive rates at which detectors are compared
CLEAN, POSITIVES, ALL = "clean", "positives attacked", "all attacked"


class Roc(NamedTuple):
    """Hold the points of a ROC curve, rising: from each `threshold` on, samples are flagged."""

    fpr: np.ndarray
    tpr: np.ndarray
    threshold: np.ndarray


def roc(score: np.ndarray, y: np.ndarray, *, corners: bool = False) -> Roc:
    """Return the ROC curve: a point for each distinct score, and (0, 0) at an infinite threshold.

    Arguments:
        score, y: `(n,)` scores, which may be infinite, and labels 0 or 1.
        corners: leave out points within straight runs, which a picture does not need.

    >>> roc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1]))[:2]
    (array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]))
    """
    from sklearn.metrics import roc_curve

    # Ranks stand for the scores: scikit-learn refuses infinite ones, and a logit may overflow.
    level, rank = np.unique(score, return_inverse=True)
    fpr, tpr, rank = roc_curve(_positives(score, y), rank, drop_intermediate=corners)
    return Roc(fpr, tpr, np.append(np.inf, level[rank[1:].astype(int)]))


def auc(score: np.ndarray, y: np.ndarray) -> Interval:
    """Return the area under the ROC curve with its interval.

    It is the share of pairs in which the positive scores higher, ties half. Its variance is
    S₁/m + S₀/n, the variances of the placements of m positives among the negatives and of n
    negatives among the positives. The interval is Wilson's at the number of trials that gives this
    variance, or at min(m, n) where it is 0: no AUC varies more than a share of that many.

    Source: DeLong, DeLong and Clarke-Pearson 1988; Birnbaum and Klose 1957 for the bound. Differs:
    Wilson's form in place of AUC ± 1.96·s, which leaves [0, 1] and has no width at 1.

    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1])).accuracy
    0.875
    """
    from sklearn.metrics import roc_auc_score

    positive = _positives(score, y)
    high, low = np.sort(score[positive]), np.sort(score[~positive])
    m, n = len(high), len(low)
    above = (np.searchsorted(low, high) + np.searchsorted(low, high, "right")) / (2 * n)
    below = 1 - (np.searchsorted(high, low) + np.searchsorted(high, low, "right")) / (2 * m)
    variance = sum(float(v.var(ddof=1)) / len(v) for v in (above, below) if len(v) > 1)
    area = roc_auc_score(positive, np.unique(score, return_inverse=True)[1])
    return effective_wilson(float(area), variance, min(m, n))


def operating_point(
    at: float, clean: np.ndarray, y: np.ndarray, attacked: np.ndarray | None = None
) -> OperatingPoint:
    """Return the threshold of the greatest TPR with FPR ≤ `at` on clean samples, and its rates.

    The rates are those on the clean samples, or on attacked ones. A detector's threshold is set
    before it is attacked, and the interval of the TPR takes it as fixed. With fewer than 1/at
    negatives none may be flagged.

    >>> y = np.array([0, 0, 0, 0, 1, 1])
    >>> operating_point(0.25, np.array([0.1, 0.2, 0.3, 0.6, 0.5, 0.9]), y).tpr
    100.0 % [34.2, 100.0]
    """
    curve, positive = roc(clean, y), y == 1
    if not 0 < at < 1:
        raise ValueError(f"at = {at} is not allowed: at must be a false-positive rate in (0, 1)")
    # The slack is for rounding alone: a rate of 0.01 allows 3 of 300 negatives.
    allowed = np.flatnonzero(curve.fpr <= at + 1e-9)
    threshold = float(curve.threshold[allowed[-1]])
    score = clean if attacked is None else attacked
    # The first point flags no sample at all, not even one whose score is infinite.
    flagged = (score >= threshold) & bool(allowed[-1])
    tpr = wilson(int(flagged[positive].sum()), int(positive.sum()))
    finite = threshold if np.isfinite(threshold) else None
    negatives = int((~positive).sum())
    return OperatingPoint(at, float(flagged[~positive].mean()), finite, tpr, negatives)


def macro_rates(pred: np.ndarray, y: np.ndarray, classes: int) -> tuple[Interval, Interval]:
    """Return FNR and FPR of each class against the rest, averaged over classes.

    FNR = mean_c FN_c/P_c and FPR = mean_c FP_c/N_c, over classes that have rows; a prediction of -1
    is not a class. Each error on a sample of class y, taken for p, adds 1/(k·P_y) and 1/(k·N_p).
    Their variance within the classes gives the interval, Wilson's at as many trials.

    Source: armor-mnist's one-vs-rest rates, Birrell and Ebrahimi 2023.

    >>> rates = macro_rates(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2]), 3)
    >>> [round(i.accuracy, 3) for i in rates]
    [0.167, 0.111]
    """
    counts = np.bincount(y, minlength=classes)
    present = counts > 0
    k, rest = int(present.sum()), len(y) - counts
    if k < 2:
        raise ValueError("all samples are of one class: detection needs at least 2")
    wrong = pred != y
    mistaken = np.where((pred >= 0) & present[pred], 1 / np.maximum(k * rest[pred], 1), 0.0)
    missed, flagged = wrong / (k * counts[y]), wrong * mistaken

    # One sort, not a pass over all samples for each of a thousand classes.
    order, ends = np.argsort(y, kind="stable"), np.cumsum(counts[present])[:-1]

    def rate(errors: np.ndarray, sizes: np.ndarray) -> Interval:
        variance = float(sum(len(v) * v.var() for v in np.split(errors[order], ends)))
        return effective_wilson(float(errors.sum()), variance, k * k / (1 / sizes[present]).sum())

    return rate(missed, counts), rate(flagged, rest)


def _positives(score: np.ndarray, y: np.ndarray) -> np.ndarray:
    if score.shape != y.shape or y.ndim != 1:
        raise ValueError(f"scores have shape {score.shape}, labels {y.shape}: one per sample")
    if np.isnan(score).any():
        raise ValueError("a score is NaN: set it to an error, -inf for label 1 and inf for label 0")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("labels must be 0 and 1: a ROC curve is of two classes")
    if not 0 < (y == 1).sum() < len(y):
        raise ValueError("labels are of one class only: a ROC curve needs both")
    return y == 1


def worst_scores(y: np.ndarray, clean: np.ndarray, *attacked: np.ndarray) -> np.ndarray:
    """Return the worst score of each sample over its clean and attacked points `(n,)`.

    A NaN counts as infinitely wrong.

    >>> worst_scores(np.array([1, 0]), np.array([2.0, -2.0]), np.array([1.0, -3.0])).tolist()
    [1.0, -2.0]
    """
    positive = y == 1
    wrong = np.where(positive, -np.inf, np.inf)
    scores = [np.where(np.isnan(s), wrong, s) for s in (clean, *attacked)]
    # Per sample, because an attacker may pick another attack for each sample.
    return np.where(positive, np.min(scores, axis=0), np.max(scores, axis=0))


def score_versions(y: np.ndarray, clean: np.ndarray, adv: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return scores clean, with the positives attacked, and with all attacked, `(n,)` each."""
    attacked, clean = worst_scores(y, clean, adv), worst_scores(y, clean)
    return clean, np.where(y == 1, attacked, clean), attacked


def detection_rates(
    name: str, pred: np.ndarray, y: np.ndarray, score: np.ndarray, clean: np.ndarray
) -> DetectionRates:
    """Return all rates of two classes on one version of the samples; thresholds fit `clean`."""
    right, positive = pred == y, _positives(score, y)
    return DetectionRates(
        name,
        wilson(int(right.sum()), len(y)),
        wilson(int((~right & positive).sum()), int(positive.sum())),
        wilson(int((~right & ~positive).sum()), int((~positive).sum())),
        auc(score, y),
        [operating_point(at, clean, y, score) for at in FIXED],
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
    added: Sequence[FeatureCount] = (),
) -> Detection | None:
    """Return detection rates clean, with positives attacked, and with all attacked.

    The last are left out where they equal the second. More than two classes have macro rates. None
    where all samples are of one class.

    Arguments:
        clean_score, adv_score: `(n,)`, of two classes; without them there are macro rates only.
        flips: `(n,)` the fewest changed features that broke a sample, -1 for none.
    """
    if len(np.unique(y)) < 2:
        return None
    if len(class_names) > 2 or clean_score is None or adv_score is None:
        rows, k = [], max(len(class_names), *(int(v.max()) + 1 for v in (clean_pred, adv_pred)))
        for name, pred in ((CLEAN, clean_pred), (ALL, adv_pred)):
            accuracy = wilson(int((pred == y).sum()), len(y))
            rows.append(DetectionRates(name, accuracy, *macro_rates(pred, y, k)))
        return Detection("", rows)
    clean, half, attacked = score_versions(y, clean_score, adv_score)
    half_pred = np.where(y == 1, adv_pred, clean_pred)
    rows = [
        detection_rates(CLEAN, clean_pred, y, clean, clean),
        detection_rates(POSITIVES, half_pred, y, half, clean),
    ]
    if (half_pred != adv_pred).any() or (half != attacked).any():
        rows.append(detection_rates(ALL, adv_pred, y, attacked, clean))
    evaded = evasions(y, clean_pred, adv_pred)
    num_flips = flips[evaded & (flips >= 0)] if flips is not None else np.zeros(0)
    mean, median = (float(f(num_flips)) if len(num_flips) else None for f in (np.mean, np.median))
    return Detection(class_names[1], rows, int(evaded.sum()), mean, median, list(added))


def evasions(y: np.ndarray, clean_pred: np.ndarray, adv_pred: np.ndarray) -> np.ndarray:
    """Return which positives are detected unattacked and missed under attack `(n,)`."""
    return (y == 1) & (clean_pred == 1) & (adv_pred != 1)
