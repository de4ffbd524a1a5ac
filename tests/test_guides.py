"""Numbers and errors that the guides quote: the one are means of committed results, the others
stand in the source."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from statistics import mean

import pytest

ROOT = Path(__file__).parents[1]
WHICH_METHOD = ROOT / "docs" / "explanation" / "which-method.md"
FAQ = ROOT / "docs" / "how-to" / "faq.md"
TABLES = re.findall(
    r"<!-- numbers: (.*?) -->\n(.*?)<!-- /numbers -->",
    WHICH_METHOD.read_text(encoding="utf-8"),
    re.DOTALL,
)


def accuracies(folder: str, run: str) -> set[str]:
    """Return the mean clean and robust accuracy over seeds, and the mean minutes, as text."""
    files = sorted((ROOT / "results" / folder).glob(f"{run}-seed?.json"))
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    assert records, f"{folder} has no results of {run}"
    clean, robust = (
        mean(100 * r[key]["accuracy"] for r in records) for key in ("clean", "robust")
    )
    minutes = mean(r["train"]["seconds"] / 60 for r in records)
    return {f"{value:.1f}" for value in (clean, robust, minutes)}


@pytest.mark.parametrize(("folders", "table"), TABLES, ids=[t[0] for t in TABLES])
def test_numbers_of_which_method_are_means_of_results(folders: str, table: str) -> None:
    for row in table.splitlines()[2:]:
        run = row.split("`")[1]
        measured = set().union(*(accuracies(folder, run) for folder in folders.split(", ")))
        cells = re.findall(r"\d+\.\d", row)
        assert cells
        assert set(cells) <= measured, f"{folders}, {run}: {cells} against {measured}"
