"""Literal twins of the rates of a detector: every pair, every class, one after the other."""

from __future__ import annotations

import itertools

import numpy as np


def by_pairs(score: np.ndarray, y: np.ndarray) -> float:
    """The AUC by counting every pair."""
    pairs = list(itertools.product(score[y == 1], score[y == 0]))
    return sum(1.0 if p > q else 0.5 if p == q else 0.0 for p, q in pairs) / len(pairs)


def macro_by_hand(said: np.ndarray, y: np.ndarray, classes: int) -> tuple[float, float]:
    fnr, fpr = [], []
    for c in range(classes):
        fn = sum(1 for s, t in zip(said, y, strict=True) if t == c and s != c)
        fp = sum(1 for s, t in zip(said, y, strict=True) if t != c and s == c)
        positives = sum(1 for t in y if t == c)
        if positives:
            fnr.append(fn / positives)
            fpr.append(fp / (len(y) - positives))
    return sum(fnr) / len(fnr), sum(fpr) / len(fpr)
