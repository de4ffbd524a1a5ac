"""Names for shell completion, from `index.toml` and the folders: without PyTorch, so at once."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

Pairs = list[tuple[str, str]]
INDEX = Path(__file__).parents[1] / "commands" / "index.toml"
RUNS = "runs"
MOST_RUNS = 1000


def kinds(incomplete: str) -> Pairs:
    """Return the kinds of `sparring list`."""
    return _beginning(incomplete, dict.fromkeys(_index(), ""))


def recipes(incomplete: str) -> Pairs:
    """Return the shipped recipes, each with its line."""
    table = _index().get("recipes", {})
    return _beginning(incomplete, {name: entry["line"] for name, entry in table.items()})


def data(incomplete: str) -> Pairs:
    """Return the data sets known by name."""
    return _beginning(incomplete, _index().get("data", {}))


def methods(incomplete: str) -> Pairs:
    """Return the methods of training."""
    return _beginning(incomplete, _index().get("methods", {}))


def suites(incomplete: str) -> Pairs:
    """Return the suites of attacks."""
    return _beginning(incomplete, _index().get("suites", {}))


def metrics(incomplete: str) -> Pairs:
    """Return the metrics."""
    return _beginning(incomplete, _index().get("metrics", {}))


def runs(incomplete: str) -> Pairs:
    """Return the run folders below `runs`, and below the folder that is typed."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    folders = [Path(RUNS)] if folder in (Path(RUNS), Path()) else [Path(RUNS), folder]
    return _beginning(incomplete, {str(run): "" for f in folders for run in _run_folders(f)})


def recipes_and_runs(incomplete: str) -> Pairs:
    """Return the shipped recipes and the run folders."""
    return [*recipes(incomplete), *runs(incomplete)]


def _run_folders(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for path in islice(sorted(folder.iterdir()), MOST_RUNS):
            if (path / "recipe.toml").is_file():
                yield path


def _index() -> dict[str, dict]:
    return tomllib.loads(INDEX.read_text(encoding="utf-8"))


def _beginning(incomplete: str, lines: dict[str, str]) -> Pairs:
    return [(name, line) for name, line in lines.items() if name.startswith(incomplete)]
