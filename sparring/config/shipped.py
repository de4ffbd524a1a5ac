"""The recipes inside the package, by name; without PyTorch, so that a list of them is quick."""

from __future__ import annotations

import re
from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "recipes"
NOTES = ("paper", "target", "ours", "unsure")  # keys of the comments above a shipped recipe


def names() -> list[str]:
    """Return the names of the recipes inside the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def header_of(name: str) -> dict[str, str]:
    """Return the comments above a shipped recipe by their key; "" is the line that describes it.

    >>> header_of("digits-mart")["paper"]
    'Wang et al. 2020'
    """
    notes: dict[str, str] = {}
    key = ""
    for line in (SHIPPED / f"{name}.toml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#").strip()
        if match := re.match(r"#  ?(\w+) {2,}(.*)", line):
            key, text = match[1], match[2]
        notes[key] = f"{notes[key]} {text}" if key in notes else text
    return {key: text for key, text in notes.items() if key in ("", *NOTES)}
