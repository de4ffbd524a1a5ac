"""List what there is, by kind: recipes, models, data, pieces, suites, metrics.

The list is read from `index.toml`, since the pieces themselves need PyTorch, which takes seconds to
import. `python -m sparring.commands.list` writes that file; a test compares it with the pieces.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from ..config.shipped import SHIPPED, names

INDEX = Path(__file__).with_name("index.toml")
ROOMS = {  # of config.registry
    "attacks": ("attack",),
    "threats": ("threat",),
    "methods": ("method",),
    "risks": ("risk",),
    "weights": ("climb", "ema"),
    "augment": ("augment",),
    "mix": ("mix",),
}
KINDS = ("recipes", "models", "data", *ROOMS, "suites", "metrics")


def kinds() -> list[str]:
    """Return the kinds that `listing` knows."""
    return list(KINDS)


def listing(kind: str | None = None) -> str:
    """Return the names of one kind or of all, each with a line about it.

    >>> "CVaR" in listing("risks")
    True
    """
    if kind is None:
        return "\n\n".join(f"{k}\n{_indent(listing(k))}" for k in KINDS)
    if kind not in KINDS:
        from ..component import did_you_mean

        raise ValueError(did_you_mean("list", kind, KINDS))
    lines = _recipes() if kind == "recipes" else _indexed()[kind]
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {line}".rstrip() for name, line in lines.items())


def index() -> dict[str, dict[str, str]]:
    """Return what `index.toml` must hold: names and lines of every kind but recipes."""
    from .. import data, evaluation, metrics, models
    from ..config.registry import pieces

    entries: dict[str, Mapping[str, object]] = {
        "models": models.NETWORKS,
        "data": dict.fromkeys(data.names(), ""),
        **{
            kind: {name: piece for room in rooms for name, piece in pieces(room).items()}
            for kind, rooms in ROOMS.items()
        },
        "suites": {name: suite.description for name, suite in evaluation.SUITES.items()},
        "metrics": {k: getattr(m, "func", m) for k, m in metrics.METRICS.items()},
    }
    return {k: {name: _line(entry) for name, entry in of.items()} for k, of in entries.items()}


def _indexed() -> dict[str, dict[str, str]]:
    return tomllib.loads(INDEX.read_text(encoding="utf-8"))


def _recipes() -> dict[str, str]:
    """Return the recipes and their first lines: measured ones first, the others marked."""
    measured, unmeasured = {}, {}
    for name in names():
        header = (SHIPPED / f"{name}.toml").read_text(encoding="utf-8").splitlines()[:6]
        line = header[0].removeprefix("# ")
        if any(row.startswith("# ours") and "not measured" in row for row in header):
            unmeasured[name] = f"{line} Not measured yet."
        else:
            measured[name] = line
    return measured | unmeasured


def _line(entry: object) -> str:
    """Return the line about a piece: its own, or the first sentence of its docstring."""
    if isinstance(entry, str):
        return entry
    text = inspect.getdoc(getattr(entry, "func", entry)) or ""
    return re.split(r"\.\s|\n\n", text)[0].replace("\n", " ").rstrip(".:")


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _write_index() -> None:
    import tomli_w

    INDEX.write_text(tomli_w.dumps(index()), encoding="utf-8")


if __name__ == "__main__":
    _write_index()
