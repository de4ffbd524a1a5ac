"""The list is read without PyTorch, and says what the pieces say."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    "argv",
    [
        ["list"],
        *(["list", kind] for kind in listed.kinds()),
        ["--help"],
        ["--version"],
        *([verb, "--help"] for verb in ("train", "evaluate", "metrics", "study", "report", "cite")),
    ],
    ids=" ".join,
)
def test_it_starts_without_pytorch(argv):
    program = (
        "import atexit, sys; from sparring.cli.main import main\n"
        f"atexit.register(lambda: print('heavy:', *({set(HEAVY)!r} & set(sys.modules))))\n"
        f"sys.argv = ['sparring', *{argv!r}]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].strip() == "heavy:"
    assert len(done.stdout.splitlines()) > 1
