"""Print what the terminal can show: on any code page, and never as a command to it."""

from __future__ import annotations

import codecs
import contextlib
import io
import sys
import unicodedata
from typing import Any

from .text import printable

HANDLER = "sparring-legible"
PLAIN = {
    "−": "-",
    "–": "-",
    "—": "-",
    "×": "x",
    "·": "*",
    "≤": "<=",
    "≥": ">=",
    "±": "+-",
    "…": "...",
    "→": "->",
    "∞": "inf",
    "✓": "yes",
    "█": "#",
    "━": "=",
    "╸": "-",
    "╺": "-",
    "─": "-",
    "│": "|",
    "┃": "|",
    "•": "*",
    "“": '"',
    "”": '"',
    "’": "'",
    "ε": "eps",
    "λ": "lambda",
    "ρ": "rho",
    "θ": "theta",
}


def _legible(error: UnicodeError) -> tuple[str, int]:
    """Replace the letters that an encoding lacks: by similar ones, or a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    out = ""
    for letter in error.object[error.start : error.end]:
        similar = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
        out += PLAIN.get(letter) or similar or "?"
    return out, error.end


codecs.register_error(HANDLER, _legible)


def make_legible(*streams: Any) -> None:
    """Let streams, default stdout and stderr, replace letters that their encoding lacks.

    An ASCII terminal, or output redirected under Windows (cp1252), would end the program instead.
    """
    for stream in streams or (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != HANDLER:
            with contextlib.suppress(ValueError, OSError):  # closed
                stream.reconfigure(errors=HANDLER)


def lines(text: object, *, limit: int | None = None, most: int | None = None) -> str:
    r"""Return text whose line breaks count, each line as `printable`.

    Arguments:
        limit: letters of a line.
        most: lines; the others are counted.

    >>> lines("a\x1b[2J\nb")
    'a\\x1b[2J\nb'
    """
    rows = str(text).split("\n")
    more = [] if most is None or len(rows) <= most else [f"… and {len(rows) - most} more lines"]
    return "\n".join([*(printable(row, limit) for row in rows[:most]), *more])


def write_line(text: object) -> None:
    """Print text on stdout, at once, with escapes for what a terminal would obey."""
    make_legible(sys.stdout)
    print(lines(text), flush=True)
