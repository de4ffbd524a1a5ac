"""All that people see, as pictures: screens at several widths, pages large, small and dark."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pages
import terminal

WIDTHS = (80, 100, 160)
PHONE, DESK = 420, 1400
SCREENS = {  # name: command, in a folder with two runs that have been evaluated
    "show": "sparring show digits-mart",
    "dry-run": "sparring train digits-trades --dry-run",
    "runs": "sparring runs",
    "compare": "sparring compare runs/digits-mart runs/digits-standard",
    "hint": "sparring train digits-mrt",
    "list": "sparring list recipes --data mnist --method TRADES",
    "evaluate-piped": "sparring evaluate runs/digits-mart --out again.json | cat",
    "evaluate-details": "sparring evaluate runs/digits-mart --details --out details.json",
    "report": "sparring report runs/digits-mart",
    "report-several": "sparring report runs/digits-mart runs/digits-standard",
}
LIVE = {  # name: command, and the seconds after which to look
    "train-live": ("sparring train digits-pgd-at", 14.0),
    "evaluate-live": ("sparring evaluate runs/digits-mart --suite autoattack", 14.0),
}
SITE_PAGES = ("index", "tutorial/first-ten-minutes", "results/index", "reference/commands")


def make(out: Path, root: Path) -> None:
    """Write the gallery into a folder, and runs beside it that later galleries use again."""
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    for recipe in ("digits-mart", "digits-standard"):
        if not (work / "runs" / recipe / "results").is_dir():
            shown = terminal.screen(f"sparring train {recipe}", folder=work)
            _write(out / f"train-{recipe}-80.svg", shown)
            shown = terminal.screen(f"sparring evaluate runs/{recipe}", folder=work)
            _write(out / f"evaluate-{recipe}-80.svg", shown)
    for width in WIDTHS:
        for name, command in SCREENS.items():
            shown = terminal.screen(command, folder=work, columns=width)
            _write(out / f"{name}-{width}.svg", shown, width)
        for name, (command, seconds) in LIVE.items():
            shown = terminal.screen(command, folder=work, columns=width, after=seconds)
            _write(out / f"{name}-{width}.svg", shown, width)
    _photograph_all(out, "report", (work / "runs" / "digits-mart" / "report.html").as_uri())
    _photograph_all(out, "comparison", (work / "report.html").as_uri())
    with _served(root / "site") as address:
        for name in SITE_PAGES:
            _photograph_all(out, name.replace("/", "-"), f"{address}/{name}.html")
        _photograph_all(out, "search-mart", f"{address}/index.html?q=MART")


def _write(file: Path, shown: str, columns: int = 80) -> None:
    file.write_text(terminal.as_svg(shown, columns=columns, about=file.stem), encoding="utf-8")


def _photograph_all(out: Path, name: str, page: str) -> None:
    for width in (DESK, PHONE):
        pages.photograph(page, out / f"{name}-{width}.png", width=width)
    pages.photograph(page, out / f"{name}-{DESK}-dark.png", width=DESK, dark=True)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine alone: browsers read no search index from a file."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
