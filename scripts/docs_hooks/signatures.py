"""Read the arguments of what a recipe builds: type, default, and meaning in the docstring."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

ENTRY = re.compile(r"(?P<names>\w+(?:, \w+)*): (?P<text>.*)")


class Argument(NamedTuple):
    """One argument: its type and default as text, and the docstring's words on it."""

    name: str
    type: str
    default: str
    meaning: str


def described(make: Callable[..., Any], parameters: dict[str, inspect.Parameter]) -> list[Argument]:
    """Return arguments of a callable with the words of its docstring, or of those it follows."""
    words = meanings(make)
    return [
        Argument(name, type_text(p.annotation), default_text(p.default), words.get(name, ""))
        for name, p in parameters.items()
    ]


def meanings(make: Callable[..., Any]) -> dict[str, str]:
    """Return an argument's words by its name; "as in …" gives way to those words.

    >>> meanings(described)
    {}
    """
    words: dict[str, str] = {}
    for source in _sources(make):
        for name, text in entries(inspect.cleandoc(source.__doc__ or "")).items():
            if name not in words or words[name].startswith("as in "):
                words[name] = text
    return words


def entries(docstring: str) -> dict[str, str]:
    """Return the entries of a docstring's `Arguments:`, one per name.

    >>> entries("Do.\\n\\nArguments:\\n    a, b: of both,\\n        long.\\n\\nRaises:\\n    E: x.")
    {'a': 'of both, long.', 'b': 'of both, long.'}
    """
    section = re.search(r"^Arguments:\n((?:    .*\n?|\n)+)", docstring, re.MULTILINE)
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section[1].splitlines() if section else []:
        entry = ENTRY.fullmatch(line[4:])
        if entry:
            names = entry["names"].split(", ")
            found |= dict.fromkeys(names, entry["text"])
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def type_text(annotation: Any) -> str:
    """Return an annotation as a reader writes it.

    >>> type_text(float | None), type_text(typing.Annotated[str, "x"]), type_text(list[int])
    ('float', 'str', 'list[int]')
    """
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is inspect.Parameter.empty or annotation is Any:
        return ""
    if origin is typing.Annotated:
        return type_text(parts[0])
    if origin in (typing.Union, types.UnionType):
        texts = [type_text(p) for p in parts if p is not types.NoneType]
        return " | ".join(dict.fromkeys(t for t in texts if t))
    if origin is typing.Literal:
        return " | ".join(map(repr, parts))
    name = getattr(origin or annotation, "__name__", str(annotation))
    if name == "Callable":
        return "function"
    inner = [type_text(p) for p in parts if p is not ...]
    return f"{name}[{', '.join(inner)}]" if any(inner) else name


def default_text(default: Any) -> str:
    """Return a default as TOML has it; None is left out of a recipe: "–".

    >>> default_text(True), default_text(None), default_text(0.5), default_text(())
    ('true', '–', '0.5', '[]')
    """
    if default is inspect.Parameter.empty:
        return "required"
    if default is None:
        return "–"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple | list):
        return f"[{', '.join(map(default_text, default))}]"
    if isinstance(default, str):
        return f'"{default}"'
    return f"{default:g}" if isinstance(default, float) else str(default)


def _sources(make: Any) -> list[Any]:
    """Return what documents the arguments: the callable, its bases, the tables of its keywords."""
    call = getattr(make, "func", make)
    classes = [c for c in inspect.getmro(call) if c is not object] if inspect.isclass(call) else []
    inits = [vars(c)["__init__"] for c in classes if "__init__" in vars(c)]
    tables = [
        typing.get_args(hint)[0]
        for function in (inits or [call])
        for hint in _hints(function).values()
        if typing.get_origin(hint) is typing.Unpack
    ]
    returned = _hints(call).get("return") if not classes else None
    return [
        *(classes or [call]),
        *inits,
        *([returned] if inspect.isclass(returned) else []),
        *tables,
    ]


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}
