"""Bring the tables of studies in the docs up to date.

Text between `<!-- NAME -->` and `<!-- /NAME -->` is made from results/NAME, if there is a
studies/NAME.toml.

    .venv/bin/python scripts/tables.py
"""

from __future__ import annotations

import re
from pathlib import Path

from sparring.commands import study
from sparring.reporting import study_markdown

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?<=<!-- )([\w-]+)( -->\n).*?(?=<!-- /\1 -->)", re.DOTALL)


def filled(text: str) -> str:
    """Return a page with the tables of the present results."""
    return BLOCK.sub(_block, text)


def _block(match: re.Match[str]) -> str:
    name = match[1]
    file = ROOT / "studies" / f"{name}.toml"
    if not file.is_file():
        return match[0]
    record = study.collect(study.load(file), results=ROOT / "results" / name)
    return f"{name}{match[2]}{study_markdown(record.results, record.metric_reports)}\n"


if __name__ == "__main__":
    for page in sorted((ROOT / "docs").rglob("*.md")):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
