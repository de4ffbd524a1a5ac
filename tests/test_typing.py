"""A user's type checker sees the package's types: `py.typed`, and no Any in what is public."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "tests" / "typing"


def mypy(script: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy as a user does that has installed the package: its own files are not judged."""
    options = [
        "--strict",
        "--follow-imports=silent",
        "--cache-dir",
        str(cache),
        "--no-error-summary",
    ]
    command = [sys.executable, "-m", "mypy", *options, str(SCRIPTS / script)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_strict_mypy_sees_the_types_of_a_user_script(tmp_path):
    right = mypy("user_script.py", tmp_path)
    assert right.returncode == 0, right.stdout
    wrong = mypy("wrong_script.py", tmp_path).stdout
    for line, code in ((7, "call-arg"), (8, "assignment"), (9, "attr-defined")):
        assert any(f".py:{line}: error" in r and f"[{code}]" in r for r in wrong.splitlines()), (
            wrong
        )


@pytest.mark.slow
def test_a_wheel_says_that_it_is_typed(tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "sparring/py.typed" in zipfile.ZipFile(wheel).namelist()


def test_the_marker_of_types_is_in_the_package():
    assert (ROOT / "sparring" / "py.typed").read_bytes() == b""
