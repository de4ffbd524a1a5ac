"""Detection: every rate against counting by hand, intervals against the bootstrap."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from sparring.results.detection import (
    OperatingPoint,
    auc,
    detection,
    detection_rates,
    macro_rates,
    operating_point,
    roc,
    worst_scores,
)
from sparring.results.intervals import effective_wilson, wilson
from tests.reference.detection import by_pairs, macro_by_hand


def drawn(n: int = 60, seed: int = 0, levels: int = 12, shift: float = 0.2):
    """Scores with many ties, and labels."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 3 == 0).astype(np.int64)
    return np.round((rng.random(n) + shift * y) * levels) / levels, y


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [2, 12, 10**6])
def test_auc_counts_pairs_and_is_the_area_under_the_curve(seed: int, levels: int) -> None:
    score, y = drawn(seed=seed, levels=levels)
    curve = roc(score, y)
    assert auc(score, y).accuracy == pytest.approx(by_pairs(score, y), abs=1e-12)
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(by_pairs(score, y), abs=1e-12)


def test_every_point_of_the_curve_is_what_its_threshold_gives() -> None:
    score, y = drawn()
    curve = roc(score, y)
    assert sorted(set(score)) == curve.threshold[:0:-1].tolist()
    for fpr, tpr, threshold in zip(*curve, strict=True):
        flagged = [s >= threshold for s in score]
        found = [f for f, label in zip(flagged, y, strict=True) if label == 1]
        false = [f for f, label in zip(flagged, y, strict=True) if label == 0]
        assert (fpr, tpr) == (sum(false) / len(false), sum(found) / len(found))


def test_infinite_scores_have_their_place() -> None:
    y = np.array([1, 1, 0, 0])
    assert auc(np.array([np.inf, -np.inf, 0.0, -np.inf]), y).accuracy == (2 + 0.5) / 4


def delong(score: np.ndarray, y: np.ndarray) -> float:
    """The variance of the AUC from the matrix of all pairs."""
    high, low = score[y == 1], score[y == 0]
    won = [[1.0 if p > q else 0.5 if p == q else 0.0 for q in low] for p in high]
    rows = [sum(r) / len(low) for r in won]
    columns = [sum(r[j] for r in won) / len(high) for j in range(len(low))]

    def spread(values: list[float]) -> float:
        mean = sum(values) / len(values)
        return sum((v - mean) ** 2 for v in values) / (len(values) - 1)

    return spread(rows) / len(high) + spread(columns) / len(low)


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_the_auc_has_delongs_variance(seed: int) -> None:
    """Both ends solve Wilson's equation at the trials that give DeLong's variance."""
    score, y = drawn(seed=seed)
    found = auc(score, y)
    n = found.accuracy * (1 - found.accuracy) / delong(score, y)
    z2 = NormalDist().inv_cdf(0.975) ** 2
    for p in (found.low, found.high):
        assert (found.accuracy - p) ** 2 == pytest.approx(z2 * p * (1 - p) / n, rel=1e-6)


def test_the_interval_of_the_auc_is_the_bootstraps() -> None:
    score, y = drawn(n=300, levels=1000)
    rng = np.random.default_rng(1)
    high, low = score[y == 1], score[y == 0]
    means = []
    for _ in range(1500):
        p, q = rng.choice(high, len(high)), np.sort(rng.choice(low, len(low)))
        means.append(float(np.mean(np.searchsorted(q, p) / len(q))))
    found = auc(score, y)
    ends = np.quantile(means, [0.025, 0.975])
    assert abs(found.low - ends[0]) < 0.012
    assert abs(found.high - ends[1]) < 0.012
    assert found.high - found.low == pytest.approx(ends[1] - ends[0], rel=0.1)


def test_a_perfect_detector_has_an_interval_all_the_same() -> None:
    found = auc(np.array([0.0, 0.1, 0.2, 1.0, 1.1]), np.array([0, 0, 0, 1, 1]))
    assert (found.accuracy, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(wilson(2, 2).low)
    assert auc(np.array([1.0, 0.0]), np.array([0, 1])).low == 0


@pytest.mark.parametrize(("k", "n"), [(0, 7), (3, 7), (7, 7), (99, 100)])
def test_effective_trials_are_trials(k: int, n: int) -> None:
    share = k / n
    found = effective_wilson(share, share * (1 - share) / n, min_trials=n)
    expected = wilson(k, n)
    for end in ("accuracy", "low", "high"):
        assert getattr(found, end) == pytest.approx(getattr(expected, end), abs=1e-12)


@pytest.mark.parametrize("at", [0.01, 0.05, 0.25, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_the_operating_point_is_the_best_of_all_thresholds(at: float, seed: int) -> None:
    score, y = drawn(seed=seed, shift=0.4)
    best = 0.0
    for threshold in set(score):
        if (score[y == 0] >= threshold).mean() <= at + 1e-12:
            best = max(best, float((score[y == 1] >= threshold).mean()))
    found = operating_point(at, score, y)
    assert found.tpr.accuracy == best
    assert found.fpr <= at
    k = round(best * int((y == 1).sum()))
    assert found.tpr == wilson(k, int((y == 1).sum()))


def test_the_threshold_is_set_before_the_attack() -> None:
    y = np.array([0, 0, 0, 0, 1, 1, 1])
    clean = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9])
    attacked = np.array([0.1, 0.2, 0.7, 0.8, 0.45, 0.55, 0.1])
    found = operating_point(0.01, clean, y, attacked)
    assert found.threshold == 0.5
    assert (found.fpr, found.tpr.accuracy) == (0.5, pytest.approx(1 / 3))


def test_where_nothing_may_be_flagged_nothing_is() -> None:
    found = operating_point(0.1, np.array([1.0, 0.0, 1.0]), np.array([0, 0, 1]))
    assert (found.threshold, found.fpr, found.tpr.accuracy) == (None, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_macro_rates_are_the_mean_of_one_against_the_rest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.choice(5, 80, p=[0.4, 0.3, 0.2, 0.1, 0.0])
    said = np.where(rng.random(80) < 0.6, y, rng.integers(0, 4, 80))
    said[::17] = -1
    found = macro_rates(said, y, 5)
    assert [i.accuracy for i in found] == pytest.approx(macro_by_hand(said, y, 5))


def test_macro_intervals_are_the_bootstraps() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [60, 90, 150])
    said = np.where(rng.random(300) < 0.75, y, rng.integers(0, 3, 300))
    groups = [np.flatnonzero(y == c) for c in range(3)]
    drawn_rates = []
    for _ in range(600):
        rows = np.concatenate([rng.choice(g, len(g)) for g in groups])
        drawn_rates.append([i.accuracy for i in macro_rates(said[rows], y[rows], 3)])
    for found, column in zip(macro_rates(said, y, 3), np.array(drawn_rates).T, strict=True):
        low, high = np.quantile(column, [0.025, 0.975])
        assert found.high - found.low == pytest.approx(high - low, rel=0.15)


def test_macro_without_errors_is_as_sure_as_its_classes() -> None:
    y = np.arange(30) % 3
    fnr, fpr = macro_rates(y, y, 3)
    assert (fnr.accuracy, fpr.accuracy) == (0, 0)
    assert fnr.high == pytest.approx(wilson(0, 30).high)
    assert fpr.high == pytest.approx(wilson(0, 60).high)


def test_two_classes_have_the_plain_rates() -> None:
    y = np.array([1] * 6 + [0] * 10)
    score = np.where(np.arange(16) % 4 == 0, -1.0, 1.0) * np.where(y == 1, 1, -1)
    said = (score > 0).astype(int)
    found = detection_rates("clean", said, y, score, score)
    fn, fp = int((said[:6] == 0).sum()), int((said[6:] == 1).sum())
    assert found.fnr == wilson(fn, 6)
    assert found.fpr == wilson(fp, 10)
    assert found.accuracy == wilson(16 - fn - fp, 16)
    assert [o.at for o in found.tpr] == [0.001, 0.01]


def test_the_worst_score_is_the_least_of_a_positive() -> None:
    y = np.array([1, 1, 0, 0])
    nan = math.nan
    found = worst_scores(
        y, np.array([3.0, 1.0, -3.0, nan]), np.array([1.0, 2.0, 1.0, 0]), np.array([2, nan, 0, 0])
    )
    assert found.tolist() == [1.0, -math.inf, 1.0, math.inf]


@pytest.mark.parametrize(
    ("score", "y", "said"),
    [
        ([0.1, 0.2], [1, 1], "one class"),
        ([0.1, 0.2], [0, 0], "one class"),
        ([], [], "one class"),
        ([0.1, math.nan], [0, 1], "NaN"),
        ([0.1, 0.2], [0, 2], "must be 0 and 1"),
        ([0.1], [0, 1], "one per sample"),
    ],
)
def test_scores_that_say_nothing_are_refused(score: list, y: list, said: str) -> None:
    for measure in (roc, auc, lambda s, t: operating_point(0.1, s, t)):
        with pytest.raises(ValueError, match=said):
            measure(np.array(score, dtype=float), np.array(y, dtype=np.int64))


@pytest.mark.parametrize("at", [0.0, 1.0, -0.1, math.nan])
def test_a_rate_that_is_none_is_refused(at: float) -> None:
    with pytest.raises(ValueError, match="at = "):
        operating_point(at, *drawn())


def test_macro_of_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="one class"):
        macro_rates(np.zeros(4, dtype=int), np.zeros(4, dtype=int), 3)


def test_one_class_alone_has_no_detection() -> None:
    ones = np.ones(5, dtype=np.int64)
    assert detection(ones, ones, ones, class_names=["a", "b"]) is None


@pytest.mark.parametrize(("negatives", "few"), [(9, [True, True]), (100, [True, False])])
def test_too_few_negatives_for_a_small_rate_are_counted(negatives, few):
    y = np.array([0] * negatives + [1] * 50)
    score = np.linspace(0, 1, len(y))
    points = [operating_point(at, score, y) for at in (0.001, 0.01)]
    assert [point.too_few for point in points] == few
    assert [point.negatives for point in points] == [negatives] * 2
    assert not OperatingPoint(0.001, 0.0, None, points[0].tpr).too_few  # of an older file: unknown
