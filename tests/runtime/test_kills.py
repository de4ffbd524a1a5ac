"""After a kill at any moment a resumed run ends as one that was not killed, and leaves no file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def driver(module: str, *arguments: object) -> str:
    """The output of a fresh process: its children are forks, and this process has computed."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(("calls", "times"), [(5, 3), pytest.param(62, 50, marks=pytest.mark.slow)])
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, calls, times):
    killed = re.findall(r"(\w+): (\d+) killed of", driver("tests.kill", tmp_path, calls, times))
    assert [name for name, _ in killed] == ["train", "evaluate"]
    assert all(int(count) >= calls for _, count in killed)


@pytest.mark.slow
def test_two_processes_do_not_disturb_each_other(tmp_path):
    assert len(driver("tests.pair", tmp_path).splitlines()) == 6
