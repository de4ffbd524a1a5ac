"""Make the README's pictures, and a gallery of all that people see, to look at.

    .venv/bin/python scripts/pictures readme          # docs/figures/hero.svg and terminal.svg
    .venv/bin/python scripts/pictures gallery FOLDER  # screens and pages as SVG and PNG

The gallery needs tmux and chromium on the path, and the site of scripts/docs for its pages.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import hero
import terminal

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "docs" / "figures"


def main(arguments: list[str]) -> None:
    """Make what the arguments name."""
    os.environ["PATH"] = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    match arguments:
        case ["readme"]:
            readme()
        case ["gallery", folder]:
            import gallery

            gallery.make(Path(folder).resolve(), ROOT)
        case _:
            sys.exit(__doc__)


def readme() -> None:
    """Draw the hero from results, and run the README's three commands for the other picture."""
    (FIGURES / "hero.svg").write_text(hero.draw(ROOT / "results" / "inside-mnist"), "utf-8")
    commands = ("train digits-mart", "evaluate runs/digits-mart", "report runs/digits-mart")
    with tempfile.TemporaryDirectory() as folder:
        shown = ""
        for command in commands:
            screen = terminal.screen(f"sparring {command}", folder=Path(folder))
            shown += f"\x1b[1m$ sparring {command}\x1b[0m\n{terminal.shortened(screen)}\n"
    about = "A terminal: sparring trains digits-mart, evaluates it and writes its report"
    (FIGURES / "terminal.svg").write_text(terminal.as_svg(shown, about=about), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
