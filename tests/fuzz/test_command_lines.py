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
from hypothesis import strategies as st

from sparring import train
from sparring.cli import main
from tests.fuzz.bad_values import ESCAPES, NAMES
from tests.fuzz.harness import command_fault, fuzz, make_traps

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
PATHS = ("--out", "--table", "--report", "--runs", "--results", "--robustbench")
BAD_NUMBERS = ["x", "-5", "nan", "", "9" * 5000, "1/0", "0x10", "1e999", "[1]", "--", "True"]
BAD_DEVICES = ["tpu", "5", "gpu", "cuda:99", "cpu:7x", "meta", "", "x" * 5000]
BAD_SETS = ["=", "x", "a.b.c.d=1", "train=3", "train.epochs=", "train.epochs=[", "=3", ".=1"]
BAD_SETS += ["train.epochs=nan", "train.epochs=1.5", "threat.eps=8", "recipe.name=../x", "a=" * 999]
BAD_SETS += [f"recipe.name={name!r}" for name in ESCAPES] + ["train.epochs=" + "[" * 5000]
# Bad by their look and good by their meaning; each with the reason.
ACCEPTED: dict[str, str] = {
    r"(evaluate|weights) --(seconds|queries)=.*(9{9}|1e999).*": "a budget without end",
    r"report --out=page\.html": "a page of before is replaced",
    r"train --out=(\.|\.\.|\.\./up|a/b|folder|-x|Ω+|\[bold\]x\[/\])": "a run is written where its "
    "user says",
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
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a run and a study."""
    folder = tmp_path_factory.mktemp("template")
    train("digits-standard", out=folder / "run", set=TINY)
    (folder / "study.toml").write_text('name = "s"\nruns = ["no-such-recipe"]\n')
    return folder


def renew(folder: Path, template: Path) -> None:
    """Make the files of a folder anew, with paths that no command should follow; empty the one
    above it."""
    for path in (*folder.iterdir(), *(p for p in folder.parent.iterdir() if p != folder)):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(template, folder, dirs_exist_ok=True)
    make_traps(folder)


def check(data: st.DataObject, folder: Path, template: Path) -> None:
    """Draw a command and a bad argument; it must end in one sentence, and write only where the
    argument leads."""
    base = data.draw(st.sampled_from(sorted(COMMANDS)))
    words, option = COMMANDS[base], ""
    named = options()[words[0]]
    traps = ["pipe", "zero", "circle", "folder", "page.html"]
    if data.draw(st.booleans()) or not named:
        bad = data.draw(st.sampled_from([*(n for n in NAMES if "\x00" not in n), *traps]))
        words, what = [words[0], bad, *words[2:]], f"{base} {bad}"
    else:
        option = data.draw(st.sampled_from([*sorted(named), "--no-such-option"]))
        values = bad_values(option, named[option], traps) if option in named else ["1"]
        bad = data.draw(st.sampled_from(values))
        words, what = [*words, f"{option}={bad}"], f"{base} {option}={bad}"
    renew(folder, template)
    wrong = command_fault(words)
    # ".." and "../up" as a path to write are obeyed; from elsewhere, nothing leaves the folder
    inside = folder.parent if option in PATHS else folder
    extra = {p.name for p in inside.parent.iterdir()} - {inside.name}
    assert not extra, f"{what[:200]} wrote {extra} outside of its folder"
    argued = any(re.fullmatch(pattern, what) for pattern in ACCEPTED)
    assert wrong is None or (argued and "accepted" in wrong), f"{what[:120]!r}: {wrong}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the working folder: nothing else is in the two above it."""
    made = tmp_path / "above" / "work"
    made.mkdir(parents=True)
    monkeypatch.chdir(made)
    return made


def test_a_bad_command_line_is_refused(template, folder):
    fuzz("command lines", lambda data: check(data, folder, template))


@pytest.mark.slow
def test_many_bad_command_lines_are_refused(template, folder):
    fuzz("command lines", lambda data: check(data, folder, template), slow=True)
