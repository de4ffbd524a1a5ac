"""Text of a file is shown on a terminal, never obeyed."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from sparring.runtime.text import printable

OBEYED = {  # by a terminal, an editor or a log
    "clear the screen": "\x1b[2J",
    "title": "\x1b]0;owned\x07",
    "C1 control": "\x9b31m",
    "line": "a\nok",
    "return": "a\rb",
    "delete": "a\x7f",
    "bidi override": "\u202egnp.exe",
    "bidi isolate": "\u2066a\u2069",
    "invisible": "a\u200bb\ufeff",
    "line separator": "a\u2028b\x85c",
    "half a pair": "\ud800",
    "undecodable byte": b"\xff".decode("utf-8", "surrogateescape"),
    "nul": "a\x00b",
}


@pytest.mark.parametrize("text", OBEYED.values(), ids=OBEYED)
def test_nothing_that_a_terminal_obeys_is_left(text):
    shown = printable(text)
    assert shown.isprintable()
    assert "\\" in shown
    shown.encode()  # a terminal can encode it


def test_every_character_is_shown_as_one_printable_text():
    for code in range(0, sys.maxunicode + 1, 7):
        assert printable(chr(code)).isprintable()
    assert all(printable(c) == c for c in "aé→ß漢字🙂\\'\" ")
    assert unicodedata.category("\u202e") == "Cf"
    assert printable("\u202e") == "\\u202e"


@pytest.mark.parametrize("limit", [1, 2, 9, 10, 200])
def test_a_long_text_loses_its_middle(limit):
    text = "a" * 1000 + "\x1b" * 1000 + "z" * 1000
    shown = printable(text, limit)
    assert len(shown) == limit
    assert "…" in shown
    assert shown.isprintable()
    assert limit < 3 or (shown[0], shown[-1]) == ("a", "z")
    assert printable("z" * limit, limit) == "z" * limit
    assert printable("z" * 5000, None) == "z" * 5000


def test_what_is_no_text_is_shown_as_text():
    assert printable(0.5) == "0.5"
    assert printable(["\x1b"]) == "['\\x1b']"
