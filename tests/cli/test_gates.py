"""The exit code and the JUnit file of an evaluation with demands."""

import dataclasses

from sparring.commands import evaluate
from tests.cli.test_cli import TINY
from tests.command import call


def test_a_result_below_the_demands_of_a_pipeline_exits_with_3(tmp_path, capsys):
    run, junit = tmp_path / "run", tmp_path / "junit.xml"
    call("train", "digits-mart", "--out", run, *TINY, capsys=capsys)
    options = ["--suite", "quick", "--n", "20", "--eps", "0.3", "--junit", junit]
    out = call("evaluate", run, *options, "--fail-under", "0.99", capsys=capsys, code=3)
    assert "Gate: robust accuracy" in out
    assert "is below 99.0%" in out
    assert junit.read_text().count("<failure") == 1
    out = call("evaluate", run, *options, "--fail-on", "look", capsys=capsys, code=3)
    assert "Gate: the measurement is 'look'" in out
    call("evaluate", run, *options, "--fail-under", "0", capsys=capsys)
    before = junit.stat().st_mtime_ns
    out = call("evaluate", run, *options, "--fail-under", "50", capsys=capsys, code=2)
    assert "for 50 % give 0.5" in out
    assert junit.stat().st_mtime_ns == before


def test_a_result_that_makes_no_entry_still_meets_the_gate(tmp_path, capsys, monkeypatch):
    run, junit, real = tmp_path / "run", tmp_path / "junit.xml", evaluate.evaluate_to_file

    def unsound(model, **ways):
        result, _ = real(model, **(ways | {"suite": "quick", "eps": [0.3]}))
        return dataclasses.replace(result, suite="autoattack", verdict="not sound"), None

    monkeypatch.setattr("sparring.commands.evaluate.evaluate_to_file", unsound)
    call("train", "digits-mart", "--out", run, *TINY, capsys=capsys)
    options = ["--n", "20", "--robustbench", tmp_path / "entry.json", "--junit", junit]
    out = call("evaluate", run, *options, "--fail-on", "not-sound", capsys=capsys, code=3)
    assert "Gate: the measurement is 'not sound'" in out
    assert junit.exists()
    out = call("evaluate", run, *options, capsys=capsys, code=2)
    assert "the measurement is not sound" in out
    assert not (tmp_path / "entry.json").exists()
