"""Print tables, errors in red, and our warnings without the file that raised them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ..runtime.warning import SparringWarning

if TYPE_CHECKING:
    from rich.console import Console

_format_warning = warnings.formatwarning


def console(*, error: bool = False) -> Console:
    """Return the console for tables, or for errors."""
    from rich.console import Console

    return Console(stderr=error)


def explain(error: Exception, mistake: bool) -> None:
    """Print one red message; unless the caller is at fault, say how to see more."""
    from rich.text import Text

    more = "" if mistake else f" ({type(error).__name__}; --debug shows where)"
    message = str(error) or type(error).__name__
    console(error=True).print(
        Text("Error: ", "bold red") + Text(f"{message}{more}", "red"), soft_wrap=True
    )


def format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Format a `SparringWarning` as one line, and other warnings as Python does."""
    if issubclass(category, SparringWarning):
        return f"Note: {message}\n"
    return _format_warning(message, category, filename, lineno, line)
