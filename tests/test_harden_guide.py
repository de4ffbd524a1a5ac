"""The page on hardening a network of timm or Hugging Face runs word by word on its small folder."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.docs_hooks.walk import steps
from sparring.config.recipe import load_recipe

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "how-to" / "harden-my-network.md"
# As installed beside a matching torch, but for an import that this machine's build needs.
LAUNCHER = """
import sys
from tests.torchvision_on_cpu import declare_operators
declare_operators()
if sys.argv[1] == "python":
    exec(compile(open(sys.argv[2]).read(), sys.argv[2], "exec"))
else:
    from sparring.cli.main import main
    del sys.argv[1]
    sys.exit(main())
"""


def written(folder: Path) -> list[list[str]]:
    """Write the files of the page; return its commands as words, but for the installation."""
    commands = []
    for step in steps(PAGE.read_text(encoding="utf-8")):
        if step.kind == "file":
            (folder / step.name).write_text(step.text, encoding="utf-8")
        else:
            commands.append(shlex.split(step.text))
    assert commands[0][:2] == ["pip", "install"]
    return commands[1:]


def run(folder: Path, words: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-3000:])
    return done.stdout


def test_the_recipes_of_the_page_load(tmp_path, monkeypatch):
    from tests.torchvision_on_cpu import declare_operators

    declare_operators()
    assert len(written(tmp_path)) >= 8
    monkeypatch.chdir(tmp_path)
    for name in ("own", "hardened"):
        assert load_recipe(f"{name}.toml").name == name


@pytest.mark.slow
def test_the_page_runs(tmp_path):
    outputs = {" ".join(words): run(tmp_path, words) for words in written(tmp_path)}
    assert "hardened" in outputs["sparring compare runs/own runs/hardened"]
    assert {p.name for p in (tmp_path / "runs").iterdir()} >= {"own", "hardened", "vit"}
