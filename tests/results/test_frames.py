"""A result as rows: one for clean accuracy, one per radius and attack, and the worst cases."""

from __future__ import annotations

import sys

import pytest

from sparring.results import frames
from tests.reporting.made import make, norms


def test_there_is_a_row_per_radius_and_attack():
    rows = frames.rows(make())
    attacks = [(row["eps"], row["attack"]) for row in rows]
    level = lambda eps: [(eps, "FGSM"), (eps, "PGD-20"), (eps, "worst case")]  # noqa: E731
    assert attacks == [(0.0, "none"), *level(0.05), *level(0.1)]
    assert [row["accuracy"] for row in rows if row["attack"] == "worst case"] == [0.9, 0.75]
    assert {row["threat"] for row in frames.rows(norms())} == {"", "Linf", "L2"}


def test_a_frame_is_of_pandas_or_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        make().to_frame()
