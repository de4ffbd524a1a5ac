"""The page of commands: every option with its default and its help, read from the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from sparring.cli.main import app
from sparring.commands import list as listing

from .markdown import cell, code, literal, table

PAGE = "reference/commands.md"
HEADER = ("option", "value", "default", "meaning")
TYPES = {int: "INTEGER", float: "NUMBER", Path: "PATH"}
INTRO = """# Commands

After this page you know every option of the command line. `sparring COMMAND --help` prints them.

"""


def pages(root: Path) -> dict[str, str]:
    """Return the page of commands by its path in the site."""
    group: Any = typer.main.get_command(app)
    shown = {name: command for name, command in group.commands.items() if not command.hidden}
    overview = table(
        ("command", "what it does"),
        ([f"[`{name}`](#{name})", _line(command.help)] for name, command in shown.items()),
    )
    everywhere = table(HEADER, map(_row, group.params))
    sections = [_section(name, command) for name, command in shown.items()]
    parts = [overview, f"Before the command:\n\n{everywhere}", *sections]
    return {PAGE: INTRO + "\n".join(parts)}


def _section(name: str, command: Any) -> str:
    taken = [p for p in command.params if not p.hidden]
    words = [_argument(p) for p in taken if not _is_option(p)]
    options = ["[OPTIONS]"] if any(map(_is_option, taken)) else []
    usage = " ".join(["sparring", name, *words, *options])
    text = literal((command.help or "").replace("<", "&lt;"))
    kinds = f"\nKinds: {', '.join(map(code, listing.kinds()))}.\n" if name == "list" else ""
    return f"## {name}\n\n{text}\n\n    {usage}\n{kinds}\n{table(HEADER, map(_row, taken))}"


def _row(parameter: Any) -> list[str]:
    names = parameter.opts if _is_option(parameter) else [_argument(parameter)]
    meaning, default = _split_default(parameter.help or "")
    return [
        ", ".join(map(code, names)),
        code(_value(parameter)),
        _line(default) or _default(parameter),
        _line(meaning),
    ]


def _split_default(text: str) -> tuple[str, str]:
    """Return a help text without its "(default: …)", and what stands there.

    >>> _split_default("Split: test or val (default: test). Once.")
    ('Split: test or val. Once.', 'test')
    """
    words = re.search(r"(?: \(|; )default: ([^)]*)\)", text)
    if not words:
        return text, ""
    closing = ")" if words[0].startswith(";") else ""
    return text.replace(words[0], closing), words[1]


def _default(parameter: Any) -> str:
    default = parameter.default
    if parameter.required:
        return "required"
    if default in (None, False, [], ()):
        return "–"
    return code(" ".join(map(str, default)) if isinstance(default, list) else default)


def _value(parameter: Any) -> str:
    """Return the placeholder of an option's value, or its type; "" for a flag."""
    if getattr(parameter, "is_flag", False) or not _is_option(parameter):
        return ""
    kind = parameter.type_descriptor.annotation
    inner = getattr(kind, "__args__", (kind,))[0]
    return parameter.metavar or TYPES.get(inner, "TEXT")


def _argument(parameter: Any) -> str:
    return parameter.metavar or parameter.name.upper()


def _is_option(parameter: Any) -> bool:
    return parameter.opts[0].startswith("-")


def _line(text: str | None) -> str:
    return literal(cell(text or ""))
