"""A page of a thousand classes: the worst, and the most frequent confusions, in linear time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparring.reporting.page import classes
from sparring.results.intervals import wilson
from sparring.results.levels import headline
from sparring.results.result import Result
from tests.reporting.made import html_of, make


def many(k: int, n: int = 4000) -> Result:
    """A result of k classes: each sixth sample is taken for one of the next three classes."""
    rng, result = np.random.default_rng(0), make()
    y = rng.integers(0, k, n)
    clean = np.where(rng.random(n) < 0.9, y, (y + 1) % k)
    taken = (y + rng.integers(1, 4, n)) % k
    pred = np.where((clean == y) & (rng.random(n) < 0.2), taken, clean)
    robust = pred == y
    shown = {name: value for name, value in result.arrays.items() if name.startswith("show")}
    arrays = {"y": y, "clean_pred": clean, "adv_pred": pred, "index": np.arange(n)}
    arrays = shown | arrays | {"correct_0.1": robust}
    names = [f"class {i}" for i in range(k)]
    return dataclasses.replace(result, n=n, arrays=arrays, class_names=names)


def one_by_one(r: Result, robust: Any) -> list[classes.ClassRow]:
    """Count class by class, as it is written."""
    y, clean, pred = (r.arrays[key] for key in ("y", "clean_pred", "adv_pred"))
    rows = []
    for k, name in enumerate(r.class_names):
        of = y == k
        broken = pred[of & (clean == y) & (pred != y)]
        values, counts = np.unique(broken, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        taken = [(r.class_names[values[i]], int(counts[i])) for i in order]
        n = int(of.sum())
        if n:
            first, last = (wilson(int((of & right).sum()), n) for right in (clean == y, robust))
            rows.append(classes.ClassRow(name, n, first, last, taken))
    return sorted(rows, key=lambda row: row.robust.accuracy)


@pytest.mark.parametrize("k", [3, 100, 1000])
def test_rows_are_those_counted_class_by_class(k: int) -> None:
    r = many(k)
    rows = classes.class_rows(r, headline([r]))
    assert rows == one_by_one(r, r.arrays["correct_0.1"])


def test_pairs_stand_in_for_a_table_of_all() -> None:
    few, r = many(classes.MOST_COLUMNS), many(1000)
    assert classes.confusion(few) is not None
    assert classes.confused_pairs(few) == []
    assert classes.confusion(r) is None
    pairs = classes.confused_pairs(r)
    assert len(pairs) == classes.MOST_PAIRS
    assert [p.count for p in pairs] == sorted((p.count for p in pairs), reverse=True)
    y, pred = r.arrays["y"], r.arrays["adv_pred"]
    first = pairs[0]
    label, other = (r.class_names.index(name) for name in (first.label, first.pred))
    right = r.arrays["clean_pred"] == y
    assert first.count == int((right & (y == label) & (pred == other)).sum())
    assert first.samples == int((y == label).sum())
    assert classes.confused_pairs(dataclasses.replace(r, arrays={})) == []


def test_a_sample_without_a_class_is_no_pair_of_another() -> None:
    r = many(30, 60)
    y = r.arrays["y"].copy()
    y[:5] = -1
    clean, pred = r.arrays["clean_pred"].copy(), r.arrays["adv_pred"].copy()
    clean[:5], pred[:5], pred[5:9] = -1, 2, -1
    clean[5:9] = y[5:9]
    arrays = r.arrays | {"y": y, "clean_pred": clean, "adv_pred": pred}
    pairs = classes.confused_pairs(dataclasses.replace(r, arrays=arrays))
    assert all(pair.label != "class 29" or (y == 29).any() for pair in pairs)
    assert sum(pair.count for pair in pairs if pair.pred == "no class") == 4


def test_the_page_of_a_thousand_classes_stays_small(tmp_path: Path) -> None:
    html = html_of([many(1000)], tmp_path)
    assert f"The worst {classes.MOST_ROWS} of" in html
    assert "Which class is most often taken for which" in html
    assert "Which class is taken for which, under attack" not in html
    few = html_of([many(10)], tmp_path)
    assert "All classes as a table" in few
    assert "Which class is taken for which, under attack" in few
    assert "most often taken" not in few
    assert len(html) < len(few) + 60_000
