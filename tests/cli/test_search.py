"""`sparring search` on the command line: what it prints, and how it goes on after Ctrl-C."""

import sys

import pytest

from sparring.cli import main as cli
from sparring.commands import search as module
from sparring.config.recipe import load_recipe
from tests.commands.test_search import TABLES

SPACE = "method.beta=1..10:log"


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["sparring", "search", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_a_search_prints_its_page_and_its_best_recipe(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.toml").write_text(load_recipe(TABLES).toml())
    out = tmp_path / "s"
    words = [tmp_path / "tiny.toml", "--space", SPACE, "--trials", 2, "--out", out]
    assert run(monkeypatch, *words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [str(out / "search.html"), str(out / "best.toml")]


def test_ctrl_c_prints_the_command_that_goes_on(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise module.SearchInterrupted(tmp_path / "s")

    monkeypatch.setattr(module, "search", interrupted)
    words = ["digits-mart", "--space", SPACE, "--set", "train.epochs=2", "--seed", 3, "--no-prune"]
    assert run(monkeypatch, *words) == 130
    shown = capsys.readouterr().err
    assert "to go on: sparring search digits-mart --trials 30 --out" in shown
    for part in ("--space method.beta=1..10:log", "--set train.epochs=2", "--seed 3", "--no-prune"):
        assert part in shown


def test_a_mistake_in_the_space_is_told_in_a_line(tmp_path, monkeypatch, capsys):
    words = ["digits-mart", "--space", "method.bta=1..2", "--out", tmp_path / "s"]
    assert run(monkeypatch, *words) == 2
    assert "did you mean 'method.beta'" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
