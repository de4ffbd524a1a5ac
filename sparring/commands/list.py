"""List what there is, by kind: recipes, models, data, pieces, suites, metrics.

The list is read from `index.toml`, since the pieces themselves need PyTorch, which takes seconds to
import. `python -m sparring.commands.list` writes that file; a test compares it with the pieces.
"""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.shipped import SHIPPED, header_of, names

if TYPE_CHECKING:
    from ..results.rows import Rows

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
SURROGATE_SUITE = "attacks on a surrogate model (--surrogate), whose points are tried on the model"
INDENT = 4  # of lines below a name, on a terminal


@dataclass(frozen=True)
class RecipeInfo:
    """Describe a shipped recipe in a list.

    Arguments:
        about: one line on it.
        measured: what was measured with it, or "not measured yet".
    """

    name: str
    data: str
    method: str
    about: str
    measured: str = field(repr=False)


def kinds() -> list[str]:
    """Return the kinds that `listing` knows."""
    return list(KINDS)


def recipes(data: str | None = None, method: str | None = None) -> Rows[RecipeInfo]:
    """Return the shipped recipes, measured ones first, as rows that print as a table.

    Arguments:
        data, method: only the recipes on this data set, or of this method; default: all.

    Raises:
        ValueError: for a data set or method that no recipe has.

    >>> [recipe.name for recipe in recipes(data="digits", method="mart")]
    ['digits-mart']
    """
    from ..results.rows import Rows

    table = _index()["recipes"]
    for key, value in (("data", data), ("method", method)):
        known = {entry[key] for entry in table.values()}
        if value is not None and value.lower() not in {k.lower() for k in known}:
            from ..component import did_you_mean

            raise ValueError(did_you_mean(key, value, known))
    wanted = {"data": data, "method": method}
    return Rows(
        [
            RecipeInfo(name, measured=header_of(name).get("ours", ""), **_facts(entry))
            for name, entry in table.items()
            if all(v is None or entry[k].lower() == v.lower() for k, v in wanted.items())
        ],
        empty=f"no recipe trains {method} on {data}",
    )


def listing(
    kind: str | None = None,
    *,
    data: str | None = None,
    method: str | None = None,
    width: int | None = None,
) -> str:
    """Return the names of one kind or of all, each with a line about it.

    Arguments:
        data, method: only recipes on this data set, or of this method; kind is then "recipes".
        width: letters of a line, which is broken between words; default: one line per name.

    >>> "CVaR" in listing("risks")
    True
    """
    if data is not None or method is not None:
        if kind not in (None, "recipes"):
            raise ValueError(f"data and method choose among recipes, not among {kind}")
        chosen = recipes(data, method)
        return _aligned({r.name: r.about for r in chosen}, width) or chosen.empty
    if kind is None:
        inner = None if width is None else width - 2
        return "\n\n".join(f"{k}\n{_indent(listing(k, width=inner))}" for k in KINDS)
    if kind not in KINDS:
        from ..component import did_you_mean

        raise ValueError(did_you_mean("list", kind, KINDS))
    return _aligned({name: _shown(entry) for name, entry in _index()[kind].items()}, width)


def index() -> dict[str, dict[str, Any]]:
    """Return what `index.toml` must hold: names and lines of every kind."""
    from .. import data, evaluation, metrics, models
    from ..config.registry import pieces
    from ..data.named import FACTS

    entries: dict[str, Mapping[str, object]] = {
        "models": models.NETWORKS,
        "data": {name: FACTS[name].line for name in data.names()},
        **{
            kind: {name: piece for room in rooms for name, piece in pieces(room).items()}
            for kind, rooms in ROOMS.items()
        },
        "suites": {name: suite.description for name, suite in evaluation.SUITES.items()}
        | {"transfer": SURROGATE_SUITE},
        "metrics": {k: getattr(m, "func", m) for k, m in metrics.METRICS.items()},
    }
    lines = {k: {name: _line(entry) for name, entry in of.items()} for k, of in entries.items()}
    return {"recipes": _recipes(), **lines}


def _index() -> dict[str, dict[str, Any]]:
    return tomllib.loads(INDEX.read_text(encoding="utf-8"))


def _recipes() -> dict[str, dict[str, Any]]:
    """Return data, method and line of the recipes: measured ones first, the others marked."""
    from ..config.recipe import load_recipe

    entries = {}
    for name in names():
        tables, notes = load_recipe(SHIPPED / f"{name}.toml").tables, header_of(name)
        facts = {"data": tables["data"]["name"], "method": tables["method"]["name"]}
        measured = "not measured" not in notes["ours"]
        entries[name] = {**facts, "line": notes[""], "measured": measured}
    return dict(sorted(entries.items(), key=lambda pair: not pair[1]["measured"]))


def _facts(entry: Mapping[str, Any]) -> dict[str, str]:
    return {"data": entry["data"], "method": entry["method"], "about": _shown(entry)}


def _shown(entry: str | Mapping[str, Any]) -> str:
    """Return the line of an entry; that of a recipe says if it was not measured."""
    if isinstance(entry, str):
        return entry
    return entry["line"] if entry["measured"] else f"{entry['line']} Not measured yet."


def _line(entry: object) -> str:
    """Return the line about a piece: its own, or the first sentence of its docstring.

    A piece with arguments filled in names them: two of one function are two.
    """
    if isinstance(entry, str):
        return entry
    text = inspect.getdoc(getattr(entry, "func", entry)) or ""
    sentence = re.split(r"\.\s|\n\n", text)[0].replace("\n", " ").rstrip(".:")
    if isinstance(entry, functools.partial) and entry.keywords:
        given = ", ".join(f"{key} {value}" for key, value in entry.keywords.items())
        return f"{sentence.split(';')[0]} ({given})"
    return sentence


def _aligned(lines: Mapping[str, str], width: int | None) -> str:
    """Return a line per name; on a narrow screen broken between words, or below the name."""
    longest = max(map(len, lines), default=0)
    if width is None:
        return "\n".join(f"{name:<{longest}}  {line}".rstrip() for name, line in lines.items())
    indent = longest + 2 if longest + 2 <= width // 2 else INDENT
    rows = []
    for name, line in lines.items():
        beside = len(name) + 2 <= indent
        rows += [] if beside else [name]
        first = f"{name:<{indent}}" if beside else " " * indent
        rows += (
            textwrap.wrap(
                line,
                max(width, indent + 20),
                initial_indent=first,
                subsequent_indent=" " * indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            or [first.rstrip()] * beside
        )
    return "\n".join(rows)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _write_index() -> None:
    import tomli_w

    INDEX.write_text(tomli_w.dumps(index()), encoding="utf-8")


if __name__ == "__main__":
    _write_index()
