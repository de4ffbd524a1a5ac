"""Text of a csv: its encoding, its separator, and its records."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from ..runtime.warning import SparringWarning
from .content import shorten

SEPARATORS = (",", ";", "\t")
SAMPLE = 100_000, 20  # letters and records by which the separator is chosen
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
DECIMAL_COMMA = re.compile(r"\s*[+-]?(\d*,\d+|\d+,)([eE][+-]?\d+)?\s*", re.ASCII)
FLAGS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
BYTE_ORDER_MARKS = {  # the longer first: UTF-16's begins UTF-32's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}


def decode(path: Path, content: bytes) -> str:
    """Return the text of a file: UTF-8, UTF-16 or -32 with a byte order mark, else Latin-1.

    Raises:
        ValueError: for NUL bytes, as in UTF-16 without a mark or a binary file.
    """
    marks = (e for mark, e in BYTE_ORDER_MARKS.items() if content.startswith(mark))
    encoding = next(marks, None)
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding is not None:
            what = f"its encoding, {encoding}, is damaged ({error.reason})"
            raise ValueError(f"{path.name} is no text: {what}; save it as UTF-8") from None
        text = content.decode("latin-1")
        if "\0" not in text:
            what = "is not UTF-8 and is read as Latin-1: save it as UTF-8 if names look wrong"
            warnings.warn(f"{path.name} {what}", SparringWarning, stacklevel=2)
    if "\0" in text:
        what = "it has NUL bytes, as a binary file or an encoding without a byte order mark has"
        raise ValueError(f"{path.name} is no text: {what}; save it as a csv in UTF-8")
    return text


def records(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each record that is not blank, and the line where it ends.

    Raises:
        ValueError: for a cell longer than 131,072 letters.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield reader.line_num, cells
    except csv.Error as error:
        why = f"{error}; is a quote not closed?"
        raise ValueError(f"{path.name}, row {reader.line_num}: {why}") from None


def is_number(cell: str) -> bool:
    """Return whether a cell of a csv is a number.

    >>> is_number("-1e-3 "), is_number("1_000"), is_number("nan"), is_number("")
    (True, False, False, False)
    """
    return NUMBER.fullmatch(cell) is not None


def to_number(cell: str, separator: str = ",") -> float:
    """Return a feature's cell as a number; yes and true are 1, no and false 0.

    Arguments:
        separator: of the file; unless it is the comma, a comma may be the decimal point.

    Raises:
        ValueError: for another word; the message quotes it.

    >>> to_number("True"), to_number("1,5", ";")
    (1.0, 1.5)
    """
    if (flag := FLAGS.get(cell.strip().lower())) is not None:
        return flag
    if separator != "," and DECIMAL_COMMA.fullmatch(cell):
        cell = cell.replace(",", ".")
    try:
        if "_" not in cell:  # Python reads 1_000 as 1000; in data it is a name
            return float(cell)
    except ValueError:
        pass
    raise ValueError(shorten(cell))


def find_separator(path: Path, text: str) -> str:
    """Return the separator, comma, semicolon or tab, that gives the first records most numbers.

    >>> find_separator(Path("t.csv"), "a;b;label\\n1,5;2,5;x")
    ';'
    """

    letters, count = SAMPLE

    def score(separator: str) -> tuple[int, int]:
        try:
            sample = list(itertools.islice(records(path, text[:letters], separator), count))
        except ValueError:
            return -1, 0
        cells = [cell for _, record in sample if len(record) > 1 for cell in record]
        return sum(_reads(cell, separator) for cell in cells), len(cells)

    return max(SEPARATORS, key=score)


def _reads(cell: str, separator: str) -> bool:
    try:
        to_number(cell, separator)
    except ValueError:
        return False
    return True
