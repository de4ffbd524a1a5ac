"""The verbs that look something up, on a terminal and into a pipe; and names for completion."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sparring.cli import completion
from sparring.commands.list import listing, recipes
from tests.command import call
from tests.commands.folders import fake_run


def test_recipes_by_data_and_method(capsys):
    text = call("list", "recipes", "--data", "mnist", "--method", "trades", capsys=capsys)
    assert "mnist-trades  " in text
    assert all("TRADES" in line for line in text.splitlines())
    rows = recipes(data="digits")
    assert {row.method for row in rows} == {"AT", "MART", "Standard", "TRADES"}


@pytest.mark.parametrize("width", [40, 80, 160])
def test_lines_are_broken_between_words(width):
    text = listing(width=width)
    words = {word for line in listing().splitlines() for word in line.split()}
    assert {word for line in text.splitlines() for word in line.split()} == words
    long = [line for line in text.splitlines() if len(line) > width]
    assert all(len(line.split()) == 1 for line in long)


def test_networks_of_one_function_are_told_apart():
    lines = [line for line in listing("models").splitlines() if line.startswith("wrn-")]
    assert "(depth 28, widen 10)" in lines[0]
    assert "(depth 34, widen 10)" in lines[1]
    assert all(len(line.split(maxsplit=1)) == 2 for line in listing("data").splitlines())


def test_runs_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fake_run(tmp_path / "runs" / "one", done=1)
    text = call("runs", capsys=capsys)
    assert "interrupted at epoch 1" in text
    assert "1 of 40" in text


def test_show_says_what_a_recipe_does(capsys):
    text = call("show", "digits-mart", "--no-time", capsys=capsys)
    assert "sparring train digits-mart" in text
    assert "91.7k parameters" in text


def test_names_for_completion(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake_run(tmp_path / "runs" / "mine")
    fake_run(tmp_path / "other" / "mine")
    assert [name for name, _ in completion.recipes("digits-m")] == ["digits-mart"]
    assert [name for name, _ in completion.runs("")] == ["runs/mine"]
    assert [name for name, _ in completion.runs("other/")] == ["other/mine"]
    assert "runs/mine" in dict(completion.recipes_and_runs("r"))
    assert dict(completion.data("mni"))["mnist"].startswith("handwritten digits")
    assert [n for n, _ in completion.suites("black")] == ["black-box"]
    assert "methods" in dict(completion.kinds(""))
    assert dict(completion.metrics("eb")).keys() == {"ebd", "ebd2"}
    assert "TRADES" in dict(completion.methods(""))


def test_the_shell_completes_without_pytorch(monkeypatch):
    program = (
        "import atexit, sys; from sparring.cli.main import main\n"
        "atexit.register(lambda: print('heavy' * ('torch' in sys.modules)))\n"
        "sys.argv = ['sparring']; main()"
    )
    monkeypatch.setenv("_SPARRING_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "sparring train digits-m")
    monkeypatch.setenv("COMP_CWORD", "2")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["digits-mart"]
