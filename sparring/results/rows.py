"""A list of records that prints as a table: in a terminal, in a notebook, as a data frame."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from ..runtime.text import printable

T = TypeVar("T")
WIDTH = 100
GAP = "  "
NARROWEST = 12  # letters of a column that is cut short; below, each record becomes a block
HIDDEN = {"column": False}  # metadata of a field that tables leave out


class Rows(Sequence[T]):
    """Hold records of one dataclass; print them as a table.

    A field with the metadata `HIDDEN` is in the records and in the frame, but in no table.

    Arguments:
        records: instances of one dataclass.
        empty: the line that stands for no records.

    >>> @dataclasses.dataclass
    ... class Epoch:
    ...     number: int
    ...     robust: float | None
    >>> Rows([Epoch(1, 0.25), Epoch(10, None)])
    number  robust
         1    0.25
        10
    """

    def __init__(self, records: Sequence[T] = (), *, empty: str = "nothing to show") -> None:
        self._records, self.empty = list(records), empty

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Rows[T]: ...
    def __getitem__(self, index: int | slice) -> T | Rows[T]:
        if isinstance(index, slice):
            return Rows(self._records[index], empty=self.empty)
        return self._records[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._records)

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        """Return the table for a notebook, with every text escaped."""
        if not self._records:
            return f"<p>{html.escape(self.empty)}</p>"
        names = self._columns(self._cells())
        head = "".join(f'<th scope="col">{html.escape(_title(name))}</th>' for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(row[name])}</td>" for name in names) + "</tr>"
            for row in self._cells()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def text(self, width: int = WIDTH) -> str:
        """Return the table in lines of at most `width` letters.

        The widest columns are cut in their middle; the first one stays whole. Where that is not
        enough, each record is a block of lines.
        """
        cells = self._cells()
        names = self._columns(cells)
        if not names:
            return self.empty
        widths = _fitted(
            {n: max(len(_title(n)), *(len(r[n]) for r in cells)) for n in names}, width
        )
        if widths is None:
            return "\n".join(_block(row, names, width) for row in cells)
        right = {n for n in names if all(_is_number(getattr(r, n)) for r in self._records)}
        head = _line({n: _title(n) for n in names}, widths, right)
        return "\n".join([head, *(_line(row, widths, right) for row in cells)])

    def to_frame(self) -> Any:
        """Return the records as a pandas data frame, one column per field.

        Raises:
            ImportError: without pandas.
        """
        try:
            import pandas  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas") from error
        return pandas.DataFrame([_values(record) for record in self._records])

    def _cells(self) -> list[dict[str, str]]:
        return [
            {f.name: cell(getattr(r, f.name)) for f in _fields(r) if f.metadata != HIDDEN}
            for r in self._records
        ]

    def _columns(self, cells: Sequence[Mapping[str, str]]) -> list[str]:
        """Return the names of the columns in which any record has something."""
        names = cells[0] if cells else ()
        return [name for name in names if any(row[name] for row in cells)]


def cell(value: Any) -> str:
    """Return the text of a value in a table.

    >>> cell(0.12345), cell(None), cell(True), cell(["a", 2])
    ('0.1235', '', 'yes', 'a, 2')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    return printable(value)


def _values(record: Any) -> dict[str, Any]:
    """Return the fields of a record as values that a frame holds: paths are texts."""
    pairs = ((f.name, getattr(record, f.name)) for f in _fields(record))
    return {name: str(value) if isinstance(value, Path) else value for name, value in pairs}


def _fields(record: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(record)


def _title(name: str) -> str:
    return name.replace("_", " ")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _fitted(widths: Mapping[str, int], width: int) -> dict[str, int] | None:
    """Return widths whose sum fits, the widest columns but the first cut; None if none do."""
    fit, (_, *others) = dict(widths), list(widths)
    over = sum(fit.values()) + len(GAP) * len(others) - width
    for _ in range(max(0, over)):
        widest = max(others, key=lambda name: fit[name], default=None)
        if widest is None or fit[widest] <= NARROWEST:
            return None
        fit[widest] -= 1
    return fit


def _line(row: Mapping[str, str], widths: Mapping[str, int], right: set[str]) -> str:
    def padded(name: str) -> str:
        text, pad = printable(row[name], widths[name]), str.rjust if name in right else str.ljust
        return pad(text, widths[name])

    return GAP.join(map(padded, widths)).rstrip()


def _block(row: Mapping[str, str], names: Sequence[str], width: int) -> str:
    """Return a record as lines of their own: the first field, then the others indented."""
    others = [f"{GAP}{_title(name)} {row[name]}" for name in names[1:] if row[name]]
    lines = [row[names[0]], *others]
    return "\n".join(printable(line, max(width, NARROWEST)) for line in lines)
