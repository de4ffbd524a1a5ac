"""The recipes inside the package, by name; without PyTorch, so that a list of them is quick."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "recipes"


def names() -> list[str]:
    """Return the names of the recipes inside the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))
