"""A stranger's file ends in a sentence: soon, and in little memory."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.bad_files import BOMBS, FILES

ALL = {**FILES, **BOMBS}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Of each bad file what loading it raises, in a process of little memory."""
    folder = tmp_path_factory.mktemp("bad")
    for key, (name, write, _) in ALL.items():
        path = folder / key / name
        path.parent.mkdir()
        write(path) if callable(write) else path.write_bytes(write)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.data.bad_files", folder],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


def test_there_are_many():
    assert len(ALL) >= 80


@pytest.mark.parametrize("key", ALL)
def test_a_bad_file_is_refused_in_a_sentence(outcomes, key):
    kind, message = outcomes[key]["error"]
    words = ALL[key][2]
    assert kind in ("ValueError", "FileNotFoundError", "IsADirectoryError", "PermissionError")
    assert re.search(words, message, re.DOTALL), message
    assert len(message) < 500
    assert message.count("\n") <= 1
    assert outcomes[key]["seconds"] < 2
