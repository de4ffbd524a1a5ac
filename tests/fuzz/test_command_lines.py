"""Command lines with one bad argument are refused in words, and write nothing elsewhere."""

from __future__ import annotations

import inspect
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring import train
from sparring.cli import main
from tests.fuzz.bad_values import ESCAPES, NAMES
from tests.fuzz.harness import command_fault, make_traps

TINY = {"train.epochs": 1, "model": {"name": "mlp", "hidden": [4]}}
QUICK = ["--eps", "0.1", "--n", "3", "--suite", "quick"]
NUMBERS = [int, float, int | None, float | None, list[int], list[float]]
COMMANDS = {  # good ones, each in seconds at most
    "train": ["train", "digits-standard", "--set", "train.epochs=1"],
    "evaluate": ["evaluate", "run", *QUICK],
    "model": ["evaluate", "missing.pt", "--data", "digits", *QUICK],
    "weights": ["evaluate", "run/best.safetensors", "--recipe", "digits-standard", *QUICK],
    "metrics": ["metrics", "run", "--metric", "minimal-distance", "--n", "3"],
    "plane": ["plane", "moons", "plane-trades", "--steps", "2", "--points", "10"],
    "report": ["report", "run"],
    "study": ["study", "study.toml"],
    "pseudo-label": ["pseudo-label", "run"],
    "list": ["list", "suites"],
    "cite": ["cite", "TRADES"],
}
BAD_NUMBERS = ["x", "-5", "nan", "", "9" * 5000, "1/0", "0x10", "1e999", "[1]", "--", "True"]
BAD_DEVICES = ["tpu", "5", "gpu", "cuda:99", "cpu:7x", "meta", "", "x" * 5000]
BAD_SETS = ["=", "x", "a.b.c.d=1", "train=3", "train.epochs=", "train.epochs=[", "=3", ".=1"]
BAD_SETS += ["train.epochs=nan", "train.epochs=1.5", "threat.eps=8", "recipe.name=../x", "a=" * 999]
BAD_SETS += [f"recipe.name={name!r}" for name in ESCAPES] + ["train.epochs=" + "[" * 5000]
# Bad by their look and good by their meaning; each with the reason.
ACCEPTED: dict[str, str] = {
    r"(evaluate|weights) --(seconds|queries)=.*(9{9}|1e999).*": "a budget without end",
    r".* --out=(x{9}|page.html|empty).*": "a file that is replaced",
}


@cache
def options() -> dict[str, dict[str, Any]]:
    """Return the annotation of each option by its name, for each command."""
    out: dict[str, dict[str, Any]] = {}
    for command in main.app.registered_commands:
        call: Any = command.callback
        hints, named = get_type_hints(call, include_extras=True), {}
        for name in inspect.signature(call).parameters:
            kind, info = get_args(hints[name])
            if isinstance(info, typer.models.OptionInfo):
                long = [d for d in info.param_decls or () if d.startswith("--")]
                named[long[0] if long else f"--{name.replace('_', '-')}"] = kind
        out[command.name or call.__name__] = named
    return out


def bad_values(name: str, annotation: Any, traps: list[str]) -> list[str]:
    """Return values that are bad for an option, by its name and type."""
    if name == "--device":
        return BAD_DEVICES
    if name == "--set":
        return BAD_SETS
    if annotation in NUMBERS or name in ("--mean", "--std"):
        return BAD_NUMBERS
    return [*(n for n in NAMES if "\x00" not in n), *traps]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a run, a study, and paths that no command should follow."""
    folder = tmp_path_factory.mktemp("fuzz") / "work"
    folder.mkdir()
    train("digits-standard", out=folder / "run", set=TINY)
    make_traps(folder)
    (folder / "study.toml").write_text('name = "s"\nruns = ["no-such-recipe"]\n')
    return folder


def check(data: st.DataObject, folder: Path) -> None:
    """Draw a command and a bad argument; it must end in one sentence, and leave no file outside."""
    base = data.draw(st.sampled_from(sorted(COMMANDS)))
    words = COMMANDS[base]
    named = options()[words[0]]
    traps = ["pipe", "zero", "circle", "folder", "page.html"]
    if data.draw(st.booleans()) or not named:
        bad = data.draw(st.sampled_from([*(n for n in NAMES if "\x00" not in n), *traps]))
        words, what = [words[0], bad, *words[2:]], f"{base} {bad}"
    else:
        name = data.draw(st.sampled_from([*sorted(named), "--no-such-option"]))
        values = bad_values(name, named[name], traps) if name in named else ["1"]
        bad = data.draw(st.sampled_from(values))
        words, what = [*words, f"{name}={bad}"], f"{base} {name}={bad}"
    before = {p.name for p in folder.parent.iterdir()}
    wrong = command_fault(words)
    extra = {p.name for p in folder.parent.iterdir()} - before
    assert not extra, f"{what[:200]} wrote {extra} outside of its folder"
    argued = any(re.fullmatch(pattern, what) for pattern in ACCEPTED)
    assert wrong is None or (argued and "accepted" in wrong), f"{what[:120]!r}: {wrong}"
    shutil.rmtree(folder / "runs", ignore_errors=True)


def test_a_bad_command_line_is_refused(workshop, monkeypatch):
    monkeypatch.chdir(workshop)
    settings(max_examples=60)(given(data=st.data())(lambda data: check(data, workshop)))()


@pytest.mark.slow
def test_many_bad_command_lines_are_refused(workshop, monkeypatch):
    monkeypatch.chdir(workshop)
    settings(max_examples=600)(given(data=st.data())(lambda data: check(data, workshop)))()
