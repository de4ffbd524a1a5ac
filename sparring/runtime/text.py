"""Show text of a stranger's file on a terminal: it is read, never carried out."""

from __future__ import annotations

LIMIT = 200  # letters: two or three lines of a terminal


def printable(text: object, limit: int | None = LIMIT) -> str:
    r"""Return text in one line, with an escape for each character that a terminal would obey.

    Escaped are control characters, line breaks, marks that reverse the direction of writing,
    invisible letters and broken Unicode. Letters of every alphabet stay.

    Arguments:
        limit: longer text loses its middle; None keeps it whole.

    >>> printable("caf\u00e9 \x1b[2J\n\u202egnp")
    'café \\x1b[2J\\n\\u202egnp'
    >>> printable("abcdefghijklmnop", limit=9)
    'abcd…mnop'
    """
    text = repr(text) if isinstance(text, bytes) else str(text)
    if limit is not None and len(text) > 2 * limit:  # first, since a text may have gigabytes
        text = text[:limit] + text[-limit:]
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if limit is None or len(shown) <= limit:
        return shown
    tail = (limit - 1) // 2
    return f"{shown[: limit - 1 - tail]}…{shown[len(shown) - tail :]}"
