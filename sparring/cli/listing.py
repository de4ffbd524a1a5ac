"""The verbs that look something up: list, show, runs and cite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..runtime.output import write_line
from . import completion
from .console import console
from .options import Device, Set, Trust


def list_(
    what: Annotated[
        str | None,
        typer.Argument(
            help="Kind to list, such as attacks (default: all kinds).",
            autocompletion=completion.kinds,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Only recipes on this data set.", autocompletion=completion.data),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Only recipes of this method, such as TRADES.", autocompletion=completion.methods
        ),
    ] = None,
) -> None:
    """List recipes, data sets, networks, attacks, methods, suites and all other pieces.

    The kinds are recipes, models, data, attacks, threats, methods, risks, weights, augment, mix,
    suites and metrics. Where the output goes to a file or a pipe, each name has one line.
    """
    from ..commands import list

    write_line(list.listing(what, data=data, method=method, width=_width()))


def show(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A shipped recipe, a .toml file or a run folder.",
            autocompletion=completion.recipes_and_runs,
        ),
    ],
    set: Set = [],
    time: Annotated[
        bool, typer.Option(help="Time a few training steps, to tell how long all take.")
    ] = True,
    trust: Trust = False,
    device: Device = None,
) -> None:
    """Show what a recipe would do: formula, pieces, data, network, evaluation, minutes.

    Nothing is downloaded or written.
    """
    from ..commands import show

    summary = show.show(recipe, set=set, trust=trust, device=device, timed=time)
    write_line(summary.text(_width() or show.WIDTH))


def runs(
    folder: Annotated[
        Path, typer.Argument(help="Folder that holds run folders, directly or in subfolders.")
    ] = Path("runs"),
) -> None:
    """List the runs in a folder: state, recipe, epochs, best validation, results."""
    from ..commands import runs
    from ..results.rows import WIDTH

    write_line(runs.runs(folder).text(_width() or 2 * WIDTH))


def cite(
    name: Annotated[
        str,
        typer.Argument(
            help="Recipe, run folder, data set, or piece (TRADES).",
            autocompletion=completion.recipes,
        ),
    ],
) -> None:
    """Print the BibTeX of the papers behind a recipe or a piece."""
    from ..commands import cite

    write_line(cite.cite(name))


def _width() -> int | None:
    """Return the letters of a line of the terminal; None where the output goes elsewhere."""
    shown = console()
    return shown.width if shown.is_terminal else None
