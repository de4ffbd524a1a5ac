"""The pages of recipes: one table of all, and a page per data set with each recipe's own file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sparring.config import recipe, shipped

from .markdown import anchor, cell, code, literal, table

PAGE = "reference/recipes/index.md"
FOLDER = "reference/recipes"
INTRO = """---
title: Recipes
hide: [toc]
---

# Recipes

After this page you can choose one of the {count} recipes inside the package: `sparring train NAME`.

Click on a heading to sort the table; type into its field to filter it. "Not measured yet" marks
recipes that nobody ran to their end.

"""
HEADER = ("recipe", "data", "method", "threat", "eps", "epochs", "about")


class Card(NamedTuple):
    """What the pages say of one recipe: its tables, the comments of its file, and the file."""

    name: str
    tables: dict[str, Any]
    about: str
    facts: dict[str, str]
    toml: str

    @property
    def data(self) -> str:
        """Return the name of the data set."""
        return str(self.tables["data"]["name"])


def pages(root: Path) -> dict[str, str]:
    """Return the table of recipes, and a page per data set, by their paths in the site."""
    cards = [card(name) for name in shipped.names()]
    out = {PAGE: INTRO.format(count=len(cards)) + table(HEADER, map(_row, cards))}
    for data in sorted({one.data for one in cards}):
        out[f"{FOLDER}/{data}.md"] = _page(data, [one for one in cards if one.data == data])
    return out


def card(name: str) -> Card:
    """Read one shipped recipe and the comments at its head.

    >>> card("digits-mart").facts["paper"]
    'Wang et al. 2020'
    >>> card("mnist-mart-paper").facts["unsure"][-34:]
    'and the best epoch on them is kept'
    """
    text = (shipped.SHIPPED / f"{name}.toml").read_text(encoding="utf-8")
    header = re.match(r"(?:#.*\n)*", text)
    lines = [line.removeprefix("# ") for line in (header[0] if header else "").splitlines()]
    joined = re.sub(r"\n {2,}", " ", "\n".join(lines))  # a fact may go on in the next lines
    facts = dict(re.findall(r"^(paper|target|ours|minutes|unsure)\s+(.*)$", joined, re.M))
    toml = text[len(header[0]) if header else 0 :].strip()
    return Card(name, recipe.read(name), lines[0] if lines else "", facts, toml)


def _row(one: Card) -> list[str]:
    tables = one.tables
    threat = tables.get("threat", {})
    inner = threat.get("of", threat) if isinstance(threat, dict) else {"name": threat}
    measured = "not measured" not in one.facts.get("ours", "")
    about = one.about if measured else f"{one.about} Not measured yet."
    return [
        f"[{code(one.name)}]({one.data}.md#{anchor(one.name)})",
        code(one.data),
        code(_name(tables.get("method", "Standard"))),
        code(_name(threat)) if "attack" in tables else "–",
        _number(inner.get("eps", "–")) if "attack" in tables else "–",
        str(tables.get("train", {}).get("epochs", "–")),
        literal(cell(about)),
    ]


def _page(data: str, cards: Iterable[Card]) -> str:
    cards = list(cards)
    about = "Each block is the recipe's file. `base` names the recipe that it changes."
    intro = f"---\ntitle: {data}\n---\n\n# Recipes for {data}\n\n{about}\n"
    return intro + "".join(map(_section, cards))


def _section(one: Card) -> str:
    facts = [[key, literal(cell(value))] for key, value in one.facts.items()]
    facts.append(["train it", code(f"sparring train {one.name}")])
    if "paper" in one.tables["recipe"]:
        facts.append(["cite it", code(f"sparring cite {one.name}")])
    return (
        f"\n## {one.name}\n\n{literal(one.about)}\n\n{table(('what', 'value'), facts)}\n"
        f"```toml\n{one.toml}\n```\n"
    )


def _name(piece: Any) -> str:
    return str(piece.get("name", "")) if isinstance(piece, dict) else str(piece)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
