"""An entry of RobustBench says what was measured, under its field names, or is refused."""

import json
from dataclasses import replace

import pytest

from sparring.results import leaderboard
from sparring.results.intervals import wilson
from sparring.results.result import AttackRow, EpsRow, Result

THEIRS = {  # the fields of robustbench 1.1.1's ModelInfo for Linf and L2
    *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue"),
    *("architecture", "eps", "clean_acc", "reported", "autoattack_acc", "footnote"),
}


def row(eps, count, n=10_000, threat="", skipped=0):
    robust = wilson(count, n)
    attack = AttackRow("APGD-CE", robust.accuracy, robust.low, robust.high, 1, 1, 1)
    return EpsRow(eps, robust, count, [replace(attack, skipped=skipped)], threat)


def result(*rows, **changes) -> Result:
    rows = rows or (row(8 / 255, 5342),)
    n = changes.get("n", 10_000)
    held = {
        "name": "resnet",
        "recipe": {},
        "dataset": "cifar10",
        "split": "test",
        "n": n,
        "threat": {"name": "Linf", "eps": 8 / 255, "low": 0.0, "high": 1.0},
        "seed": 3,
        "clean": wilson(8534 * n // 10_000, n),
        "robust": rows[-1].robust,
        "by_eps": list(rows),
        "attacks": rows[-1].attacks,
        "checks": [],
        "train": {},
        "versions": {"sparring": "0.1.0"},
        "commit": "",
        "data_sha256": "",
        "suite": "autoattack",
        "suite_version": 1,
        "precision": "float32",
        "device": "cpu",
        "seconds": 1.0,
        "class_names": [],
        "verdict": "sound",
    }
    return Result(**(held | changes))


def test_fields_and_numbers_are_as_theirs():
    entry = leaderboard.robustbench_entry(
        result(), name="Overfitting", venue="ICML 2020", additional_data=False, footnote="Early."
    )
    assert set(entry) == THEIRS | {"threat_model"}
    assert entry["clean_acc"] == "85.34"
    assert entry["autoattack_acc"] == "53.42"
    assert (entry["dataset"], entry["threat_model"], entry["eps"]) == ("cifar10", "Linf", "8/255")
    assert entry["additional_data"] is False
    assert entry["link"] is None
    assert entry["footnote"].startswith("Early. Measured on 10000 test samples by sparring 0.1.0: ")
    assert "AutoAttack version 1, float32, seed 3" in entry["footnote"]


def test_a_part_of_the_test_set_is_noted():
    part = result(row(8 / 255, 534, n=1000), n=1000)
    assert (
        "Measured on 1000 of 10000 test samples" in leaderboard.robustbench_entry(part)["footnote"]
    )
    other = replace(part, dataset="mine")
    assert "Measured on 1000 test samples" in leaderboard.robustbench_entry(other)["footnote"]


def test_another_suite_is_refused_or_marked():
    other = result(suite="pgd")
    with pytest.raises(ValueError, match=r"suite = 'pgd' is not allowed.*external=True"):
        leaderboard.robustbench_entry(other)
    entry = leaderboard.robustbench_entry(other, external=True)
    assert "autoattack_acc" not in entry
    assert entry["external"] == "53.42"
    assert "'pgd', not AutoAttack, version 1" in entry["footnote"]


@pytest.mark.parametrize(
    ("rows", "changes", "entry"),
    [
        ((), {"early": "budget of 60 s"}, "ended before its suite did .budget of 60 s"),
        ((row(0.1, 5, skipped=7),), {}, "7 samples were skipped"),
        ((), {"verdict": "not sound", "reasons": ["zero gradients"]}, "zero gradients"),
        ((), {"split": "val"}, "split = 'val'"),
        ((), {"threat": {"name": "L1", "eps": 12.0}}, "threat = 'L1'"),
        ((), {"threat": {"name": "Linf", "low": -1.0, "high": 1.0}}, r"\[0, 1\]"),
        ((row(0.1, 6), row(0.2, 5)), {}, "0.1, 0.2: choose one with eps"),
    ],
    ids=["early", "skipped", "verdict", "split", "norm", "bounds", "radii"],
)
def test_what_would_lie_is_refused(rows, changes, entry):
    with pytest.raises(ValueError, match=entry):
        leaderboard.robustbench_entry(result(*rows, **changes))


def test_one_of_several_rows():
    both = result(row(0.1, 600, 1000, "Linf"), row(0.5, 500, 1000, "L2"), n=1000)
    with pytest.raises(ValueError, match=r"Linf 0.1, L2 0.5: choose one with eps and threat"):
        leaderboard.robustbench_entry(both)
    entry = leaderboard.robustbench_entry(both, threat="L2")
    assert (entry["threat_model"], entry["eps"], entry["autoattack_acc"]) == ("L2", "0.5", "50.00")
    assert leaderboard.robustbench_entry(both, eps=0.1)["autoattack_acc"] == "60.00"
    with pytest.raises(ValueError, match="choose one with eps"):
        leaderboard.robustbench_entry(both, eps=0.3)


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match="field = 'autoattack_acc' is not allowed"):
        leaderboard.robustbench_entry(result(), autoattack_acc="99.99")


def test_the_file(tmp_path):
    path = leaderboard.write_entry(
        result(), tmp_path / "new" / "Rice2020Overfitting.json", venue="ICML"
    )
    assert json.loads(path.read_text()) == leaderboard.robustbench_entry(result(), venue="ICML")
    with pytest.raises(ValueError, match=r"a \.json file"):
        leaderboard.write_entry(result(), tmp_path / "entry.txt")
    with pytest.raises(ValueError, match="early"):
        leaderboard.write_entry(result(early="early"), tmp_path / "no.json")
    assert not (tmp_path / "no.json").exists()


@pytest.mark.parametrize(
    "wish",
    [{"suite": "quick"}, {"split": "train"}, {"threats": ["L1"]}, {"eps": [0.1, 0.2]}],
    ids=str,
)
def test_wishes_are_refused_beforehand(wish):
    with pytest.raises(ValueError, match="is not allowed"):
        leaderboard.check_request(**wish)
    leaderboard.check_request()


def test_another_norm_than_the_result_has_makes_no_entry():
    with pytest.raises(ValueError, match="choose one with eps and threat"):
        leaderboard.robustbench_entry(result(), threat="L2")
