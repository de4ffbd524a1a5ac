"""TOML with its bytes cut, or with junk in them."""

from __future__ import annotations

import tomllib

from hypothesis import strategies as st

JUNK = [
    *(b"", b"\x00" * 20, b"\xff\xfe", b"\x1b[2J", b"\xed\xa0\x80", b"<!doctype html>", b"= = ="),
    *(b"[" * 3000, b"{a = " * 3000, b"x = " + b"[" * 20_000, b"a." * 5000 + b"a = 1\n"),
    *(
        b"\n[[[",
        b"\nkey = 1e999\n",
        b"\nkey = " + b"9" * 5000 + b"\n",
        b'"""',
        b"\n[no.such]\na = 1\n",
    ),
    *(b"\nx = " + b'"' + b"y" * 100_000 + b'"\n', b"\ntrain = 3\n", b"\n[train]\n[train]\n"),
]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw content that ends early, or that has junk in place of some of its bytes."""
    cut = draw(st.integers(0, len(content)))
    rest = draw(st.sampled_from([len(content), cut, cut + 1, cut + 40]))
    return content[:cut] + draw(st.sampled_from(JUNK)) + content[rest:]


def is_shorter_or_changed(content: bytes, good: bytes) -> bool:
    """Return whether damage has left a good text: good lines alone, or other values in them.

    Such a text is whole TOML. What it says is judged by the tests of values.
    """
    try:
        tables = tomllib.loads(content.decode())
    except ValueError:
        return False
    return _keys(tables) <= _keys(tomllib.loads(good.decode()))


def _keys(tables: object, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if not isinstance(tables, dict):
        return {path}
    return {path}.union(*(_keys(value, (*path, key)) for key, value in tables.items()))
