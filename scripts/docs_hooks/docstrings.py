"""Make docstrings Markdown: doctests become blocks, letters of formulas stay letters."""

from __future__ import annotations

import re

from .markdown import literal

DOCTEST = re.compile(r"(?:^>>> .*\n?(?:(?!>>>)\S.*\n?|    .*\n?)*)+", re.MULTILINE)
ENTRY = re.compile(r"    \w+:(?= )")
GROUP = re.compile(r"^    (?P<names>\w+(?:, \w+)+):(?P<words> .*(?:\n {8}.*)*)", re.MULTILINE)


def as_markdown(docstring: str) -> str:
    """Return a docstring whose prose is literal and whose doctests are code.

    >>> as_markdown("Return p_k.\\n\\n>>> 1 + 1\\n2")
    'Return p\\\\_k.\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```\\n'
    """
    parts, end = [], 0
    for block in DOCTEST.finditer(docstring):
        lines = re.sub(r"\s*# doctest:.*", "", block[0].rstrip())
        parts += [_prose(docstring[end : block.start()]), f"```pycon\n{lines}\n```\n"]
        end = block.end()
    return "".join([*parts, _prose(docstring[end:])])


def _prose(text: str) -> str:
    """Escape a text; a source begins its own paragraph, each argument its own entry."""
    text = re.sub(r"(?<!\n)\n(?=Source: )", "\n\n", text)
    return "\n".join(map(_line, GROUP.sub(_apart, text).split("\n")))


def _apart(group: re.Match[str]) -> str:
    """Return "a, b: words" as one entry for a and one for b."""
    return "\n".join(f"    {name}:{group['words']}" for name in group["names"].split(", "))


def _line(line: str) -> str:
    """Escape a line, but for the name of an entry at its start."""
    entry = ENTRY.match(line)
    name = entry[0] if entry else ""
    return name + literal(line[len(name) :]).replace("<", "&lt;").replace("|", "&#124;")
