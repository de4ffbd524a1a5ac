"""What there is, and whom to cite for it."""

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
    firsts = {
        name: (recipe.SHIPPED / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0]
        for name in recipe.names()
    }
    return {name: line.removeprefix("# ") for name, line in firsts.items()}


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
    """The kinds of things that `listing` knows."""
    return list(KINDS)


def listing(kind: str | None = None) -> str:
    """Names with a line on each, of one kind or of all.

    >>> "CVaR" in listing("risks")
    True
    """
    if kind is None:
        return "\n\n".join(f"{k}\n{_indent(listing(k))}" for k in KINDS)
    if kind not in KINDS:
        raise ValueError(did_you_mean("list", kind, KINDS))
    lines = {name: _line(thing) for name, thing in KINDS[kind]().items()}
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {line}".rstrip() for name, line in lines.items())


def _line(thing: object) -> str:
    """A line on it: its own, or the first sentence of its docstring."""
    if isinstance(thing, evaluation.Suite):
        return thing.description
    text = thing if isinstance(thing, str) else inspect.getdoc(getattr(thing, "func", thing)) or ""
    return re.split(r"\. |\n", text)[0].rstrip(".") if not isinstance(thing, str) else text


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
