"""Tell results of trainings that did not learn from those of the same recipe that did."""

from __future__ import annotations

from collections.abc import Mapping

from .result import Result

AT_CHANCE = "the training saved these weights at chance on its validation rows: it did not learn"
SUFFIX = ", did not learn"  # of a run's name in tables over seeds


def has_collapsed(result: Result) -> bool:
    """Return whether a result is of weights that predicted no better than chance when saved."""
    return AT_CHANCE in result.notes


def with_collapsed(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels of runs with those of their seeds that did not learn.

    >>> with_collapsed({"at": "PGD-AT"})["at, did not learn"]
    'PGD-AT, did not learn'
    """
    return {**labels, **{run + SUFFIX: label + SUFFIX for run, label in labels.items()}}
