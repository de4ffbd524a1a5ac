"""Bring the tables of studies in the docs up to date: what stands between `<!-- NAME -->` and
`<!-- /NAME -->`, where studies/NAME.toml exists, is made of results/NAME.

    .venv/bin/python scripts/tables.py
"""

from __future__ import annotations

import re
from pathlib import Path

from sparring.commands import study
from sparring.reporting import studied

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?<=<!-- )([\w-]+)( -->\n).*?(?=<!-- /\1 -->)", re.DOTALL)


def filled(text: str) -> str:
    """A page with the tables of what is measured now."""
    return BLOCK.sub(_block, text)


def _block(found: re.Match[str]) -> str:
    name = found[1]
    file = ROOT / "studies" / f"{name}.toml"
    if not file.is_file():
        return found[0]
    held = study.collect(study.load(file), results=ROOT / "results" / name)
    return f"{name}{found[2]}{studied(held.results, held.measures)}\n"


if __name__ == "__main__":
    for page in sorted((ROOT / "docs").glob("*.md")):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
