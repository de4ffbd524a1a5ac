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
    clean, robust = (mean(100 * r[key]["accuracy"] for r in records) for key in ("clean", "robust"))
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


def messages() -> str:
    """Return every text in the package's source, with … for what is filled in, one per line."""
    texts = []
    for file in sorted((ROOT / "sparring").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(part, "value", "") for part in node.values]
                texts.append("".join(p if isinstance(p, str) else "…" for p in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(" ".join(text.split()) for text in texts)


def test_errors_of_the_faq_are_errors_of_the_source() -> None:
    source = messages()
    errors = re.findall(r"^### `(.*)`$", FAQ.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(errors) >= 20
    for error in errors:
        fragments = [part.strip(" :,.()") for part in error.split("…")]
        missing = [part for part in fragments if len(part) > 7 and part not in source]
        assert not missing, f"{error}: {missing}"
