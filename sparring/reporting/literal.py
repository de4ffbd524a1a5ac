"""Tables whose cells are shown as they are: a name as "[bold]" is no markup."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text


class LiteralTable(Table):
    """Table of rich that takes no text for markup, since names come from a stranger's files.

    >>> table = LiteralTable()
    >>> table.add_column("[bold]")
    >>> table.columns[0].header
    <text '[bold]' [] ''>
    """

    def add_column(self, header: RenderableType = "", *rest: Any, **options: Any) -> None:
        super().add_column(_literal(header), *rest, **options)

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*map(_literal, cells), **options)


def _literal(cell: Any) -> Any:
    return Text(cell) if isinstance(cell, str) else cell
