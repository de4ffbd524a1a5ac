"""The columns of a csv that are no features: label, times, names of rows, dropped ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ..runtime.text import printable
from .content import shorten
from .csv_text import is_number

# columns that name a row if no two rows share a cell; in lower case, without _ - . and spaces
ID_NAMES = {
    *("id", "uid", "uuid", "guid", "rowid", "sampleid", "appid", "apkid"),
    *("sha1", "sha256", "sha512", "md5", "hash", "filehash", "apkhash", "samplehash"),
    *("filename", "filepath", "apk", "apkname", "packagename"),
}
SHOWN = 12  # names of columns in a message


def is_id_name(name: str) -> bool:
    """Return whether a column of this name probably names the rows.

    >>> is_id_name("SHA-256"), is_id_name("File name"), is_id_name("READ_PHONE_STATE")
    (True, True, False)
    """
    return re.sub(r"[_\-. ]", "", name.lower()) in ID_NAMES


def column_number(path: Path, header: Sequence[str], key: str, name: str) -> int:
    """Return the number of a column of this name.

    Raises:
        ValueError: for a name that the header lacks, or has twice; it hints at the nearest.
    """
    if name not in header:
        has = ", ".join(printable(n[:40]) for n in header[:SHOWN])
        has += ", …" if len(header) > SHOWN else ""
        close = difflib.get_close_matches(name, header[:1000], n=1, cutoff=0.5)
        hint = f" (did you mean {shorten(close[0])}?)" if close else ""
        what = f"{key} = {shorten(name)} is not a column of {path.name}{hint}"
        raise ValueError(f"{what}; it has {has or 'no header'}")
    if name and header.count(name) > 1 and key != "drop":
        what = f"{header.count(name)} columns called {shorten(name)}, the {key}"
        raise ValueError(f"{path.name} has {what}: drop or rename all but one")
    return header.index(name)


class Aside:
    """Take the columns that are no features out of each record, and keep what they say.

    Arguments:
        label: the number of the label's column.
        drop, time: names of columns.
        ids: whether columns whose name says so are taken for names of rows.

    Attributes:
        kept: the numbers of the columns that are features.

    Raises:
        ValueError: for a column that is not there, or is named twice.
    """

    def __init__(
        self,
        path: Path,
        header: Sequence[str],
        width: int,
        label: int,
        *,
        drop: Sequence[str] = (),
        time: str | None = None,
        ids: bool = True,
    ) -> None:
        self.path, self.header, self.label, self.drop = path, header, label, list(drop)
        numbers = [column_number(path, header, "drop", name) for name in drop]
        dropped = {k for k, name in enumerate(header) if name in self.drop}
        self.time = None if time is None else column_number(path, header, "time", time)
        for key, taken in (("drop", [label, self.time]), ("time", [label])):
            for k in numbers if key == "drop" else [self.time]:
                if k is not None and k in taken:
                    role = "label" if k == label else "time"
                    raise ValueError(f"{key} = {shorten(header[k])} is the column of the {role}")
        taken = {label, self.time, *dropped}
        named = [k for k, name in enumerate(header) if is_id_name(name) and k not in taken]
        self.ids: dict[int, list[str]] = {k: [] for k in named} if ids else {}
        self.times: list[float] = []
        others = {label, *dropped, *self.ids} | ({self.time} if self.time is not None else set())
        # the last first: taking one out then leaves the numbers of the others
        self.order = sorted(others, reverse=True)
        self.kept = [k for k in range(width) if k not in others]

    def take(self, line: int, cells: list[str]) -> str:
        """Take the columns out of a record that ends in this line; return the label's cell."""
        label = ""
        for k in self.order:
            cell = cells.pop(k).strip()
            if k == self.label:
                label = cell
            elif k == self.time:
                self.times.append(self._moment(line, cell))
            elif k in self.ids:
                self.ids[k].append(cell)
        return label

    def drop_first(self) -> None:
        """Forget the first record."""
        for cells in (*self.ids.values(), self.times):
            del cells[:1]

    def repeated_ids(self) -> bool:
        """Return whether a column that should name the rows has the same cell twice: it is none."""
        return any(len(set(cells)) < len(cells) for cells in self.ids.values())

    def notes(self) -> tuple[str, ...]:
        """Return sentences on the columns that were left out."""
        notes = [f"column {shorten(self.header[k])} dropped: it names the rows" for k in self.ids]
        if self.drop:
            shown = ", ".join(shorten(name) for name in self.drop[:SHOWN])
            more = f" and {len(self.drop) - SHOWN} more" if len(self.drop) > SHOWN else ""
            notes.append(f"dropped as asked: {shown}{more}")
        return tuple(notes)

    def moments(self) -> np.ndarray | None:
        """Return the time of each row `(n,)`, if a column has it."""
        return None if self.time is None else np.array(self.times, np.float64)

    def _moment(self, line: int, cell: str) -> float:
        """Return a time as a number: as it is, or an ISO date in seconds since 1970."""
        if is_number(cell):
            # 20190503 is a number and a date: either way it is ordered alike
            return float(cell)
        try:
            moment = datetime.fromisoformat(cell)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return moment.timestamp()
        except (ValueError, OverflowError):
            column = shorten(self.header[self.time or 0])
            raise ValueError(
                f"{self.path.name}, row {line}, column {column}: the time is {shorten(cell)}: it "
                "must be a number or a date as 2019-05-31; fill it, or drop the row"
            ) from None
