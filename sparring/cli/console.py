"""How the command line speaks: tables, errors in red, notices without the file they come from."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ..runtime.warning import SparringWarning

if TYPE_CHECKING:
    from rich.console import Console

_line = warnings.formatwarning


def console(*, error: bool = False) -> Console:
    """Where tables go, or messages of errors."""
    from rich.console import Console

    return Console(stderr=error)


def explain(error: Exception, mistake: bool) -> None:
    """One red message; for what is not the caller's mistake also how to see more."""
    from rich.text import Text

    more = "" if mistake else f" ({type(error).__name__}; --debug shows where)"
    said = str(error) or type(error).__name__
    console(error=True).print(
        Text("Error: ", "bold red") + Text(f"{said}{more}", "red"), soft_wrap=True
    )


def plain(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """A `SparringWarning` as one line of its own; other warnings as Python writes them."""
    if issubclass(category, SparringWarning):
        return f"Note: {message}\n"
    return _line(message, category, filename, lineno, line)
