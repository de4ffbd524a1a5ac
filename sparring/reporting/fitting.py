"""Tables that fit the terminal: one line per row, names whole, intervals left out before names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from ..runtime.text import printable

GAP = "  "
LONG_NAME, LEAST_NAME = 28, 8  # a longer name loses its middle before a column is left out


@dataclass(frozen=True)
class Head:
    """Describe a column.

    Arguments:
        left: justified to the left.
        name: its cells are names: a long one loses its middle, and only here.
        rank: columns of the highest rank are left out first; 0: never.
    """

    text: str
    left: bool = False
    name: bool = False
    rank: int = 0


@dataclass(frozen=True)
class Cell:
    """Hold a text, its shorter form for a narrow terminal, and its style."""

    text: str
    short: str | None = None
    style: str = ""

    def form(self, short: bool) -> str:
        """Return one of the two forms."""
        return printable(self.text if not short or self.short is None else self.short, None)


@dataclass
class FittingTable:
    """Show rows of cells under heads, in the widest of several forms that fits.

    In turn it leaves out columns, then the long forms of cells; last it puts the name on a line of
    its own. It leaves out columns that are empty in every row.
    """

    heads: Sequence[Head]
    rows: Sequence[Sequence[Cell]]
    title: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.lines(options.max_width)

    def lines(self, width: int) -> list[Text]:
        """Return title, heads and rows as lines of at most `width` columns."""
        title = wrapped(self.title, width, style="bold") if self.title else []
        used = [k for k in range(len(self.heads)) if any(row[k].text for row in self.rows)]
        for short in (False, True):
            for columns in self._choices(used):
                widths = self._widths(columns, short, width)
                if sum(widths) + len(GAP) * (len(widths) - 1) <= width:
                    return title + self._lines(columns, widths, short)
        return title + self._stacked(used, width)

    def _choices(self, columns: list[int]) -> list[list[int]]:
        """Return the columns, then fewer and fewer of them."""
        ranks = sorted({self.heads[k].rank for k in columns} - {0}, reverse=True)
        choices = [columns]
        for rank in ranks:
            choices.append([k for k in choices[-1] if self.heads[k].rank != rank])
        return choices

    def _widths(self, columns: Sequence[int], short: bool, width: int) -> list[int]:
        """Return the width of each column; those of names share the room that is left."""
        natural = [
            max(cell_len(text) for text in (self.heads[k].text, *self._column(k, short)))
            for k in columns
        ]
        names = [i for i, k in enumerate(columns) if self.heads[k].name]
        others = sum(w for i, w in enumerate(natural) if i not in names)
        room = width - others - len(GAP) * (len(columns) - 1)
        share = max(room // max(1, len(names)), LONG_NAME)
        return [min(w, share) if i in names else w for i, w in enumerate(natural)]

    def _column(self, k: int, short: bool) -> list[str]:
        return [row[k].form(short) for row in self.rows]

    def _lines(self, columns: Sequence[int], widths: Sequence[int], short: bool) -> list[Text]:
        heads = [Cell(self.heads[k].text, style="dim") for k in columns]
        out = [self._line(columns, widths, heads, short)] if any(h.text for h in heads) else []
        return out + [
            self._line(columns, widths, [row[k] for k in columns], short) for row in self.rows
        ]

    def _line(
        self, columns: Sequence[int], widths: Sequence[int], cells: Sequence[Cell], short: bool
    ) -> Text:
        parts = []
        for k, size, cell in zip(columns, widths, cells, strict=True):
            text = cell.form(short)
            text = printable(text, size) if cell_len(text) > size else text
            pad = " " * (size - cell_len(text))
            text = text + pad if self.heads[k].left else pad + text
            parts.append(Text(text, cell.style))
        return one_line(Text(GAP).join(parts))

    def _stacked(self, columns: Sequence[int], width: int) -> list[Text]:
        """Return each row as its names, a line each, and its other cells below them."""
        names = [k for k in columns if self.heads[k].name]
        others = [k for k in columns if not self.heads[k].name]
        out = []
        for row in self.rows:
            titles = [Text(printable(row[k].text, width), row[k].style) for k in names]
            parts = []
            for k in others:
                head = Text(f"{self.heads[k].text} " if self.heads[k].text else "", "dim")
                parts.append(Text.assemble(head, (row[k].form(True), row[k].style)))
            out += [one_line(line) for line in titles if line]
            out += joined([p for k, p in zip(others, parts, strict=True) if row[k].text], width)
        return out


@dataclass
class Paragraph:
    """Show a text in lines that fit, broken at spaces."""

    text: str
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from wrapped(self.text, options.max_width, style=self.style)


def one_line(text: Text) -> Text:
    """Return a text that a terminal shows on one line, without spaces at its end."""
    text.rstrip()
    text.no_wrap, text.overflow = True, "crop"
    return text


def joined(parts: Sequence[Text], width: int, *, gap: str = GAP, indent: int = 2) -> list[Text]:
    """Return parts in lines, broken between two parts only.

    >>> [line.plain for line in joined([Text("clean 99"), Text("eps 0.1 88")], 16)]
    ['  clean 99', '  eps 0.1 88']
    """
    rows: list[Text] = []
    for part in parts:
        if rows and cell_len(rows[-1].plain + gap + part.plain) <= width:
            rows[-1] = Text.assemble(rows[-1], gap, part)
        else:
            rows.append(Text.assemble(" " * indent, part))
    return [one_line(row) for row in rows]


def wrapped(text: str, width: int, *, style: str = "", indent: int = 0) -> list[Text]:
    """Return a text in lines of at most `width` columns, broken at spaces, further ones indented.

    >>> [line.plain for line in wrapped("robust accuracy at eps 0.1", 20)]
    ['robust accuracy at', '  eps 0.1']
    """
    words = [printable(word, max(LEAST_NAME, width - indent - 2)) for word in text.split()]
    rows: list[str] = []
    for word in words:
        if rows and cell_len(f"{rows[-1]} {word}") <= width:
            rows[-1] += f" {word}"
        else:
            rows.append(" " * (indent + 2 * bool(rows)) + word)
    return [one_line(Text(row, style)) for row in rows]
