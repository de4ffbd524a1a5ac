"""The exit code and the JUnit file of an evaluation with demands."""

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
