"""Show accuracy by class, worst first, and what takes the worst class's broken samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...results.differences import correct_at
from ...results.intervals import Interval, wilson
from ...results.levels import Levels
from ...results.result import Result
from .. import charts, format
from . import answer

MOST_BARS = 15
MOST_COLUMNS = 20  # of a table of confusions
MOST_PAIRS = 20  # in place of that table, for more classes
MOST_ROWS = 100  # of the table of classes


class ClassRow(NamedTuple):
    """Hold a class's accuracies, and what its broken samples are taken for, by count."""

    name: str
    n: int
    clean: Interval
    robust: Interval
    taken: list[tuple[str, int]]


class ConfusedPair(NamedTuple):
    """Hold how many of a label's samples, of how many, attacks turned into one other class."""

    label: str
    pred: str
    count: int
    samples: int


class Confusion(NamedTuple):
    """Hold a table of counts: a row per label, a column per prediction under attack.

    Each cell is its count and a shade of 0 to 3, or an empty text.
    """

    names: list[str]
    rows: list[tuple[str, list[tuple[int, str]]]]


def class_rows(r: Result, levels: Levels) -> list[ClassRow]:
    """Return classes with samples, the worst first; none without arrays."""
    if not {"y", "clean_pred", "adv_pred"} <= set(r.arrays):
        return []
    y, clean = r.arrays["y"], r.arrays["clean_pred"]
    robust = correct_at(r, levels.values())
    if robust is None:
        return []
    rows, taken, k = [], _taken(r), len(r.class_names)
    labelled = (y >= 0) & (y < k)
    # Counted for all classes at once: a pass over the samples for each is too slow for 1,000.
    samples, right, left = (
        np.bincount(y[labelled & which], minlength=k) for which in (labelled, clean == y, robust)
    )
    for i, name in enumerate(r.class_names):
        if n := int(samples[i]):
            clean_share, share = (wilson(int(count[i]), n) for count in (right, left))
            rows.append(ClassRow(name, n, clean_share, share, taken.get(i, [])))
    return sorted(rows, key=lambda row: row.robust.accuracy)


def _taken(r: Result) -> dict[int, list[tuple[str, int]]]:
    """Return for each label what its samples that attacks broke are taken for, the most frequent
    first."""
    names = dict(enumerate(r.class_names))
    taken: dict[int, list[tuple[str, int]]] = {}
    for label, pred, count in _broken_pairs(r):
        taken.setdefault(label, []).append((names.get(pred, "no class"), count))
    return taken


def _broken_pairs(r: Result) -> list[tuple[int, int, int]]:
    """Return label, prediction and count of the samples that attacks broke, the most frequent
    pairs first."""
    y, clean, pred = (r.arrays[key] for key in ("y", "clean_pred", "adv_pred"))
    broken = (clean == y) & (pred != y) & (y >= 0)
    pairs = np.stack([y[broken], pred[broken]], axis=1)
    values, counts = np.unique(pairs, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(int(values[i, 0]), int(values[i, 1]), int(counts[i])) for i in order]


def confused_pairs(r: Result) -> list[ConfusedPair]:
    """Return the most frequent pairs of label and prediction among samples that attacks broke;
    none for so few classes that `confusion` shows all."""
    known = {"y", "clean_pred", "adv_pred"} <= set(r.arrays)
    if not known or len(r.class_names) <= MOST_COLUMNS:
        return []
    names = dict(enumerate(r.class_names))
    y = r.arrays["y"]
    return [
        ConfusedPair(
            names.get(label, "no class"), names.get(pred, "no class"), n, int((y == label).sum())
        )
        for label, pred, n in _broken_pairs(r)[:MOST_PAIRS]
    ]


def class_chart(rows: Sequence[ClassRow], at: str) -> str | None:
    """Return bars of robust accuracy by class, worst first; None for fewer than two classes."""
    if len(rows) < 2:
        return None
    drawn = [
        charts.Bar(
            row.name,
            100 * row.robust.accuracy,
            100 * row.robust.low,
            100 * row.robust.high,
            reference=100 * row.clean.accuracy,
            tone=0 if k else 1,
            hover=f"{row.name}: {answer.count(row.robust, row.n)} of {row.n} withstand, "
            f"{answer.share_text(row.robust)}; clean {answer.share_text(row.clean)}",
        )
        for k, row in enumerate(rows[:MOST_BARS])
    ]
    title = f"Robust accuracy by class {at}, worst first"
    return charts.bars(drawn, title=title, axis="robust accuracy, %", reference="clean")


def class_sentence(r: Result, rows: Sequence[ClassRow], levels: Levels) -> str:
    """Return which class is worst, and what takes its samples; "" for fewer than two classes."""
    if len(rows) < 2:
        return ""
    worst = [row for row in rows if row.robust.accuracy == rows[0].robust.accuracy]
    if len(worst) == len(rows):
        return f"All classes are at {100 * rows[0].robust.accuracy:.1f} % {answer.at(levels)}."
    if len(worst) > 1:
        names = ", ".join(row.name for row in worst[:5]) + ", …" * (len(worst) > 5)
        text = f"Worst are {len(worst)} classes, {names}: {100 * worst[0].robust.accuracy:.1f} %."
        return text
    row, mean = rows[0], answer.count(rows[0].robust, rows[0].n)
    text = (
        f"Worst is {row.name}: {mean} of its {row.n} samples withstand {answer.at(levels)} "
        f"({100 * row.robust.accuracy:.1f} %; {100 * row.clean.accuracy:.1f} % clean)."
    )
    if not row.taken:
        return text
    total = sum(count for _, count in row.taken)
    takers = " and ".join(f"{name} ({count})" for name, count in row.taken[:2])
    at_largest = {level.eps for level in levels.values()} == {
        v.eps for v in format.largest_radii(r).values()
    }
    largest = " and ".join(
        format.radius_text(v, threat) for threat, v in format.largest_radii(r).items()
    )
    at_other = "" if at_largest else f" at {largest}"
    verb = "takes" if len(row.taken) == 1 else "take"
    share = "the" if len(row.taken) <= 2 else "most of the"
    return f"{text} {takers} {verb} {share} {total} broken ones{at_other}."


def confusion(r: Result) -> Confusion | None:
    """Return the table of confusions on each sample's worst point; None for many classes."""
    names = r.class_names
    known = {"y", "clean_pred", "adv_pred"} <= set(r.arrays)
    if not known or not 2 <= len(names) <= MOST_COLUMNS:
        return None
    k = len(names)
    y, pred = r.arrays["y"], r.arrays["adv_pred"]
    inside = (y >= 0) & (y < k) & (pred >= 0) & (pred < k)  # a model may have more outputs
    counts = np.zeros((k, k), dtype=int)
    np.add.at(counts, (y[inside], pred[inside]), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shades = np.minimum((share * 8).astype(int), 3)
    rows = [
        (names[i], [(int(shades[i, j]), str(counts[i, j] or "")) for j in range(k)])
        for i in range(k)
        if counts[i].any()
    ]
    return Confusion(list(names), rows)
