"""Read a csv: features that are numbers, and a column of labels."""

from __future__ import annotations

import re
import warnings
from array import array
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..runtime.text import printable
from ..runtime.warning import SparringWarning
from . import limits
from .content import read_bytes, shorten
from .csv_columns import Aside, column_number
from .csv_text import FLAGS, decode, find_separator, is_number, records, to_number

MISSING = {"", "?", "-", "na", "n/a", "#n/a", "nan", "null", "none"}
MISSING_LABELS = MISSING - {"-", "none"}  # which may be the name of a class
LABEL_NAMES = {"label", "labels", "class", "classes", "target"}
MANY = 20  # classes from which on numbers that look measured are no labels

Record = tuple[int, list[str]]


class Csv(NamedTuple):
    """Hold what a csv has: features float32 `(n, d)`, labels `(n,)`, class and feature names.

    Arguments:
        notes: sentences on the columns that are no features.
        time: of each row `(n,)`, where a column of times was named.
    """

    x: np.ndarray
    y: np.ndarray
    classes: list[str]
    features: list[str]
    notes: tuple[str, ...] = ()
    time: np.ndarray | None = None


def csv(
    path: Path,
    label: str | None = None,
    *,
    drop: str | Sequence[str] | None = None,
    time: str | None = None,
) -> Csv:
    """Read a csv or csv.gz.

    Commas, semicolons or tabs separate the cells; beside the latter two, decimal commas are read.
    A column called `id`, `sha256`, `file name` or the like, with another cell in each row, is
    dropped, and a note says so.

    Arguments:
        label: the column of labels by its name in the header; default: the last one that is not
            dropped. A first row of numbers, perhaps with a label that comes again, is data, not a
            header.
        drop: columns to leave out, by name.
        time: a column of times, numbers or ISO dates: no feature.

    Raises:
        ValueError: for no rows, a row of another length, an unknown column, a row without label, a
            cell of no finite number, a time that is none, or labels that look like measurements.
    """
    options: dict[str, Any] = {
        "drop": [drop] if isinstance(drop, str) else [*(drop or ())],
        "time": time,
    }
    whole = _read(path, label, **options, ids=True)
    whole = _read(path, label, **options, ids=False) if whole is None else whole
    assert whole is not None
    return whole


def _read(
    path: Path, label: str | None, *, drop: list[str], time: str | None, ids: bool
) -> Csv | None:
    """Read a csv as `csv`; return None if a column that should name the rows does not."""
    text = decode(path, read_bytes(path))
    separator = find_separator(path, text)
    rows = records(path, text, separator)
    line, first = next(rows, (0, []))
    limits.check_features(path.name, len(first))
    header = [name.strip() for name in first]
    if not {label, time, *drop} & {*header} and _is_data(first):
        header = []
    column = _label_column(path, header, label, len(first), without={*drop, time})
    aside = Aside(path, header, len(first), column, drop=drop, time=time, ids=ids)
    table = _Table(path, separator, header, aside, len(first))
    if not header:
        table.append(line, list(first))
    for line, cells in rows:
        table.append(line, cells)
    if any("\n" in label for label in table.labels[-1:]) and text.count('"') % 2:
        raise ValueError(f"{path.name}, row {line}: a quote is not closed: the label has no end")
    if not header and _names_columns(path, first, table.labels):
        header = table.header = [name.strip() for name in first]
        table.drop_first()
    if not table.labels:
        raise ValueError(f"{path.name} has no rows of features and a label")
    # between two separators, perhaps in quotes; no \s, which would run on over blank lines
    point = rf'(^|[{separator}\r])[ "]*[+-]?\d*\.\d+([eE][+-]?\d+)?[ "]*([{separator}\r\n]|$)'
    if table.decimal_comma and re.search(point, text, re.MULTILINE):
        what = "decimal commas, and also decimal points: 1,234 may be either"
        raise ValueError(f"{path.name} has {what}; write all numbers alike")
    if aside.repeated_ids():
        return None
    x = table.features()
    y, names = encode(table.labels)
    limits.check_classes(path.name, len(names))
    _check_measured(path, header, column, label, names, len(y))
    features = [header[k] for k in aside.kept] if header else []
    _warn_of_names(path, features, header[column] if header else "", label, x)
    return Csv(x, y, names, features, aside.notes(), aside.moments())


def encode(labels: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Map labels as text to 0..k-1; return them and the class names: numbers in order, then words.

    Two spellings of a number are one class.

    >>> encode(["10", "9", "10", "9.0"])
    (array([1, 0, 1, 0]), ['9', '10'])
    """
    number: dict[str, int] = {}
    names: list[str] = []
    last = None
    for spelling in sorted(set(labels), key=_class_order):
        value = label_value(spelling)
        if value is None or value != last:
            names.append(spelling)
        number[spelling], last = len(names) - 1, value
    return np.array([number[label] for label in labels], dtype=np.int64), names


class _Table:
    """Features and labels of the records so far."""

    def __init__(
        self, path: Path, separator: str, header: list[str], aside: Aside, width: int
    ) -> None:
        self.path, self.separator, self.header = path, separator, header
        self.aside, self.width = aside, width
        self.labels: list[str] = []
        self.lines = array("q")
        self.numbers = array("f")  # as C does: to a double, then to a float
        self.decimal_comma = False

    def append(self, line: int, cells: list[str]) -> None:
        """Append a record, which ends in this line of the file."""
        if len(cells) != self.width:
            why = "; is a quote not closed?" if any("\n" in cell for cell in cells) else ""
            counts = f"{len(cells)} cells, the first has {self.width}{why}"
            raise ValueError(f"{self.path.name}, row {line}: {counts}")
        label = self.aside.take(line, cells)
        if label.lower() in MISSING_LABELS:
            what = f"the label{self._of(self.aside.label)} is {label or 'empty'}"
            raise ValueError(f"{self.path.name}, row {line}: {what}; fill it or drop the row")
        try:
            self.numbers.extend(self._convert(cells))
        except ValueError:
            self._refuse(line, cells)
        self.labels.append(label)
        self.lines.append(line)

    def drop_first(self) -> None:
        """Drop the first record, which was a header."""
        del self.labels[0], self.lines[0], self.numbers[: len(self.aside.kept)]
        self.aside.drop_first()

    def features(self) -> np.ndarray:
        """Return the features float32 `(n, d)`.

        Raises:
            ValueError: for NaN, an infinite value, or decimal commas beside decimal points.
        """
        width = len(self.aside.kept)
        x = np.frombuffer(self.numbers, np.float32).reshape(len(self.lines), width)
        if not np.isfinite(x).all():
            row, k = (int(index[0]) for index in np.nonzero(~np.isfinite(x)))
            value = "NaN" if np.isnan(x[row, k]) else "infinite, or beyond float32"
            where = f"row {self.lines[row]}{self._of(self.aside.kept[k], ', ')}"
            how = "fill such cells, or drop the row or the column"
            raise ValueError(f"{self.path.name}, {where}: a feature is {value}; {how}")
        return x

    def _convert(self, cells: list[str]) -> list[float]:
        """Return the numbers of a record; raise `ValueError` for a cell that is none."""
        try:
            if "_" not in "".join(cells):
                return [float(cell) for cell in cells]
        except ValueError:
            pass
        numbers = [to_number(cell, self.separator) for cell in cells]
        if not self.decimal_comma and any("," in cell for cell in cells):
            self.decimal_comma = True
        return numbers

    def _refuse(self, line: int, cells: list[str]) -> None:
        """Raise `ValueError` for the first cell that is no number."""
        for k, cell in enumerate(cells):
            try:
                to_number(cell, self.separator)
            except ValueError as error:
                column = self.aside.kept[k]
                where = f"{self.path.name}, row {line}{self._of(column, ', ')}"
                features = [self.header[c] for c in self.aside.kept] if self.header else []
                named = [n for n in features if n.lower() in LABEL_NAMES]
                how = "write words as numbers"
                if cell.strip().lower() in MISSING:
                    how = "fill missing cells, or drop the row or the column"
                elif self.header and (named or column == 0):
                    name = shorten((named or features)[0])
                    how = f"if it is the label, set label = {name}"
                elif self.header:
                    how += f", or set drop = {shorten(self.header[column])}"
                raise ValueError(f"{where}: a feature is not a number: {error}; {how}") from None

    def _of(self, column: int, before: str = " in ") -> str:
        """Return words for a column: its name, or its number."""
        name = self.header[column] if self.header else ""
        return f"{before}column {shorten(name) if name else column + 1}"


def _is_data(first: list[str]) -> bool:
    """Return whether a first record must be data: its features are numbers, or missing."""
    features = [cell.strip().lower() for cell in first[:-1]]
    known = [cell for cell in features if is_number(cell) or cell in FLAGS]
    return bool(known) and all(cell in MISSING - {""} for cell in features if cell not in known)


def _names_columns(path: Path, first: list[str], labels: Sequence[str]) -> bool:
    """Return whether a first record of numbers and a label is a header after all.

    Raises:
        ValueError: if it may be either: no other row has its label, a word.
    """
    if labels[0] in labels[1:]:
        return False
    cells, counted = [cell.strip() for cell in first], [str(k) for k in range(len(first))]
    if is_number(labels[0]):
        return cells == counted and len(first) > 2
    if labels[0].lower() in LABEL_NAMES or cells[:-1] == counted[:-1]:
        return True
    word = shorten(labels[0])
    how = f"set label = {word} if it is a header; else add one, or drop the row"
    raise ValueError(f"{path.name}, row 1: no other row has its label, {word}: {how}")


def _label_column(
    path: Path,
    header: list[str],
    label: str | None,
    width: int,
    *,
    without: Container[str | None],
) -> int:
    """Return the number of the label's column: by name, or the last that is not left out."""
    if label is not None and label not in header:
        return column_number(path, header, "label", label)  # which raises
    if width < 2:
        what = "no rows of features and a label"
        seen = ": one column, where , ; or a tab separate them" if width else ": it is empty"
        raise ValueError(f"{path.name} has {what}{seen}")
    if not header:
        return width - 1
    left = [k for k, name in enumerate(header) if name not in without]
    column = header.index(label) if label is not None else (left or [width - 1])[-1]
    return column if not header[column] else column_number(path, header, "label", header[column])


def _check_measured(
    path: Path, header: list[str], column: int, label: str | None, names: list[str], rows: int
) -> None:
    """Raise `ValueError` if the labels look like measurements; only warn if the user named them."""
    fractions = [n for n in names if is_number(n) and not float(n).is_integer()]
    if len(names) <= MANY or not (fractions or len(names) > rows / 2):
        return
    example = f", such as {shorten(fractions[0])}" if fractions else ""
    which = f"column {shorten(header[column])}" if header else "the last column"
    what = f"{path.name}: {which} as the label makes {len(names)} classes of {rows} rows{example}"
    if label is not None:
        warnings.warn(f"{what}: measurements are no classes", SparringWarning, stacklevel=3)
        return
    has = f" (columns: {', '.join(printable(name[:40]) for name in header[:12])})" if header else ""
    raise ValueError(f"{what}: name the label's column by label = '…'{has}")


def _warn_of_names(
    path: Path, others: list[str], last: str, label: str | None, x: np.ndarray
) -> None:
    """Warn of columns that are probably not what the file's reader takes them for.

    Arguments:
        others: the names of the features.
        last: the name of the label's column.
    """
    notes = []
    named = [name for name in others if name.lower() in LABEL_NAMES]
    if label is None and named and last.lower() not in LABEL_NAMES:
        which = f"column {shorten(named[0])} is read as a feature, the last one as the label"
        notes.append(f"{which}; label = {shorten(named[0])} names it")
    repeated = [name for name, n in Counter(filter(None, others)).items() if n > 1]
    if repeated:
        notes.append(f"several columns are called {shorten(repeated[0])}")
    unnamed = bool(others) and others[0].lower() in ("", "unnamed: 0") and len(x) > 2
    if unnamed and np.array_equal(x[:, 0], np.arange(len(x), dtype=np.float32) + x[0, 0]):
        notes.append("the first column counts the rows: an index is no feature")
    for note in notes:
        warnings.warn(f"{path.name}: {note}", SparringWarning, stacklevel=3)


def label_value(spelling: str) -> int | float | None:
    """Return the number that a label spells, or None for a word.

    >>> label_value("1.0"), label_value("spam")
    (1.0, None)
    """
    if not is_number(spelling):
        return None
    try:
        return int(spelling)  # exact: two long numbers may be one float
    except ValueError:
        return float(spelling)


def _class_order(name: str) -> tuple[bool, float, str]:
    try:
        return (False, float(name), name)
    except ValueError:
        return (True, 0.0, name)
