"""Print tables, errors in red, and our warnings without the file that raised them."""

from __future__ import annotations

import errno
import shlex
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.output import lines, write_line
from ..runtime.text import printable
from ..runtime.warning import SparringWarning

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

ERROR_LETTERS = 1000  # of a line; a path alone may have hundreds
PATH_LETTERS = 300
ERROR_LINES = 20
GATE_FAILED = 3  # the exit code of a result that fails the demands of a pipeline
FOREIGN_LINES = 3  # of an error that is none of ours, such as PyTorch's with its C++ stack
ISSUES = "please report it with the output of the same command and --debug"

MISTAKES = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
MISTAKES += (PermissionError,)
BAD_PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EROFS)

_format_warning = warnings.formatwarning


class Escaped:
    """Table or text whose letters a terminal shows, and obeys none of: colours are ours alone."""

    def __init__(self, content: RenderableType) -> None:
        self.content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for text, style, control in console.render(self.content, options):
            yield Segment(text if control else lines(text), style, control)


def console(*, error: bool = False) -> Console:
    """Return the console for tables, or for errors."""
    from rich.console import Console

    return Console(stderr=error)


def show(content: RenderableType) -> None:
    """Print a table, with escapes for what a terminal would obey in the texts of a result."""
    console().print(Escaped(content))


def closing(written: Sequence[str | Path], next_command: Sequence[str | Path] = ()) -> None:
    """Print the last lines of a command: the files it wrote, and the command to type next.

    Where stdout is no terminal, each path stands alone on its line and the command is left out: a
    script reads the last line as a path.

    Arguments:
        next_command: its words, as `["sparring", "report", folder]`; those with spaces are quoted.
    """
    from rich.text import Text

    shown = console()
    if not shown.is_terminal:
        for path in written:
            write_line(path)
        return
    rows = [("written", shell_text([path])) for path in written]
    rows += [("next", shell_text(next_command))] if next_command else []
    for label, text in rows:
        line = Text.assemble((f"{label:<7}", "dim"), "  ", printable(text, None))
        shown.print(line, soft_wrap=True)  # a path that the terminal wraps is copied whole


def shell_text(words: Sequence[str | Path]) -> str:
    """Return a command, or a path, as it is typed into a shell.

    >>> shell_text(["sparring", "report", "runs/digits-mart"])
    'sparring report runs/digits-mart'
    """
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if sys.platform == "win32" else shlex.join(texts)


def is_mistake(error: BaseException) -> bool:
    """Return whether the caller is at fault, and another call would help."""
    bad_path = isinstance(error, OSError) and error.errno in BAD_PATHS
    return bad_path or (isinstance(error, MISTAKES) and not isinstance(error, ArithmeticError))


def explain(error: BaseException, mistake: bool) -> None:
    """Print one red message; unless the caller is at fault, say how to see more."""
    from rich.text import Text

    name, text = type(error).__name__, str(error)
    if isinstance(error, AssertionError):
        text = f"internal error{f' ({text})' if text else ''}: {ISSUES}"
    elif isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.strerror}: {printable(error.filename, PATH_LETTERS)}"
    elif isinstance(error, MemoryError):
        text = text or "out of memory"
    elif isinstance(error, RecursionError):
        text = "something here is nested too deep"
    more = "" if mistake else f" ({name}; --debug shows where)"
    most = ERROR_LINES if mistake else FOREIGN_LINES
    message = lines((text or name).strip(), limit=ERROR_LETTERS, most=most)
    output = console(error=True)
    # A file or a pipe gets whole lines, to search in; a terminal gets lines broken between words.
    output.print(
        Text("Error: ", "bold red") + Text(f"{message}{more}", "red"),
        soft_wrap=not output.is_terminal,
    )


def explain_gate(failure: str) -> None:
    """Print why a result fails the demands of a pipeline."""
    from rich.text import Text

    output = console(error=True)
    text = Text("Gate: ", "bold red") + Text(printable(failure, ERROR_LETTERS), "red")
    output.print(text, soft_wrap=not output.is_terminal)


def format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Format a `SparringWarning` as one line, and other warnings as Python does."""
    if issubclass(category, SparringWarning):
        return f"Note: {printable(message, ERROR_LETTERS)}\n"
    return _format_warning(message, category, filename, lineno, line)
