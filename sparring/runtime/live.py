"""Keep one line of progress below what is printed: on a terminal, in a notebook, nowhere else."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from .output import lines
from .text import printable

# Columns that stay free at the right end: the terminal's own "^C" would wrap there, and the live
# line, a line higher than it was drawn, could not be erased.
FREE = 4
LEAST_BAR, GOOD_BAR = 8, 20
LEAST_TITLE = 12
GAP = "  "
BAR, ASCII_BAR = "━╸─", "==-"  # done, the cell that is half done, left
NOTEBOOK_SECONDS = 0.5  # between two updates
# JupyterLab gives a <pre> of HTML output the font of running text: columns would not stand.
FONT = "font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,inherit)"


@dataclass
class LiveLine:
    """Hold what the live line shows; it leaves out facts, then the title, then the bar.

    Arguments:
        count: what is done of how many, as "3/40".
        title: what runs now.
        facts: the most important first.
        done, left: share of the work, and seconds to its end; None: not known yet.
    """

    count: str = ""
    title: str = ""
    facts: Sequence[str] = ()
    done: float = 0.0
    left: float | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text(options.max_width, ASCII_BAR if options.ascii_only else BAR)

    def text(self, width: int, letters: str = BAR) -> Text:
        """Return the line, at most `width - FREE` columns; count and time left always stay."""
        percent, eta = f"{100 * self.done:3.0f} %", f"ETA {clock(self.left)}"
        room = width - FREE - cell_len(GAP.join((self.count, eta))) - len(GAP)
        title, facts = "", []
        if room >= LEAST_BAR + len(GAP) + len(percent):
            room -= len(GAP) + len(percent)
        else:
            percent = ""
        if self.title and room - len(GAP) - LEAST_TITLE >= LEAST_BAR:
            title = printable(self.title, min(60, room - len(GAP) - LEAST_BAR))
            room -= len(GAP) + cell_len(title)
        for fact in self.facts:
            if room - len(GAP) - cell_len(fact) < GOOD_BAR:
                break
            facts.append(fact)
            room -= len(GAP) + cell_len(fact)
        bar = Text("") if room < LEAST_BAR else _bar(self.done, room, letters)
        parts = (Text(self.count), Text(title), bar, Text(percent), *map(Text, facts), Text(eta))
        line = Text(GAP).join(part for part in parts if part)
        line.no_wrap, line.overflow = True, "crop"
        return line


def _bar(done: float, width: int, letters: str) -> Text:
    full, half = divmod(int(2 * width * min(1.0, max(0.0, done))), 2)
    filled = letters[0] * full + letters[1] * half
    return Text.assemble((filled, "cyan"), (letters[2] * (width - full - half), "dim"))


def clock(seconds: float | None) -> str:
    """Return a duration as hours, minutes and seconds.

    >>> clock(125), clock(100_000), clock(None)
    ('0:02:05', '27:46:40', '-:--:--')
    """
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def is_live(console: Console) -> bool:
    """Return whether a line of the console can be drawn again."""
    return console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal)


class Screen:
    """Print lines, above a live line where there can be one. Use as a context.

    Arguments:
        current: returns the live line; it is asked some times a second.
        enabled: False prints nothing.
    """

    def __init__(self, console: Console, current: Callable[[], LiveLine], *, enabled: bool) -> None:
        self.console, self.enabled, self._current = console, enabled, current
        self._shown: Any = None  # a context

    def __enter__(self) -> Screen:
        if self.enabled and is_live(self.console):
            self._shown = (
                _NotebookCell(self.console, self._current)
                if self.console.is_jupyter
                else _terminal_line(self.console, self._current)
            )
            self._shown.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._shown is not None:
            self._shown.__exit__(*error)
            self._shown = None

    def print(self, line: str | Text) -> None:
        """Print a line that stays; a terminal shows its text and obeys none of it."""
        if not self.enabled:
            return
        text = Text(lines(line)) if isinstance(line, str) else line
        if isinstance(self._shown, _NotebookCell):
            self._shown.print(text.plain)
        else:
            self.console.print(text, soft_wrap=True, highlight=False)


@contextmanager
def _terminal_line(console: Console, current: Callable[[], LiveLine]) -> Iterator[None]:
    # transient: the last state would stay behind, of an epoch or attack that goes on no more
    with Live(get_renderable=current, console=console, transient=True, refresh_per_second=4):
        yield


class _NotebookCell:
    """Show all lines and the live one as one output, which is replaced in place.

    By IPython's own display: rich needs ipywidgets in the notebook for that.
    """

    def __init__(self, console: Console, current: Callable[[], LiveLine]) -> None:
        self._width, self._current = min(console.width, 100), current
        self._lines: list[str] = []
        self._handle: Any = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)

    def __enter__(self) -> None:
        from IPython.display import display  # there, since a notebook runs this

        self._handle = display(self._content(True), raw=True, display_id=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._handle.update(self._content(False), raw=True)

    def print(self, text: str) -> None:
        self._lines.append(text)

    def _refresh(self) -> None:
        while not self._stopped.wait(NOTEBOOK_SECONDS):
            self._handle.update(self._content(True), raw=True)

    def _content(self, live: bool) -> dict[str, str]:
        shown = [*self._lines, *([self._current().text(self._width).plain] if live else [])]
        text = "\n".join(shown)
        return {"text/plain": text, "text/html": f'<pre style="{FONT}">{html.escape(text)}</pre>'}
