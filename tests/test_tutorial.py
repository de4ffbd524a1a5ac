"""The tutorial's notebook runs from its first cell to its last."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "tutorial" / "first-ten-minutes.ipynb"


def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_the_notebook_is_kept_without_outputs():
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    lines = [line for cell in cells() for line in "".join(cell["source"]).splitlines()]
    assert max(map(len, lines)) <= 100
    for cell in code:
        compile("".join(cell["source"]), "cell", "exec")


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    shutil.copy(NOTEBOOK, tmp_path)  # its cells run in its own folder, and train there
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute"]
    run = subprocess.run(
        [*command, "--inplace", NOTEBOOK.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    executed = json.loads((tmp_path / NOTEBOOK.name).read_text(encoding="utf-8"))["cells"]
    pages = [out["data"] for cell in executed for out in cell.get("outputs", ()) if "data" in out]
    assert sum("sparring-card" in "".join(page.get("text/html", "")) for page in pages) == 2
