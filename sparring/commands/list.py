"""List what there is, by kind: recipes, models, data, pieces, suites, metrics."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping

from .. import data, evaluation, metrics, models
from ..component import did_you_mean
from ..config import recipe
from ..config.registry import pieces


def _named(room: str) -> Callable[[], Mapping[str, object]]:
    return lambda: pieces(room)


def _recipes() -> dict[str, str]:
    """Return the recipes and their first lines: measured ones first, the others marked."""
    measured, unmeasured = {}, {}
    for name in recipe.names():
        header = (recipe.SHIPPED / f"{name}.toml").read_text(encoding="utf-8").splitlines()[:6]
        line = header[0].removeprefix("# ")
        if any(row.startswith("# ours") and "not measured" in row for row in header):
            unmeasured[name] = f"{line} Not measured yet."
        else:
            measured[name] = line
    return measured | unmeasured


KINDS: dict[str, Callable[[], Mapping[str, object]]] = {
    "recipes": _recipes,
    "models": lambda: models.NETWORKS,
    "data": lambda: dict.fromkeys(data.names(), ""),
    "attacks": _named("attack"),
    "threats": _named("threat"),
    "methods": _named("method"),
    "risks": _named("risk"),
    "weights": lambda: pieces("climb") | pieces("ema"),
    "augment": _named("augment"),
    "mix": _named("mix"),
    "suites": lambda: evaluation.SUITES,
    "metrics": lambda: {k: getattr(m, "func", m) for k, m in metrics.METRICS.items()},
}


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
        raise ValueError(did_you_mean("list", kind, KINDS))
    lines = {name: _line(entry) for name, entry in KINDS[kind]().items()}
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {line}".rstrip() for name, line in lines.items())


def _line(entry: object) -> str:
    """Return the line about a piece: its own, or the first sentence of its docstring."""
    if isinstance(entry, evaluation.Suite):
        return entry.description
    if isinstance(entry, str):
        return entry
    text = inspect.getdoc(getattr(entry, "func", entry)) or ""
    return re.split(r"\.\s|\n\n", text)[0].replace("\n", " ").rstrip(".:")


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
