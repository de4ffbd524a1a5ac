"""The verbs that look something up: list, show, runs and cite."""

from __future__ import annotations

from typing import Annotated

import typer

from ..runtime.output import write_line


def list_(
    what: Annotated[
        str | None, typer.Argument(help="Kind to list, such as attacks (default: all kinds).")
    ] = None,
) -> None:
    """List recipes, models, data, mix, attacks, threats, methods, risks, weights, suites,
    metrics."""
    from ..commands import list

    write_line(list.listing(what))


def cite(
    name: Annotated[str, typer.Argument(help="Recipe, run folder, data set, or piece (TRADES).")],
) -> None:
    """Print the BibTeX of the papers behind a recipe or a piece."""
    from ..commands import cite

    write_line(cite.cite(name))
