"""What is printed: legible on any code page, obeyed by no terminal, one line for any error."""

from __future__ import annotations

import copy
import io
import os
import re
import subprocess
import sys

import pytest
import torch
from rich.console import Console
from rich.text import Text

from sparring import reporting
from sparring.cli import console
from sparring.commands import study
from sparring.evaluation import evaluate
from sparring.results import Result
from sparring.runtime.output import HANDLER, lines, make_legible
from sparring.runtime.progress import EvaluationProgress
from sparring.runtime.training_progress import TrainingProgress
from sparring.runtime.warning import SparringWarning
from tests.command import call

# Clears the screen; titles a window; turns the writing; starts a line again.
HOSTILE = "a\x1b[2J\x1b]0;owned\x07b\u202ec\rd\x9bm[bold red]e[/bold red][link=file:///f]"
OBEYED = ("\x1b", "\x07", "\u202e", "\r", "\x9b")


@pytest.fixture(scope="module")
def result() -> Result:
    x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
    return evaluate(lambda x: x, (x, y), ["Linf", "L2"], eps=[0.05, 0.2], progress=False)


def hostile(result: Result) -> Result:
    """The same result with every text of it hostile."""

    def spoil(value):
        if isinstance(value, str):
            return HOSTILE + value
        if isinstance(value, list):
            return [spoil(v) for v in value]
        return value

    result = copy.deepcopy(result)
    for name in ("name", "suite", "dataset", "split", "early", "reasons"):
        object.__setattr__(result, name, spoil(getattr(result, name)))
    for row in result.by_eps:
        for attack in row.attacks:
            object.__setattr__(attack, "name", spoil(attack.name))
    for check in result.checks:
        for name in ("name", "detail", "advice", "severity"):
            object.__setattr__(check, name, spoil(getattr(check, name)))
    return result


def test_a_table_shows_the_markup_and_escapes_of_a_result(result, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    console.show(reporting.table([hostile(result), result]))
    out = capsys.readouterr().out
    assert not [c for c in OBEYED if c in out]
    assert "\\x1b[2J" in out
    assert "[bold red]e" in out
    assert "[link=file:///f]" in out


def test_colours_of_our_own_stay():
    stream = io.StringIO()
    shown = Console(file=stream, force_terminal=True, color_system="standard")
    shown.print(console.Escaped(Text("x", "bold red")))
    assert "\x1b[1;31mx" in stream.getvalue()


@pytest.mark.parametrize("text", [HOSTILE, "[/nothing]", "[bold]"])
def test_an_error_shows_its_text(text, capsys):
    console.explain(ValueError(text), mistake=True)
    err = capsys.readouterr().err
    assert not [c for c in OBEYED if c in err]
    assert text[-5:] in err


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_names_as_they_are(terminal, capsys):
    stream = io.StringIO()
    shown = Console(file=stream, force_terminal=terminal, width=200, color_system=None)
    with EvaluationProgress(True, shown) as bars:
        bars.begin(HOSTILE, 3)
        bars.step(3, 2)
    named = {"name": HOSTILE, "facts": [HOSTILE], "console": shown}
    with TrainingProgress(enabled=True, epochs=1, batches=1, **named) as bar:
        bar.step(epoch=1, batch_number=1, loss=0.5, rate=9.0)
    out = stream.getvalue() + capsys.readouterr().out
    assert "\x1b[2J" not in out
    assert "\x1b]0" not in out
    assert "\\x1b[2J" in out
    assert "[bold red]e" in out


def test_a_warning_is_one_line():
    text = console.format_warning(SparringWarning(HOSTILE + "\nx"), SparringWarning, "f", 1)
    assert text.count("\n") == 1
    assert not [c for c in OBEYED if c in text]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("x" * 10**6), 2, "x"),
        (ValueError("\n".join("x" * 500)), 2, "more lines"),
        (RuntimeError("a tensor\nC++ stack\n" * 500), 1, "RuntimeError; --debug"),
        (AssertionError(), 1, "internal error: please report it"),
        (AssertionError("a = 3"), 1, r"internal error \(a = 3\): please report it"),
        (StopIteration(), 1, "StopIteration"),
        (RecursionError("maximum recursion depth exceeded"), 1, "nested too deep"),
        (MemoryError(), 1, "out of memory"),
        (OSError(28, "No space left on device", "f"), 1, "No space left on device"),
        (IndexError(), 1, "IndexError"),
        (KeyError("a"), 1, "'a'"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), 2, "utf-8"),
        (FileNotFoundError(2, "No such file", "f"), 2, "No such file: f"),
        (PermissionError(13, "Permission denied", "f"), 2, "Permission denied: f"),
        (OSError(36, "File name too long", "x" * 5000), 2, "File name too long: xx.{1,300}$"),
        (OSError(40, "Too many levels of symbolic links", "f"), 2, "links: f"),
        (KeyboardInterrupt(), 130, "^\n*$"),
        (BrokenPipeError(32, "Broken pipe"), 1, "^$"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_any_error_is_a_few_short_lines_with_its_exit_code(
    error, code, message, monkeypatch, capsys
):
    def fail(*_, **__):
        raise error

    out = ""
    monkeypatch.setattr(study, "load", fail)
    stdout, stderr = sys.stdout, sys.stderr
    try:
        out = call("study", "x.toml", capsys=capsys, code=code)
    finally:
        sys.stdout, sys.stderr = stdout, stderr
    assert re.search(message, out)
    assert "Traceback" not in out
    assert len(out.splitlines()) <= console.ERROR_LINES + 1
    assert len(out) < 25_000


def test_debug_shows_where(monkeypatch, capsys):
    def fail(*_, **__):
        raise StopIteration

    monkeypatch.setattr(study, "load", fail)
    assert "Traceback" in call("--debug", "study", "x.toml", capsys=capsys, code=1)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "cp437", "utf-8"])
def test_list_is_printed_on_every_code_page(encoding):
    """As the output of a Windows console that is redirected."""
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "sparring", "list"], capture_output=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "MART" in done.stdout.decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_table_and_an_epoch_are_printed_on_every_code_page(encoding, result, monkeypatch):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    facts = ["ε ≤ 0.3", "9 × 10 − 1 … 97 % 文"]
    with TrainingProgress(enabled=True, epochs=1, batches=1, facts=facts) as bar:
        bar.epoch(1, {"clean": "97"})
    console.show(reporting.table([result, result]))
    shown = raw.getvalue().decode(encoding)
    assert "eps <= 0.3" in shown
    assert "?" in shown
    assert stream.errors == HANDLER


def test_a_stream_that_is_none_or_closed_is_left_alone():
    stream = io.TextIOWrapper(io.BytesIO())
    stream.close()
    make_legible(stream, None, io.StringIO())


def test_lines_are_cut_and_counted():
    assert lines("a\nb\nc", most=2) == "a\nb\n… and 1 more lines"
    assert len(lines("x" * 9999, limit=50)) == 50


def test_a_pipe_that_ends_early_is_no_error():
    program = f"{sys.executable} -m sparring list | head -n 1"
    done = subprocess.run(program, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("recipes")
    assert done.stderr == ""


def test_the_last_lines_name_files_and_the_next_command(capsys, monkeypatch):
    written = ["runs/a b/results/pgd-test.json", "x.html"]
    console.closing(written, ["sparring", "report", "runs/a b"])
    assert capsys.readouterr().out.splitlines() == written  # a script reads the bare paths
    terminal = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None)
    monkeypatch.setattr(console, "console", lambda: terminal)
    console.closing(written, ["sparring", "report", "runs/a b"])
    assert terminal.file.getvalue().splitlines() == [
        "written  'runs/a b/results/pgd-test.json'",
        "written  x.html",
        "next     sparring report 'runs/a b'",
    ]
