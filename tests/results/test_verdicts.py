"""The words of a verdict and its one reason; files of schema 1 load with today's words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparring.results.result import Check, Result
from sparring.results.verdicts import short_reason
from tests.results.made import result

FIRED = [Check(name, True, "", "0.1") for name in ("zero gradients", "margin breaks more", "noise")]
QUIET = [Check("input range", False), Check("label leaking", False)]


@pytest.mark.parametrize(
    ("verdict", "checks", "reasons", "early", "said"),
    [
        ("sound", QUIET, [], "", "all 2 checks passed, gradient-free attacks among them"),
        ("look", QUIET, ["too few"], "", "too few"),
        ("look", QUIET, ["no attack of this suite works without gradients, so"], "", "no gradient"),
        ("look", QUIET, ["the time"], "the time was spent: 3 samples", "the time was spent: 3"),
        ("look", [*QUIET, FIRED[0]], [], "", "1 of 3 checks fired: zero gradients"),
        ("look", FIRED, [], "", "3 of 3 checks fired: zero gradients, margin breaks more and 1"),
        ("", QUIET, [], "", "all 2 checks passed"),
        ("", [], [], "", "no check ran"),
    ],
)
def test_one_reason(verdict, checks, reasons, early, said) -> None:
    assert short_reason(verdict, checks, reasons, early).startswith(said)


def test_the_gravest_check_comes_first() -> None:
    checks = [*FIRED[:2], Check("contradiction", True, severity="not sound")]
    assert short_reason("not sound", checks).endswith("contradiction, zero gradients and 1 more")


@pytest.mark.parametrize(
    ("former", "today"), [("trust", "sound"), ("look", "look"), ("do not trust", "not sound")]
)
def test_a_file_of_schema_1_has_todays_words(former: str, today: str, tmp_path: Path) -> None:
    path = result("a", [10], verdict=today, checks=[*FIRED]).save(tmp_path / "a.json")
    data = json.loads(path.read_text())
    assert (data["schema"], data["verdict"], data["reason"][:6]) == (2, today, "3 of 3")
    del data["reason"]
    data |= {"schema": 1, "verdict": former}
    data["checks"][0]["severity"] = former
    path.write_text(json.dumps(data))
    loaded = Result.load(path)
    assert (loaded.verdict, loaded.checks[0].severity) == (today, today)
    assert (loaded.schema, loaded.reason[:6]) == (2, "3 of 3")
    assert Result.load(loaded.save(path)) == loaded
    assert json.loads(path.read_text())["schema"] == 2


def test_a_committed_result_keeps_its_verdict() -> None:
    folder = Path(__file__).parents[2] / "results" / "mnist-autoattack"
    found = {r.name: (r.verdict, r.reason) for r in map(Result.load, folder.glob("*.json"))}
    assert found["mnist-mart"][0] == "sound"
    assert found["mnist-mart"][1].endswith("gradient-free attacks among them")
    assert found["mnist-otjr"][0] == "not sound"
    assert "checks fired: " in found["mnist-otjr"][1]
