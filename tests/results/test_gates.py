"""The demands of a pipeline on a result, and its JUnit file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sparring.results.gates import Gate, write_junit
from sparring.results.result import Check
from tests.results.made import result

SPENT = "its budget of 60 forward passes was spent: 3 samples were not attacked"
FIRED = Check("zero gradients", True, "Look at \x00 <b>", "12 of 20", "look")


def test_robust_accuracy_is_compared_with_the_demand() -> None:
    measured = result("a", [10], verdict="sound")
    share = measured.robust.accuracy
    assert Gate().failures(measured) == []
    assert Gate(fail_under=share).failures(measured) == []
    (failure,) = Gate(fail_under=share + 1e-9).failures(measured)
    assert failure.startswith(f"robust accuracy {share:.1%} at ")
    assert f"{measured.n} samples" in failure


def test_the_upper_bound_of_a_spent_budget_meets_no_demand(tmp_path: Path) -> None:
    measured = result("a", [10], verdict="look", early=SPENT)
    (failure,) = Gate(fail_under=0.01).failures(measured)
    assert f"is only an upper bound, as {SPENT}; raise --seconds or --queries" in failure
    (failure,) = Gate(fail_under=1.0).failures(measured)  # even the bound is too low
    assert "is below 100.0%" in failure
    assert Gate().failures(measured) == []
    (suite,) = ElementTree.parse(
        write_junit(measured, Gate(fail_under=0.01), tmp_path / "j.xml")
    ).getroot()
    assert suite.get("failures") == "1"


@pytest.mark.parametrize(
    ("verdict", "fail_on", "fails"),
    [
        ("sound", "look", False),
        ("look", "look", True),
        ("not sound", "look", True),
        ("sound", "not-sound", False),
        ("look", "not-sound", False),
        ("not sound", "not-sound", True),
        ("not sound", None, False),
    ],
)
def test_verdicts(verdict: str, fail_on: str | None, fails: bool) -> None:
    failures = Gate(fail_on=fail_on).failures(result("a", [10], verdict=verdict, checks=[FIRED]))
    assert len(failures) == fails
    assert all(f"'{verdict}'" in text and "zero gradients" in text for text in failures)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (Gate(50), r"fail_under = 50 .* from 0 to 1; for 50 % give 0.5"),
        (Gate(-0.1), "from 0 to 1"),
        (Gate(float("nan")), "from 0 to 1"),
        (Gate(fail_on="unsound"), "fail_on = 'unsound' .* 'not-sound'"),
        (Gate(fail_on="sound"), "fail_on = 'sound'"),
    ],
)
def test_demands_are_checked(gate: Gate, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gate.check()


def test_junit_has_a_case_for_everything(tmp_path: Path) -> None:
    measured = result("<a>", [10], verdict="look", checks=[FIRED, Check("noise", False)])
    measured = replace(measured, dataset="d\x1b&")
    path = write_junit(measured, Gate(1.0, "look"), tmp_path / "j.xml")
    (suite,) = ElementTree.parse(path).getroot()
    cases = {case.get("name"): case for case in suite}
    rows = len(measured.by_eps)
    assert next(iter(cases)) == "clean accuracy"
    assert [*cases][-3:] == ["measurement", "check: zero gradients", "check: noise"]
    assert suite.get("tests") == str(len(cases)) == str(rows + 4)
    failed = [name for name, case in cases.items() if case.find("failure") is not None]
    assert failed[1:] == ["measurement", "check: zero gradients"]
    assert failed[0] == [*cases][rows]  # the largest radius
    assert suite.get("failures") == "3"
    assert cases["measurement"].get("classname") == "<a>.d\ufffd&"
    passing = ElementTree.parse(write_junit(measured, Gate(), tmp_path / "k.xml")).getroot()[0]
    assert (passing.get("failures"), passing.get("errors")) == ("0", "0")
