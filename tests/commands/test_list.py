"""The list is read without PyTorch, and says what the pieces say."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

import pytest

from sparring.commands import list as listed
from sparring.config import recipe

HEAVY = ("torch", "numpy", "matplotlib", "sklearn", "scipy")  # typer itself imports pydantic


def test_the_index_is_that_of_the_pieces():
    index = tomllib.loads(listed.INDEX.read_text(encoding="utf-8"))
    assert index == listed.index(), "write it: python -m sparring.commands.list"
    assert list(index) == listed.kinds()
    assert all(list(index[kind]) == list(of) for kind, of in listed.index().items())


def test_every_recipe_is_listed():
    lines = listed.listing("recipes").splitlines()
    assert sorted(line.split()[0] for line in lines) == recipe.names()
    with pytest.raises(ValueError, match="did you mean 'attacks'"):
        listed.listing("atacks")


def test_nothing_that_only_says_something_starts_pytorch():
    verbs = ("train", "evaluate", "metrics", "study", "report", "cite")
    lines = [["list"], *(["list", kind] for kind in listed.kinds()), ["--help"], ["--version"]]
    lines += [[verb, "--help"] for verb in verbs]
    program = (
        "import contextlib, io, json, sys; from sparring.cli.main import main\n"
        f"for argv in {lines!r}:\n"
        "    sys.argv, said = ['sparring', *argv], io.StringIO()\n"
        "    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit): main()\n"
        f"    heavy = sorted({set(HEAVY)!r} & set(sys.modules))\n"
        "    print(json.dumps([argv, len(said.getvalue().splitlines()), heavy]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [argv for argv, _, _ in told] == lines
    for argv, number, heavy in told:
        assert not heavy, argv
        assert number >= 1, argv
