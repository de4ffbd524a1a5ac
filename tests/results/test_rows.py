"""Lists of records: as text of any width, in a notebook, as a frame."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sparring.results.rows import HIDDEN, Rows


@dataclass
class Record:
    name: str
    epochs: int | None
    note: str = ""
    path: Path = field(default=Path("a"), metadata=HIDDEN)


ROWS = Rows([Record("digits-mart", 40), Record("b", None, "<b>no</b> \x1b[2J log")])


def test_the_text_is_aligned_and_obeyed_by_no_terminal():
    head, first, second = repr(ROWS).splitlines()
    assert head.split() == ["name", "epochs", "note"]
    assert first.split() == ["digits-mart", "40"]
    assert second.endswith(r"<b>no</b> \x1b[2J log")
    assert "path" not in head


def test_no_line_is_wider_than_the_terminal():
    rows = Rows([Record("r" * 20, k, "word " * 40) for k in range(3)])
    assert 50 < max(map(len, rows.text(60).splitlines())) <= 60
    blocks = rows.text(30).splitlines()
    assert blocks[0] == "r" * 20
    assert max(map(len, blocks)) <= 30
    assert max(map(len, Rows([Record("n" * 300, 1, "x")]).text(40).splitlines())) <= 40


def test_columns_without_anything_are_left_out():
    assert repr(Rows([Record("a", None)])) == "name\na"
    assert repr(Rows([], empty="no runs in runs")) == "no runs in runs"
    assert Rows([], empty="<none>")._repr_html_() == "<p>&lt;none&gt;</p>"


def test_the_notebook_s_table_escapes():
    page = ROWS._repr_html_()
    assert "&lt;b&gt;no" in page
    assert "<b>" not in page
    assert '<th scope="col">epochs</th>' in page


def test_it_is_a_sequence():
    assert len(ROWS) == 2
    assert ROWS[0].name == "digits-mart"
    assert [r.name for r in ROWS] == ["digits-mart", "b"]
    assert repr(ROWS[:1]).splitlines()[1].split() == ["digits-mart", "40"]


def test_a_frame_needs_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        ROWS.to_frame()
