"""Suites are data."""

import pytest

from sparring.attacks import PGD
from sparring.evaluation import Suite, suites
from sparring.threats import Linf


def test_suites_are_declared_data():
    assert suites.named("quick").line == "FGSM · PGD-20"
    assert suites.named("pgd").line == "FGSM · PGD-20 · PGD-100 · PGD-50×10 margin"
    margin = dict(suites.SUITES["pgd"].attacks)["PGD-50×10 margin"](Linf(0.3))
    assert (margin.steps, margin.restarts, margin.loss, margin.threat.eps) == (
        50,
        10,
        "margin",
        0.3,
    )
    assert dict(suites.SUITES["quick"].attacks)["PGD-20"](Linf(0.3)).length == pytest.approx(0.03)
    with pytest.raises(ValueError, match="each with its own label"):
        Suite("twice", 1, (("A", PGD), ("A", PGD)))
