"""The page and the table of attacked pictures; names from strangers stay text."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from rich.console import Console

from sparring.reporting import pictures_page, pictures_table
from sparring.results.attacked_pictures import (
    Answer,
    AttackedPicture,
    AttackedPictures,
    CurvePoint,
    Survival,
)

EVIL = "<script>alert(1)</script>"


def record(count: int = 3) -> AttackedPictures:
    pictures, pixels = [], []
    for i in range(count):
        before, after = Answer("cat", 0, 0.9), Answer(EVIL, 1, 0.6)
        broken, already = i == 0, i == 2
        pictures.append(
            AttackedPicture(
                *(f"{EVIL}{i}", f"{EVIL}{i}.png", [f"note {EVIL}"], "cat", False, None),
                *(before, after, already, broken or already, broken or already),
                *(8 / 255, 8, "apgd", 1.5),
                [Survival("PNG", before, after, True), Survival("JPEG 75", before, before, False)],
                [CurvePoint(0.0, 0.9, 0.1, False), CurvePoint(8 / 255, 0.2, 0.6, True)],
            )
        )
        pixels.append((np.full((3, 8, 8), 100, np.uint8), np.full((3, 8, 8), 108, np.uint8)))
    about = (EVIL, "Linf", 8 / 255, "apgd", [3, 8, 8], ["JPEG 75"], 0.0, 0, "cpu", {}, "")
    return AttackedPictures(*about, pictures, pixels=pixels)


def test_the_page_is_whole_and_shows_strangers_names_as_text(tmp_path: Path):
    path = pictures_page(record(), tmp_path / "page.html")
    text = path.read_text()
    assert EVIL not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;0" in text
    assert text.count("<img ") == 3 + 3 + 1  # a picture that was wrong already is shown once
    assert text.count('<svg class="chart"') == 2
    assert "1 of 1" in text
    assert "0 of 1" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_the_table_fits_any_terminal():
    for width in (40, 80, 120):
        console = Console(width=width, file=io.StringIO())
        with console.capture() as captured:
            console.print(pictures_table(record()))
        lines = captured.get().splitlines()
        assert max(map(len, lines)) <= width
        text = " ".join(" ".join(lines).split())
        assert "broke 1 of 2 pictures" in text
        assert "1 of 1" in text


def test_without_a_picture_that_was_right_there_is_no_survival():
    nothing = record()
    nothing.pictures, nothing.pixels = nothing.pictures[2:], nothing.pixels[2:]
    assert nothing.survival() == []
    console = Console(width=80, file=io.StringIO())
    with console.capture() as captured:
        console.print(pictures_table(nothing))
    assert "no picture was attacked" in captured.get()
