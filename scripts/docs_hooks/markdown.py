"""Write Markdown: tables, cells and anchors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def cell(text: object) -> str:
    """Return a text for one cell of a table: one line, with pipes and tags escaped.

    >>> cell("max |x|\\nof <b>")
    'max \\\\|x\\\\| of &lt;b>'
    """
    line = " ".join(str(text).split())
    return line.replace("<", "&lt;").replace("|", "\\|")


def code(text: object) -> str:
    """Return a text as code in a cell; "" stays empty. Inside of code a pipe divides no cells.

    >>> code("a |  b")
    '`a | b`'
    """
    line = " ".join(str(text).split())
    return f"`{line}`" if line else ""


def literal(text: str) -> str:
    """Escape what Markdown reads as emphasis, outside of code.

    >>> literal("p_y and p_k of `a_b`")
    'p\\\\_y and p\\\\_k of `a_b`'
    """
    parts = re.split(r"(`[^`\n]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*_])", r"\\\1", p) for p in parts)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as the site makes it.

    >>> anchor("`[train]` and its keys")
    'train-and-its-keys'
    """
    plain = re.sub(r"[^\w\s-]", "", heading).strip().lower()
    return re.sub(r"[-\s]+", "-", plain)
