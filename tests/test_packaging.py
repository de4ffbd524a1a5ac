"""What is built from pyproject.toml: extras, the words of the index page, the source archive."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
OF_MAINTAINERS = {"bench", "dev", "docs", "slow"}


def test_all_has_every_extra_of_a_user() -> None:
    (everything,) = EXTRAS["all"]
    named = re.fullmatch(r"sparring\[([\w,]+)\]", everything)
    assert named is not None
    assert set(named[1].split(",")) == set(EXTRAS) - OF_MAINTAINERS - {"all"}


def test_every_extra_that_a_message_names_exists() -> None:
    text = "".join(f.read_text(encoding="utf-8") for f in (ROOT / "sparring").rglob("*.py"))
    named = {
        extra for group in re.findall(r"sparring\[([\w,]+)\]", text) for extra in group.split(",")
    }
    named |= set(re.findall(r'extra="(\w+)", purpose', text))
    assert named <= set(EXTRAS)
    assert {"search", "slurm"} <= named


def test_the_index_page_has_no_link_that_leads_nowhere() -> None:
    (rule,) = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.sub(rule["pattern"], rule["replacement"], readme)
    targets = re.findall(r"\]\(([^)]+)\)", shown)
    assert [t for t in targets if not t.startswith("https://")] == []
    assert "First ten minutes" in shown
    assert "](docs/" not in shown


def test_named_versions_of_python_begin_at_the_floor() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert named[0] == PROJECT["project"]["requires-python"].removeprefix(">=")


@pytest.mark.slow
def test_the_tests_of_the_source_archive_can_be_collected(tmp_path: Path) -> None:
    for name in (
        *PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"],
        "/pyproject.toml",
    ):
        origin, target = ROOT / name.strip("/"), tmp_path / name.strip("/")
        copy = shutil.copytree if origin.is_dir() else shutil.copy
        copy(origin, target)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
