"""Screens of commands as pictures: each runs in a terminal of its own, under tmux."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

SERVER = ("tmux", "-L", "sparring-pictures")
THEME = TerminalTheme(
    (13, 17, 23),
    (230, 237, 243),
    [
        (110, 118, 129), (255, 123, 114), (63, 185, 80), (210, 153, 34),
        (88, 166, 255), (188, 140, 255), (57, 197, 207), (230, 237, 243),
    ],
)  # fmt: skip
# rich's own format loads a font from a host; this one takes what the reader has.
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" role="img"
 xmlns="http://www.w3.org/2000/svg"><title>{about}</title><style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas,
 "DejaVu Sans Mono", monospace; font-size: {char_height}px; line-height: {line_height}px }}
.{unique_id}-title {{ font-size: 0 }}
{styles}</style><defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
<rect fill="#0d1117" width="{width}" height="{height}" rx="8"/>
<g transform="translate(9, 9)">{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


def screen(
    command: str,
    *,
    folder: Path,
    columns: int = 80,
    rows: int = 60,
    after: float | None = None,
    environment: str = "",
) -> str:
    """Return what a terminal shows when a command has ended, with its colours as escapes.

    Arguments:
        after: seconds after which to look, while the command still runs; default: at its end.
        environment: assignments, such as `NO_COLOR=1`.
    """
    done = folder / ".done"
    done.unlink(missing_ok=True)
    inside = f"cd {shlex.quote(str(folder))}; {environment} {command}; touch {done}; sleep 600"
    name = "picture"
    subprocess.run([*SERVER, "kill-session", "-t", name], check=False, capture_output=True)
    size = ["-x", str(columns), "-y", str(rows)]
    subprocess.run([*SERVER, "new-session", "-d", "-s", name, *size, inside], check=True)
    deadline = time.monotonic() + (900 if after is None else after)
    while time.monotonic() < deadline and not done.exists():
        time.sleep(0.2)
    shown = subprocess.run(
        [*SERVER, "capture-pane", "-p", "-e", "-S", "-200", "-t", name],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    subprocess.run([*SERVER, "kill-session", "-t", name], check=False, capture_output=True)
    return re.sub(r"(\s*\n)+\Z", "\n", shown)


def shortened(text: str, *, first: int = 6, last: int = 12) -> str:
    """Return a long screen without its middle lines, which a line of dots stands for."""
    lines = text.rstrip("\n").split("\n")
    if len(lines) <= first + last + 1:
        return text
    return "\n".join([*lines[:first], "    \x1b[2m⋮\x1b[0m", *lines[-last:], ""])


def as_svg(text: str, *, columns: int = 80, about: str) -> str:
    """Return a screen as SVG text, which needs no font of its own and no network."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text.rstrip("\n")))
    layout = FORMAT.replace("{about}", about)
    return console.export_svg(title="", theme=THEME, code_format=layout, unique_id="terminal")
